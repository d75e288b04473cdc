# SPDX-License-Identifier: Apache-2.0
"""Priority levels over both protocols: who goes first behind a busy instance, who is refused."""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.server.streaming import eventually
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "python" max_batch_size: 1
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
dynamic_batching { POLICY }
"""
#: Notes what it executes; whatever comes first waits for the gate.
MODEL = """import nerite_test_gate as gate
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            gate.seen.append(int(x[0, 0]))
            gate.entered.set()
            assert gate.open.wait(15)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
        return answers
"""
MODELS = {
    "levels": "priority_levels: 3 default_priority_level: 2",
    "policies": """priority_levels: 3 default_priority_level: 2
      default_queue_policy { max_queue_size: 2 }
      priority_queue_policy { key: 1 value { max_queue_size: 1 } }
      priority_queue_policy { key: 3 value {
        default_timeout_microseconds: 50000 allow_timeout_override: true } }""",
    "later": """priority_levels: 2 default_priority_level: 1
      priority_queue_policy { key: 1 value {
        timeout_action: DELAY default_timeout_microseconds: 1000 } }""",
}
REFUSED = {
    "no_default": (
        "priority_levels: 2",
        "default priority level must be in range [1, 2] for no_default",
    ),
    "other_level": (
        """priority_levels: 2 default_priority_level: 1
        priority_queue_policy { key: 3 value { max_queue_size: 1 } }""",
        "priority queue policy must have priority level in range [1, 2] for other_level",
    ),
    "in_order": (
        "priority_levels: 2 default_priority_level: 1 preserve_ordering: true",
        "Only one priority level is allowed when 'preserve_ordering' is true for in_order",
    ),
    "delayed_in_order": (
        """preserve_ordering: true default_queue_policy {
        timeout_action: DELAY default_timeout_microseconds: 10 }""",
        "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for "
        "delayed_in_order",
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("priorities")
    texts = {**MODELS, **{name: text for name, (text, _) in REFUSED.items()}}
    for name, policy in texts.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(CONFIG.replace("POLICY", policy))
        (root / name / "1/model.py").write_text(MODEL)
    sys.modules["nerite_test_gate"] = types.ModuleType("nerite_test_gate")
    with serve(root, wait=None) as running:
        assert running.wait_loaded(30)
        yield running
    del sys.modules["nerite_test_gate"]


@pytest.fixture
def gate(server: Server) -> Iterator[Any]:
    module: Any = sys.modules["nerite_test_gate"]
    module.open, module.entered, module.seen = threading.Event(), threading.Event(), []
    yield module
    module.open.set()


Ask = Callable[..., Any]


def over_http(server: Server, model: str, number: int, priority: int, timeout: int = 0) -> Any:
    url = server.http_url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(url) as client:
        inputs = [tensor(tritonclient.http, number)]
        return client.infer(model, inputs, priority=priority, timeout=timeout or None)


def over_grpc(server: Server, model: str, number: int, priority: int, timeout: int = 0) -> Any:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        inputs = [tensor(tritonclient.grpc, number)]
        return client.infer(model, inputs, priority=priority, timeout=timeout or None)


def as_int64(server: Server, model: str, number: int, priority: int, timeout: int = 0) -> Any:
    """The other type that gRPC allows; tritonclient sends uint64."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="X", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(
        number
    )
    request.parameters["priority"].int64_param = priority
    with grpc.insecure_channel(server.grpc_url) as channel:
        return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)


def generated(server: Server, model: str, number: int, priority: int, timeout: int = 0) -> Any:
    body = json.dumps({"X": number, "parameters": {"priority": priority}}).encode()
    with urlopen(Request(f"{server.http_url}/v2/models/{model}/generate", body)) as answer:
        return json.load(answer)


def tensor(module: Any, number: int) -> Any:
    made = module.InferInput("X", [1, 1], "FP32")
    made.set_data_from_numpy(np.full((1, 1), number, np.float32))
    return made


def waiting(server: Server, model: str, count: int) -> bool:
    with urlopen(server.metrics_url) as page:
        text = page.read().decode()
    return f'nv_inference_pending_request_count{{model="{model}",version="1"}} {count}' in text


def behind_a_busy_instance(
    server: Server, gate: Any, model: str, asked: list[tuple[Ask, int, int]]
) -> list[Future[Any]]:
    """Asks one after the other while the instance is busy with number 0, then lets it go on."""
    with ThreadPoolExecutor(len(asked) + 1) as clients:
        futures = [clients.submit(over_http, server, model, 0, 0)]
        assert gate.entered.wait(10)
        for count, (ask, number, priority) in enumerate(asked, 1):
            futures.append(clients.submit(ask, server, model, number, priority))
            eventually(lambda count=count: waiting(server, model, count))
        gate.open.set()
    return futures


@pytest.mark.parametrize("ask", [over_http, over_grpc, as_int64, generated])
def test_upper_levels_are_executed_first(server: Server, gate: Any, ask: Ask) -> None:
    # Number = the place in which it must be executed.
    asked = [(5, 3), (3, 2), (4, 0), (1, 1), (6, 3), (2, 1)]
    futures = behind_a_busy_instance(
        server, gate, "levels", [(ask, n, level) for n, level in asked]
    )
    assert all(future.result() for future in futures)
    assert gate.seen == [0, 1, 2, 3, 4, 5, 6]


def test_a_level_that_there_is_not_is_the_default_one(server: Server, gate: Any) -> None:
    asked = [(over_grpc, 4, 3), (over_http, 2, 9), (over_grpc, 3, 2**40), (over_http, 1, 1)]
    behind_a_busy_instance(server, gate, "levels", asked)
    assert gate.seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ask", [over_http, over_grpc])
def test_each_level_has_its_own_places_and_timeout(server: Server, gate: Any, ask: Ask) -> None:
    with ThreadPoolExecutor(5) as clients:
        first = clients.submit(ask, server, "policies", 0, 0)
        assert gate.entered.wait(10)
        one = clients.submit(ask, server, "policies", 1, 1)
        eventually(lambda: waiting(server, "policies", 1))
        with pytest.raises(InferenceServerException, match="Exceeds maximum queue size"):
            ask(server, "policies", 2, 1)
        two = [clients.submit(ask, server, "policies", n, 2) for n in (3, 4)]
        eventually(lambda: waiting(server, "policies", 3))
        with pytest.raises(InferenceServerException, match="Exceeds maximum queue size"):
            ask(server, "policies", 5, 0)
        with pytest.raises(InferenceServerException, match="Request timeout expired"):
            ask(server, "policies", 6, 3, timeout=10_000)
        with pytest.raises(InferenceServerException, match="Request timeout expired"):
            ask(server, "policies", 7, 3)
        gate.open.set()
        assert all(future.result() for future in (first, one, *two))
    assert gate.seen[:2] == [0, 1]
    assert sorted(gate.seen[2:]) == [3, 4]


def test_a_delayed_request_is_executed_before_the_level_below(server: Server, gate: Any) -> None:
    with ThreadPoolExecutor(4) as clients:
        futures = [clients.submit(over_http, server, "later", 0, 1)]
        assert gate.entered.wait(10)
        for count, (number, level) in enumerate([(2, 2), (1, 1)], 1):
            futures.append(clients.submit(over_http, server, "later", number, level))
            eventually(lambda count=count: waiting(server, "later", count))
        gate.open.set()
        assert all(future.result() for future in futures)
    assert gate.seen == [0, 1, 2]


@pytest.mark.parametrize("model", REFUSED)
def test_what_cannot_be_is_refused_in_tritons_words(server: Server, model: str) -> None:
    url = server.http_url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(url) as client:
        entry = next(e for e in client.get_model_repository_index() if e["name"] == model)
    assert entry["state"] == "UNAVAILABLE"
    assert REFUSED[model][1] in entry["reason"]


@pytest.mark.parametrize("model", MODELS)
def test_the_configuration_is_told_with_its_levels(server: Server, model: str) -> None:
    url = server.http_url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(url) as client:
        told = client.get_model_config(model)["dynamic_batching"]
    assert told["priority_levels"] == (2 if model == "later" else 3)
