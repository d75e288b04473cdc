"""Real models, and a daemon that serves them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import joblib
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from tests.local.daemons import Up, up
from tests.local.fakes import World
from tests.local.manifests import FLOWERS, KINDS

#: What tests apply; services go before what they need.
KINDS_OF_OBJECTS = (
    "InferenceGraph",
    "InferenceService",
    "TrainedModel",
    "ServingRuntime",
    "ServiceAccount",
    "Secret",
)


@dataclass
class Daemons:
    """See the fixture."""

    folder: Path
    stack: ExitStack
    last: Up | None = None
    count: int = 0

    def running(self) -> Up:
        if self.last is None or self.last.process.poll() is not None:
            self.count += 1
            home = self.folder / f"home-{self.count}"
            self.last = self.stack.enter_context(up(home, "--trust"))
        return self.last


def forget_everything(daemon: Up) -> None:
    for kind in KINDS_OF_OBJECTS:
        for value in daemon.client.objects(kind):
            metadata = value["metadata"]
            daemon.client.delete(kind, metadata.get("namespace", ""), metadata["name"])


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scikit-learn models that differ, and an ONNX model that doubles."""
    folder = tmp_path_factory.mktemp("models")
    for name, kinds in (("irises", KINDS), ("opposites", 2 - KINDS)):
        (folder / name).mkdir()
        model = LogisticRegression(max_iter=500).fit(FLOWERS, kinds)
        joblib.dump(model, folder / name / "model.joblib")
    (folder / "double").mkdir()
    shape = ["n", 2]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=9),
        str(folder / "double/model.onnx"),
    )
    return folder


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """The daemon that the tests of a module share, and another one whenever a test has ended it."""
    with ExitStack() as stack:
        yield Daemons(tmp_path_factory.mktemp("daemon"), stack)


@pytest.fixture
def daemon(daemons: Daemons) -> Iterator[Up]:
    """A daemon to which nothing was applied."""
    running = daemons.running()
    yield running
    if running.process.poll() is None:
        forget_everything(running)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A supervisor whose processes and time are the test's."""
    made = World(tmp_path)
    yield made
    for log in made.logs.values():
        log.close()


@pytest.fixture
def free_ports() -> tuple[int, int]:
    """Two ports that were free a moment ago."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
