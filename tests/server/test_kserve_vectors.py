# SPDX-License-Identifier: Apache-2.0
"""KServe's recorded V2 exchanges, REST, binary and gRPC, played against Nerite.

What is compared is what a client acts on: status, id, and each output's name, type, shape and data.
The words of errors are Triton's here, and answers may say more. `BETTER` has what is answered
instead where the recording is marked as KServe's mistake, `OTHER` where V2 is Triton's; a case of
these that agrees with the recording fails.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from tests.server.test_v1_vectors import FOLDER, SLEEPING, write_iris
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import triton_to_np_dtype

from nerite.server.server import Server
from nerite.testing import serve

ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        found = [[pb_utils.Tensor(t.name(), t.as_numpy()) for t in r.inputs()] for r in requests]
        return [pb_utils.InferenceResponse(tensors) for tensors in found]
"""
RAISES = """
import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        word = json.loads(requests[0].parameters())["raise"]
        kinds = {"value": ValueError, "not_implemented": NotImplementedError}
        raise kinds.get(word, RuntimeError)(f"no: {word}")
"""
STRINGS = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        words = pb_utils.Tensor("output-0", np.array(["cat", "dog"], object))
        return [pb_utils.InferenceResponse([words]) for _ in requests]
"""
#: KServe's mistakes. id -> status or code, and words of the text.
BETTER: Final[Mapping[str, tuple[object, str]]] = {
    "v2/infer-number-id": (400, "Unable to parse 'id'"),
    "v2/infer-empty-inputs": (400, "expected 1 inputs but got 0"),
    "v2/infer-bad-json": (400, "failed to parse the request JSON"),
    "v2/infer-list": (400, "Unable to parse 'inputs'"),
    "v2/infer-no-shape": (400, "Unable to parse 'shape'"),
    "v2/infer-no-data": (400, "no field is set"),
    "v2/infer-shape-float": (400, "Unable to parse 'shape'"),
    "v2/infer-shape-negative": (400, "Unable to parse 'shape'"),
    "v2/infer-wrong-width": (400, "Expected [-1,4], got [1,3]"),
    # Infinity is answered as such, not as null.
    "v2/echo-fp32-overflow": (200, ""),
    "v2/echo-int-text": (400, "Unable to parse 'data'"),
    "v2/echo-null": (400, "Unable to parse 'data'"),
    "v2/type-none": (200, ""),
    "v2/gzip": (200, ""),
    # In the words of Triton's Python backend, which have the type too, and where it was raised.
    "v2/raises-value": (500, "Failed to process the request(s) for model 'raises-input-0_0'"),
    "binary/size-large": (400, "unexpected size for input 'x', expecting 32 additional bytes"),
    "binary/length-text": (400, ""),
    "grpc/ready": ("OK", "{}"),
    "grpc/infer-not-ready": ("NOT_FOUND", "sleeping"),
    "grpc/infer-shape": ("INVALID_ARGUMENT", "Expected 48, got 32"),
    "grpc/infer-outputs": ("INVALID_ARGUMENT", "unexpected inference output 'nothing'"),
    "grpc/raises-not_ready": ("INTERNAL", "no: not_ready"),
    "grpc/load": ("OK", ""),
}
#: V2 as Triton has it.
OTHER: Final[Mapping[str, tuple[object, str]]] = {
    "v2/infer-not-ready": (404, "has no available versions"),
    "v2/infer-datatype-lower": (400, "invalid datatype for input input-0"),
    "v2/infer-fp16": (200, ""),
    # A Python model's exceptions are its own: there is no class for what the client did wrong.
    "v2/raises-not_implemented": (500, "no: not_implemented"),
    "grpc/raises-inference": ("INTERNAL", "no: inference"),
}


def vectors() -> Iterator[dict[str, Any]]:
    for name in ("v2", "binary", "repository", "grpc"):
        yield from json.loads((FOLDER / f"{name}.json").read_text())["vectors"]


def body_of(request: Mapping[str, Any]) -> bytes | None:
    if "body_base64" in request:
        return base64.b64decode(request["body_base64"])
    return request["body"].encode() if "body" in request else None


def tensors_asked(vector: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs that a request speaks of, as far as they can be read."""
    request = vector["request"]
    if "inputs" in request:
        return list(request["inputs"])
    text = (body_of(request) or b"{}").decode("latin-1")
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
        return list(found["inputs"])
    except (ValueError, KeyError, TypeError):
        return []


def signature(vector: Mapping[str, Any]) -> tuple[tuple[str, str, int], ...]:
    found = []
    for tensor in tensors_asked(vector):
        kind = tensor["datatype"] if triton_to_np_dtype(tensor["datatype"]) else "FP32"
        found.append((tensor["name"], kind, len(tensor.get("shape", []))))
    return tuple(found)


def echo_for(vector: Mapping[str, Any]) -> str:
    """There is no model of any tensors: each signature has an echo of its own."""
    return "echo" + "".join(f"-{name}-{kind}-{rank}" for name, kind, rank in signature(vector))


def write_model(folder: Path, code: str, inputs: Any, outputs: Any) -> None:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1/model.py").write_text(code)
    text = 'backend: "python" max_batch_size: 0\n'
    for role, tensors in (("input", inputs), ("output", outputs)):
        for name, kind, rank in tensors:
            dims = ", ".join(["-1"] * rank)
            spelled = "STRING" if kind == "BYTES" else kind
            text += f'{role} {{ name: "{name}" data_type: TYPE_{spelled} dims: [ {dims} ] }}\n'
    (folder / "config.pbtxt").write_text(text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("v2")
    write_iris(root / "iris/1")
    for vector in vectors():
        if tensors := signature(vector):
            write_model(root / echo_for(vector), ECHO, tensors, tensors)
    write_model(root / "echo", ECHO, [("x", "FP32", 1)], [("x", "FP32", 1)])
    write_model(root / "sleeping", SLEEPING, [("x", "FP32", 2)], [("x", "FP32", 2)])
    for name in ("input-0", "x"):
        tensors = ((name, "FP32", 2),)
        write_model(root / f"raises-{name}", RAISES, tensors, tensors)
    write_model(root / "strings", STRINGS, [("x", "INT32", 1)], [("output-0", "BYTES", 1)])
    with serve(root, wait=None, model_control_mode="explicit", load_models=("*",)) as running:
        assert running.wait_loaded(60)
        yield running


def here(name: str, vector: Mapping[str, Any]) -> str:
    """The model that stands for the recorded one."""
    if name == "echo" and tensors_asked(vector):
        return echo_for(vector)
    return f"raises-{tensors_asked(vector)[0]['name']}" if name == "raises" else name


Told = tuple[object, str, dict[str, Any]]


def rest_answer(status: int, length: str | None, body: bytes) -> Told:
    """Status, text of the error, and what else a client acts on."""
    end = int(length) if length else len(body)
    try:
        told = json.loads(body[:end] or b"{}")
    except ValueError:
        told = {}
    if status != 200 or "outputs" not in told:
        return status, str(told.get("error", "")), {}
    at, outputs = end, {}
    for output in told["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size")
        data = output.get("data")
        if size is not None:
            kind = triton_to_np_dtype(output["datatype"])
            data = np.frombuffer(body[at : at + size], kind).tolist()
            at += size
        outputs[output["name"]] = (
            output["datatype"],
            output["shape"],
            plain(output["datatype"], data),
        )
    return status, "", {"id": told.get("id"), "outputs": outputs}


def plain(datatype: str, data: Any) -> list[Any]:
    """The values as the type holds them; protobuf's JSON writes long integers as texts."""
    kind = object if datatype == "BYTES" or None in list(data) else triton_to_np_dtype(datatype)
    return list(np.asarray(data, kind).ravel().tolist())


def ask_rest(server: Server, vector: Mapping[str, Any]) -> Told:
    request = vector["request"]
    path = request["path"].split("/")
    if "models" in path:
        at = path.index("models") + 1
        path[at] = here(path[at], vector)
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=20)
    headers = request.get("headers", {})
    connection.request(request["method"], "/".join(path), body_of(request), headers)
    answer = connection.getresponse()
    body = answer.read()
    length = answer.getheader("Inference-Header-Content-Length")
    if answer.status >= 400:
        assert list(json.loads(body)) == ["error"], body
    connection.close()
    return rest_answer(answer.status, length, body)


def recorded_rest(vector: Mapping[str, Any]) -> Told:
    told = vector["response"]
    headers = {key.lower(): value for key, value in told.get("headers", {}).items()}
    if vector["id"] == "v2/infer-binary-output":
        # Its body is kept without the tensor.
        return told["status"], "", {"id": "UUID", "outputs": {}}
    length = headers.get("inference-header-content-length")
    return rest_answer(told["status"], length, body_of(told) or b"")


def grpc_answer(message: Mapping[str, Any]) -> dict[str, Any]:
    """A ModelInferResponse, however its data came."""
    outputs = {}
    raw = [base64.b64decode(text) for text in message.get("raw_output_contents", [])]
    for index, output in enumerate(message.get("outputs", [])):
        (data,) = output.get("contents", {"": []}).values()
        if raw and output["datatype"] == "BYTES":
            data = [base64.b64encode(raw[index])]
        elif raw:
            data = np.frombuffer(raw[index], triton_to_np_dtype(output["datatype"]))
        shape = [int(size) for size in output["shape"]]
        if raw or "contents" not in output or output["datatype"] != "BYTES":
            outputs[output["name"]] = (output["datatype"], shape, plain(output["datatype"], data))
    return {"id": message.get("id"), "outputs": outputs}


def ask_grpc(server: Server, vector: Mapping[str, Any]) -> Told:
    request = json.loads(json.dumps(vector["request"]))
    for key in ("model_name", "name"):
        if key in request:
            request[key] = here(request[key], vector)
    method = vector["method"]
    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        message = ParseDict(request, getattr(service_pb2, f"{method}Request")())
        try:
            answer = getattr(stub, method)(message, timeout=20)
        except grpc.RpcError as error:
            return error.code().name, error.details(), {}  # type: ignore[attr-defined]
    told = MessageToDict(answer, preserving_proto_field_name=True)
    if method == "ModelInfer":
        return "OK", "", grpc_answer(told)
    return "OK", json.dumps(told), told if method.endswith("Ready") else {}


def recorded_grpc(vector: Mapping[str, Any]) -> Told:
    told, method = vector["response"], vector["method"]
    if "message" not in told:
        return told["code"], "", {}
    if method == "ModelInfer":
        return told["code"], "", grpc_answer(told["message"])
    return told["code"], "", told["message"] if method.endswith("Ready") else {}


def agrees(told: Told, recorded: Told) -> bool:
    """Whether a client that knows the recording finds in the answer what it looks for."""
    if told[0] != recorded[0]:
        return False
    if "outputs" not in recorded[2]:
        return recorded[2] == told[2] or not recorded[2]
    wanted, outputs = recorded[2], told[2]["outputs"]
    same = all(outputs.get(name) == value for name, value in wanted["outputs"].items())
    return same and wanted["id"] in ("UUID", None, told[2]["id"])


@pytest.mark.parametrize("vector", list(vectors()), ids=lambda vector: vector["id"])
def test_what_kserve_answered_is_answered_or_better(vector: dict[str, Any], server: Server) -> None:
    over_grpc = "method" in vector
    told = ask_grpc(server, vector) if over_grpc else ask_rest(server, vector)
    recorded = recorded_grpc(vector) if over_grpc else recorded_rest(vector)
    changed = {**BETTER, **OTHER}.get(vector["id"])
    assert bool(vector.get("defect")) is (vector["id"] in BETTER)
    if changed is None:
        assert agrees(told, recorded), (told, recorded)
        return
    if told[:2] == (recorded[0], ""):
        assert not agrees(told, recorded), "this case agrees: take it out of the list"
    assert told[0] == changed[0], told
    assert changed[1] in told[1]
