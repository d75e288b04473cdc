# SPDX-License-Identifier: Apache-2.0
"""The rate limiter over the real server: who runs beside whom, who goes first, what cannot be."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.server.streaming import eventually

from nerite.server.server import Server
from nerite.testing import serve

#: Notes what it executes, and waits where the gate of its model is closed.
MODEL = """import nerite_test_limit as gate
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.name = args["model_name"]

    def execute(self, requests):
        gate.seen.append(self.name)
        assert gate.of(self.name).wait(15)
        x = pb_utils.get_input_tensor_by_name(requests[0], "X")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", x.as_numpy())])]
"""


def needs(*resources: tuple[str, int], priority: int = 0, count: int = 1, more: str = "") -> str:
    listed = " ".join(f'resources {{ name: "{n}" count: {c} {more} }}' for n, c in resources)
    return f"""backend: "python"
    input {{ name: "X" data_type: TYPE_FP32 dims: [ 1 ] }}
    output {{ name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }}
    instance_group {{ kind: KIND_CPU count: {count}
      rate_limiter {{ priority: {priority} {listed} }} }}"""


MODELS = {
    "one": needs(("R", 1)),
    "both": needs(("R", 2)),
    "free": needs(),
    "shares": needs(("S", 2), count=2),
    "first": needs(("P", 1)),
    "often": needs(("P", 1), priority=1),
    "seldom": needs(("P", 1), priority=2),
}
REFUSED = {
    "too_much": (
        needs(("R", 3)),
        'Resource count for "R" is limited to 2 which will prevent scheduling of one or more '
        "model instances, the minimum required count is 3",
    ),
    "unlike": (
        needs(("S", 1), more="global: true"),
        'Resource "S" is present as both global and device-specific resource in the model '
        "configuration.",
    ),
}


def write(root: Path) -> None:
    for name, config in {**MODELS, **{name: text for name, (text, _) in REFUSED.items()}}.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(config)
        (root / name / "1/model.py").write_text(MODEL)


class Gate(types.ModuleType):
    def __init__(self) -> None:
        super().__init__("nerite_test_limit")
        self.seen: list[str] = []
        self.closed: dict[str, threading.Event] = {}

    def of(self, model: str) -> threading.Event:
        opened = threading.Event()
        opened.set()
        return self.closed.get(model, opened)

    def close(self, model: str) -> threading.Event:
        return self.closed.setdefault(model, threading.Event())


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    module = Gate()
    monkeypatch.setitem(sys.modules, "nerite_test_limit", module)
    yield module
    for event in module.closed.values():
        event.set()


@pytest.fixture
def server(tmp_path: Path, gate: Gate) -> Iterator[Server]:
    write(tmp_path)
    options = {"rate_limit": "execution_count", "rate_limit_resources": {"R": 2}}
    # One after the other by name, so that it is `unlike` that comes after `shares`.
    with serve(tmp_path, wait=None, load_threads=1, **options) as running:
        assert running.wait_loaded(30)
        yield running
        for event in gate.closed.values():
            event.set()


def infer(server: Server, model: str, over_http: bool = True) -> Any:
    module = tritonclient.http if over_http else tritonclient.grpc
    url = server.http_url.removeprefix("http://") if over_http else server.grpc_url
    tensor = module.InferInput("X", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    with module.InferenceServerClient(url) as client:
        return client.infer(model, [tensor])


def waiting(server: Server, model: str, count: int) -> bool:
    with urlopen(server.metrics_url) as page:
        text = page.read().decode()
    return f'nv_inference_pending_request_count{{model="{model}",version="1"}} {count}' in text


@pytest.mark.parametrize("over_http", [True, False])
def test_what_is_held_is_missing_to_other_models(
    server: Server, gate: Gate, over_http: bool
) -> None:
    gate.close("one")
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(infer, server, "one", over_http)
        eventually(lambda: gate.seen == ["one"])
        large = clients.submit(infer, server, "both", over_http)
        eventually(lambda: waiting(server, "both", 1))
        # There is one of R left, which is not enough; who needs nothing runs.
        assert infer(server, "free", over_http)
        assert gate.seen == ["one", "free"]
        assert waiting(server, "both", 1)
        gate.closed["one"].set()
        assert all(future.result(timeout=10) for future in (first, large))
    assert gate.seen == ["one", "free", "both"]


def test_of_what_is_not_said_there_is_what_one_instance_needs(server: Server, gate: Gate) -> None:
    gate.close("shares")
    with ThreadPoolExecutor(2) as clients:
        futures = [clients.submit(infer, server, "shares") for _ in range(2)]
        eventually(lambda: gate.seen == ["shares"] and waiting(server, "shares", 1))
        # The other instance is idle, and lacks the resource.
        assert infer(server, "free")
        assert gate.seen == ["shares", "free"]
        gate.closed["shares"].set()
        assert all(future.result(timeout=10) for future in futures)


def test_priority_two_gets_half_the_turns(server: Server, gate: Gate) -> None:
    gate.close("first")
    with ThreadPoolExecutor(25) as clients:
        futures = [clients.submit(infer, server, "first")]
        eventually(lambda: gate.seen == ["first"])
        for model in ("often", "seldom"):
            futures += [clients.submit(infer, server, model) for _ in range(12)]
            eventually(lambda model=model: waiting(server, model, 12))
        gate.closed["first"].set()
        assert all(future.result(timeout=20) for future in futures)
    # Eight, or one more or less as the one or the other began.
    assert 7 <= gate.seen[1:13].count("often") <= 9


def test_an_instance_that_waits_for_its_turn_ends_with_the_server(
    server: Server, gate: Gate
) -> None:
    gate.close("both")
    with ThreadPoolExecutor(2) as clients:
        clients.submit(infer, server, "both")
        eventually(lambda: gate.seen == ["both"])
        waits = clients.submit(infer, server, "one")
        eventually(lambda: waiting(server, "one", 1))
        assert not server.stop(0.1)
        assert waits.exception(timeout=10)
        eventually(lambda: "nerite-one_0_0" not in [t.name for t in threading.enumerate()])
        assert "nerite-both_0_0" in [t.name for t in threading.enumerate()]
        gate.closed["both"].set()


@pytest.mark.parametrize("model", REFUSED)
def test_what_could_never_run_is_refused_in_tritons_words(server: Server, model: str) -> None:
    url = server.http_url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(url) as client:
        index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert {index[name]["state"] for name in MODELS} == {"READY"}
    assert index[model]["state"] == "UNAVAILABLE"
    assert index[model]["reason"] == f"Invalid argument: {REFUSED[model][1]}"


def test_without_the_limiter_nobody_waits(tmp_path: Path, gate: Gate) -> None:
    write(tmp_path)
    with serve(tmp_path, wait=None) as server:
        assert server.wait_loaded(30)
        gate.close("both")
        with ThreadPoolExecutor(1) as clients:
            held = clients.submit(infer, server, "both")
            eventually(lambda: gate.seen == ["both"])
            assert infer(server, "one")
            assert infer(server, "too_much")
            gate.closed["both"].set()
            assert held.result(timeout=10)
