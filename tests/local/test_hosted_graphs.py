"""Graphs in the shared process of their steps: when, where, and that answers are the same."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml
from tests.local.fakes import lodger
from tests.local.manifests import adding, isvc
from tests.local.test_gateway import graph, node

from nerite.errors import InvalidArgument, Unavailable
from nerite.kserve.documents import Document, Object, read_documents
from nerite.kserve.resources import Resource
from nerite.local.copy_view import CopyView
from nerite.local.daemon import Daemon
from nerite.local.front import Front
from nerite.local.hosted_graphs import HostedGraphs, Place, common_copy
from nerite.local.settings import Settings

pytestmark = pytest.mark.timeout(120)
KEY = ("default", "sums")
GRAPH = graph(
    "sums",
    {
        "root": node(
            "Ensemble",
            {"name": "chained", "nodeName": "chain"},
            {"name": "one", "nodeName": "pick"},
        ),
        "chain": node(
            "Sequence", {"serviceName": "one"}, {"serviceName": "ten", "data": "$response"}
        ),
        "pick": node(
            "Switch",
            {"serviceName": "half", "condition": "parameters.half"},
            {"nodeName": "split", "condition": 'inputs.#(name=="x")'},
        ),
        "split": node(
            "Splitter",
            {"serviceName": "hundred", "weight": 100},
            {"serviceName": "half", "weight": 0},
        ),
    },
)
#: Service -> what it adds, and the tensors it takes and gives.
ADDERS = {
    "one": (1, "x", "y"),
    "ten": (10, "y", "z"),
    "hundred": (100, "x", "y"),
    "half": (0.5, "x", "y"),
}


@contextmanager
def daemon_of(folder: Path, values: list[Object], shared: bool) -> Iterator[tuple[Daemon, Front]]:
    front = Front(0, 0)
    daemon = Daemon(Settings(folder, shared=shared), dict(os.environ), gateway=front)
    daemon.start()
    try:
        documents = read_documents(yaml.safe_dump_all(values), "all.yaml")
        daemon.apply(documents, {"all.yaml": str(folder / "all.yaml")})
        yield daemon, front
    finally:
        daemon.stop()


def wait(daemon: Daemon, holds: Callable[[], bool]) -> None:
    """Returns when something holds; a test that waits for ever is ended."""
    for _ in daemon.changes():
        if holds():
            return


def is_ready(daemon: Daemon) -> bool:
    (value,) = daemon.objects("InferenceGraph", *KEY)
    return "url" in value["status"]


def where(daemon: Daemon) -> str:
    return str(daemon.details(*KEY, "InferenceGraph")["runs"])


def ask(front: Front, **parameters: bool) -> Any:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}
    body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    with urlopen(Request(front.url(*KEY), body), timeout=30) as answer:
        return json.load(answer)


def services(folder: Path) -> list[Object]:
    for name, (amount, given, made) in ADDERS.items():
        adding(amount, folder / name / "model.onnx", given, made)
    return [isvc(name, "onnx", folder / name) for name in ADDERS]


def test_four_nodes_over_four_shared_services_answer_as_they_do_apart(tmp_path: Path) -> None:
    values = [*services(tmp_path), GRAPH]
    with daemon_of(tmp_path / "apart", values, shared=False) as (daemon, front):
        wait(daemon, lambda: is_ready(daemon))
        assert where(daemon) == "in the gateway"
        expected = [ask(front), ask(front, half=True)]
        assert front.gateway.counters()["component_connections"] == len(ADDERS)
    found = [[each[step]["outputs"][0]["data"] for step in ("chained", "one")] for each in expected]
    assert found == [[[12, 13], [101, 102]], [[12, 13], [1.5, 2.5]]]

    with daemon_of(tmp_path / "together", values, shared=True) as (daemon, front):
        wait(daemon, lambda: where(daemon).startswith("in shared-1 (process "))
        assert [ask(front), ask(front, half=True)] == expected
        # The one to the process that runs the graph: no component opened one to another.
        assert front.gateway.counters()["component_connections"] == 1

        # A process that comes back knows no graphs before it is told again.
        (pid,) = daemon.details("default", "one")["components"][0]["pids"]
        os.kill(pid, signal.SIGKILL)
        wait(daemon, lambda: where(daemon) == "in the gateway")
        wait(daemon, lambda: where(daemon).startswith("in shared-1"))
        assert str(pid) not in where(daemon)
        assert [ask(front), ask(front, half=True)] == expected

        # A change of the graph is one of the process too.
        other = json.loads(json.dumps(GRAPH))
        other["spec"]["nodes"]["split"]["steps"][0]["serviceName"] = "half"
        daemon.apply(read_documents(yaml.safe_dump(other), "all.yaml"), {})
        wait(daemon, lambda: where(daemon).startswith("in shared-1"))
        assert ask(front)["one"]["outputs"][0]["data"] == [1.5, 2.5]

        # One of its services leaves the process: the gateway runs it again.
        alone = isvc("half", "onnx", tmp_path / "half")
        alone["metadata"]["annotations"] = {"nerite.dev/shared": "false"}
        daemon.apply(read_documents(yaml.safe_dump(alone), "all.yaml"), {})
        wait(daemon, lambda: where(daemon) == "in the gateway")
        assert ask(front)["one"]["outputs"][0]["data"] == [1.5, 2.5]


class Told:
    """Processes that note what they are told, when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.waiting: list[Callable[[], None]] = []
        self.refuses = False
        self.graphs = HostedGraphs(self, self.waiting.append, lambda note: note())  # type: ignore[arg-type]

    def put_graph(self, address: str, *words: str) -> None:
        self.calls.append(("put", address, *words))
        if self.refuses:
            raise InvalidArgument("no such condition")

    def delete_graph(self, address: str, *words: str) -> None:
        self.calls.append(("delete", address, *words))
        raise Unavailable("it is gone")

    def want(self, *places: Place) -> None:
        self.graphs.want(dict.fromkeys([KEY], places[0]) if places else {})
        self.graphs.work()

    def finish(self) -> None:
        waiting, self.waiting[:] = list(self.waiting), []
        for work in waiting:
            work()
        self.graphs.work()


FIRST = Place("127.0.0.1:1", (10,), "shared-1", "{}")
AGAIN = Place("127.0.0.1:1", (11,), "shared-1", "{}")
MOVED = Place("127.0.0.1:2", (12,), "shared-2", "{}")


def test_a_graph_counts_as_there_once_the_process_has_said_so() -> None:
    told = Told()
    told.want(FIRST)
    assert told.graphs.place(KEY) is None
    told.finish()
    assert told.graphs.place(KEY) == FIRST
    told.want(FIRST)
    assert told.waiting == []
    told.want(AGAIN)
    assert told.graphs.place(KEY) is None
    told.finish()
    assert told.graphs.place(KEY) == AGAIN
    told.want(MOVED)
    told.finish()
    told.want()
    assert told.graphs.place(KEY) is None
    told.finish()
    assert [call[:2] for call in told.calls] == [
        ("put", "127.0.0.1:1"),
        ("put", "127.0.0.1:1"),
        ("put", "127.0.0.1:2"),
        ("delete", "127.0.0.1:1"),
        ("delete", "127.0.0.1:2"),
    ]


def test_what_changes_while_a_process_is_told_is_told_afterwards() -> None:
    told = Told()
    told.want(FIRST)
    told.want(MOVED)
    assert len(told.waiting) == 1
    told.finish()
    assert told.graphs.place(KEY) is None
    told.finish()
    assert told.graphs.place(KEY) == MOVED
    assert [call[:2] for call in told.calls][1:] == [
        ("put", "127.0.0.1:2"),
        ("delete", "127.0.0.1:1"),
    ]


def test_one_that_a_process_refuses_stays_with_the_gateway() -> None:
    told = Told()
    told.refuses = True
    told.want(FIRST)
    told.finish()
    assert told.graphs.place(KEY) is None
    told.want(FIRST)
    assert told.waiting == []
    told.refuses = False
    told.want(AGAIN)
    told.finish()
    assert told.graphs.place(KEY) == AGAIN


@pytest.mark.parametrize(
    ("change", "is_common"),
    [
        ({}, True),
        ({"half": ("_shared/shared-2", (10,))}, False),
        ({"half": ("_shared/shared-1", (11,))}, False),
        ({"half": ("_shared/shared-1", ())}, False),
        ({"half": None}, False),
    ],
)
def test_all_steps_must_live_in_one_process(
    tmp_path: Path, change: dict[str, Any], is_common: bool
) -> None:
    places = dict.fromkeys(ADDERS, ("_shared/shared-1", (10,))) | change

    def copy_of(key: tuple[str, str]) -> CopyView | None:
        place = places[key[1]]
        if place is None:
            return None
        component = lodger(tmp_path, key[1])
        return CopyView(
            1, component, True, False, False, 8000, None, place[1], 0, False, "", None, "", place[0]
        )

    value = {**GRAPH, "metadata": {"name": "sums", "namespace": "default"}}
    resource = Resource("InferenceGraph", value, Document(value, "all.yaml"))
    assert (common_copy(resource, copy_of) is not None) == is_common
    elsewhere = json.loads(json.dumps(value))
    step = {"serviceUrl": "http://half.default.svc.cluster.local/v2/models/half/infer"}
    elsewhere["spec"]["nodes"]["split"]["steps"][1] = {**step, "weight": 0}
    other = Resource("InferenceGraph", elsewhere, Document(elsewhere, "all.yaml"))
    assert common_copy(other, copy_of) is None
