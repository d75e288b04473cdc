# SPDX-License-Identifier: Apache-2.0
"""Requests that no model runs are counted, whichever door they came through and whatever is wrong.

Triton counts full queues and invalid requests nowhere.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from tests.model_folders import write_model
from tests.server.streaming import eventually, page
from tritonclient.grpc import service_pb2

from nerite.server.access_options import AccessOptions
from nerite.server.door_options import DoorOptions
from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "python" max_batch_size: 1
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
dynamic_batching { default_queue_policy { max_queue_size: 1 } }
"""
MODEL = """
import nerite_test_door as gate
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        gate.entered.release()
        gate.leave.acquire()
        x = pb_utils.get_input_tensor_by_name(requests[0], "X").as_numpy()
        answer = pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)])
        if not gate.decoupled:
            return [answer]
        requests[0].get_response_sender().send(
            answer, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        )
"""
DOORS = DoorOptions(
    sagemaker=True,
    sagemaker_port=0,
    sagemaker_model="once",
    vertex_ai=True,
    vertex_ai_port=0,
    vertex_ai_model="once",
    vertex_ai_predict_route="/predict",
    vertex_ai_health_route="/health",
)
SERVICE = "/inference.GRPCInferenceService"
#: The header that the server forwards and must not.
RESERVED = "priority"
#: What a request may be: right, of a wrong shape, of wrong data, or with that header.
Kind = str


def tensor(kind: Kind) -> dict[str, Any]:
    data = {"shape": [[1.0, 2.0]], "data": ["text"]}.get(kind, [1.0])
    shape = [1, 2] if kind == "shape" else [1, 1]
    return {"name": "X", "datatype": "FP32", "shape": shape, "data": data}


def over_http(door: str, path: str) -> Callable[[Server, Kind], bool]:
    def send(server: Server, kind: Kind) -> bool:
        value = tensor(kind)["data"]
        document: Any = {"inputs": [tensor(kind)]}
        if path.endswith(":predict"):
            document = {"instances": value if kind == "shape" else [value]}
        elif "generate" in path:
            document = {"X": value[0] if kind == "shape" else value}
        connection = http.client.HTTPConnection(*server.ports[door], timeout=20)
        headers = {RESERVED: "1"} if kind == "header" else {}
        connection.request("POST", path, json.dumps(document), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert (answer.status == 200) == (b'"error"' not in body), body
        return answer.status == 200

    return send


def message(model: str, kind: Kind) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    given = tensor(kind)
    sent = request.inputs.add(name="X", datatype="FP32", shape=given["shape"])
    if kind == "data":
        sent.contents.int_contents.append(1)
    else:
        sent.contents.fp32_contents.extend([1.0] * len(given["data"]))
    return request.SerializeToString()


def over_grpc(model: str, *, stream: bool) -> Callable[[Server, Kind], bool]:
    def send(server: Server, kind: Kind) -> bool:
        metadata = [(RESERVED, "1")] if kind == "header" else []
        with grpc.insecure_channel(server.grpc_url) as channel:
            if not stream:
                infer = channel.unary_unary(f"{SERVICE}/ModelInfer")
                try:
                    infer(message(model, kind), timeout=20, metadata=metadata)
                except grpc.RpcError:
                    return False
                return True
            infer = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
            answers = infer(iter([message(model, kind)]), timeout=20, metadata=metadata)
            (answer,) = [service_pb2.ModelStreamInferResponse.FromString(it) for it in answers]
            return not answer.error_message

    return send


DOORS_OF: dict[str, dict[str, Callable[[Server, Kind], bool]]] = {
    "once": {
        "infer": over_http("http", "/v2/models/once/infer"),
        "predict": over_http("http", "/v1/models/once:predict"),
        "generate": over_http("http", "/v2/models/once/generate"),
        "generate_stream": over_http("http", "/v2/models/once/generate_stream"),
        "graph": over_http("http", "/graphs/once"),
        "graph by V1": over_http("http", "/graphs/once/v1:predict"),
        "sagemaker": over_http("sagemaker", "/invocations"),
        "vertex_ai": over_http("vertex_ai", "/predict"),
        "grpc": over_grpc("once", stream=False),
        "grpc stream": over_grpc("once", stream=True),
    },
    "stream": {
        "generate": over_http("http", "/v2/models/stream/generate"),
        "generate_stream": over_http("http", "/v2/models/stream/generate_stream"),
        "grpc stream": over_grpc("stream", stream=True),
    },
}
TABLE = [(model, door) for model, doors in DOORS_OF.items() for door in doors]


@pytest.fixture(scope="module")
def gates() -> Iterator[dict[str, Any]]:
    """Where each model waits until a test lets it go on."""
    made = {}
    for name in DOORS_OF:
        module = types.ModuleType(f"nerite_test_door_{name}")
        module.entered, module.leave = threading.Semaphore(0), threading.Semaphore(0)  # type: ignore[attr-defined]
        module.decoupled = name == "stream"  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        made[name] = module
    yield made
    for module in made.values():
        module.leave.release(1000)
        del sys.modules[module.__name__]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, gates: dict[str, Any]) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("rejections")
    for name in DOORS_OF:
        code = MODEL.replace("nerite_test_door", f"nerite_test_door_{name}")
        config = CONFIG
        if name == "stream":
            config += "model_transaction_policy { decoupled: true }\n"
        write_model(root / name, {"config.pbtxt": config, "1/model.py": code})
    forward = AccessOptions(http_header_forward="priority", grpc_header_forward="priority")
    with serve(root, doors=DOORS, access=forward) as running:
        for namespace, name, path in (
            ("default", "once", "/v2/models/once/infer"),
            ("once", "v1:predict", "/v1/models/once:predict"),
        ):
            nodes = {"root": {"routerType": "Sequence", "steps": [{"serviceUrl": path}]}}
            graph = {"nodes": nodes, "propagateHeaders": ["Priority"]}
            running.engine.put_graph(namespace, name, json.dumps(graph))
        yield running
        for gate in gates.values():
            gate.leave.release(1000)


def counted(server: Server, model: str) -> dict[str, int]:
    """What the metrics say of a model, by reason; as `success` what went well."""
    labels = f'model="{model}",version="1"'
    text = page(server)
    failures = re.findall(rf'nv_inference_request_failure{{{labels},reason="(\w+)"}} (\d+)', text)
    found = {reason: int(count) for reason, count in failures}
    (success,) = re.findall(rf"nv_inference_request_success{{{labels}}} (\d+)", text)
    return found | {"success": int(success)}


def failed_in_statistics(server: Server, model: str) -> int:
    connection = http.client.HTTPConnection(*server.ports["http"], timeout=20)
    connection.request("GET", f"/v2/models/{model}/stats")
    (told,) = json.loads(connection.getresponse().read())["model_stats"]
    connection.close()
    return int(told["inference_stats"]["fail"]["count"])


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: n - before[name] for name, n in after.items() if n != before[name]}


@pytest.mark.parametrize("kind", ["shape", "data", "header"])
@pytest.mark.parametrize(("model", "door"), TABLE)
def test_a_request_that_is_wrong_is_counted(
    server: Server, model: str, door: str, kind: Kind
) -> None:
    before, failed = counted(server, model), failed_in_statistics(server, model)
    assert not DOORS_OF[model][door](server, kind)
    assert grown(before, counted(server, model)) == {"OTHER": 1}
    assert failed_in_statistics(server, model) == failed + 1


@pytest.mark.parametrize("path", ["/v2/models/stream/infer", "/v1/models/stream:predict", "grpc"])
def test_a_door_that_cannot_carry_the_answers_is_counted(server: Server, path: str) -> None:
    before = counted(server, "stream")
    asked = over_grpc("stream", stream=False) if path == "grpc" else over_http("http", path)
    assert not asked(server, "right")
    assert grown(before, counted(server, "stream")) == {"OTHER": 1}


@pytest.mark.parametrize("model", DOORS_OF)
def test_a_full_queue_is_counted(server: Server, gates: dict[str, Any], model: str) -> None:
    gate, doors = gates[model], DOORS_OF[model]
    before, failed = counted(server, model), failed_in_statistics(server, model)
    holders = [threading.Thread(target=doors["grpc stream"], args=(server, "right")) for _ in "12"]
    holders[0].start()
    assert gate.entered.acquire(timeout=20)
    holders[1].start()
    pending = f'nv_inference_pending_request_count{{model="{model}",version="1"}} 1'
    eventually(lambda: pending in page(server))
    for number, send in enumerate(doors.values(), 1):
        assert not send(server, "right")
        assert grown(before, counted(server, model)) == {"REJECTED": number}
    assert failed_in_statistics(server, model) == failed + len(doors)
    gate.leave.release(2)
    for holder in holders:
        holder.join(20)
    eventually(lambda: counted(server, model)["success"] == before["success"] + 2)
    assert gate.entered.acquire(timeout=20)


@pytest.mark.parametrize(("model", "door"), TABLE)
def test_a_request_that_is_right_is_no_failure(
    server: Server, gates: dict[str, Any], model: str, door: str
) -> None:
    before = counted(server, model)
    gates[model].leave.release()
    assert DOORS_OF[model][door](server, "right")
    assert gates[model].entered.acquire(timeout=20)
    eventually(lambda: grown(before, counted(server, model)) == {"success": 1})
