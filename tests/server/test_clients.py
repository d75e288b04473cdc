"""A real server on free ports, and the real `tritonclient` in all its flavours."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from nerite import Server, ServerOptions

MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            if (x < 0).any():
                answers.append(
                    pb_utils.InferenceResponse(error=pb_utils.TritonError("below zero"))
                )
            else:
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x * 2)]))
        return answers
"""


def config(backend: str, data_type: str, dims: str, *, batch: int = 8) -> str:
    """A model with one input X and one output Y."""
    tensor = 'name: "{}" data_type: TYPE_{} dims: [ {} ]'
    return (
        f'backend: "{backend}"\nmax_batch_size: {batch}\n'
        f"input [ {{ {tensor.format('X', data_type, dims)} }} ]\n"
        f"output [ {{ {tensor.format('Y', data_type, dims)} }} ]\n"
        + ("dynamic_batching { }\n" if batch else "")
    )


def write_model(folder: Path, text: str, files: dict[str, str] | None = None) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text)
    for name, content in (files or {}).items():
        (folder / "1" / name).write_text(content)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    write_model(models / "fp32", config("identity", "FP32", "4"))
    write_model(models / "wide", config("identity", "FP32", "-1"))
    write_model(models / "strings", config("identity", "STRING", "-1", batch=0))
    write_model(models / "doubler", config("python", "FP32", "-1"), {"model.py": MODEL})
    write_model(models / "broken", "backend: 5")
    options = ServerOptions(
        repositories=(models,),
        http_address="127.0.0.1",
        http_port=0,
        grpc_address="127.0.0.1",
        grpc_port=0,
        metrics_port=0,
        strict_readiness=False,
        exit_timeout_secs=5,
    )
    with Server(options) as running:
        assert running.wait_loaded(20)
        yield running


def http(server: Server) -> Any:
    return tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://"))


def grpc(server: Server) -> Any:
    return tritonclient.grpc.InferenceServerClient(server.grpc_url)


FLAVOURS = [(tritonclient.http, http), (tritonclient.grpc, grpc)]
flavours = pytest.mark.parametrize(("module", "connect"), FLAVOURS, ids=["http", "grpc"])


def an_input(module: Any, values: np.ndarray[Any, Any], datatype: str = "FP32") -> Any:
    tensor = module.InferInput("X", list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor


@flavours
def test_a_client_learns_what_is_there_and_gets_its_floats_back(
    server: Server, module: Any, connect: Any
) -> None:
    client = connect(server)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fp32")
    assert not client.is_model_ready("broken")
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    answer = client.infer("fp32", [an_input(module, values)], request_id="seven")
    np.testing.assert_array_equal(answer.as_numpy("Y"), values)
    as_dict = answer.get_response() if module is tritonclient.http else {}
    assert as_dict.get("id", "seven") == "seven"
    client.close()


@flavours
def test_a_python_model_fails_one_request_and_answers_the_others(
    server: Server, module: Any, connect: Any
) -> None:
    client = connect(server)
    with pytest.raises(InferenceServerException, match="below zero"):
        client.infer("doubler", [an_input(module, np.array([[-1.0]], np.float32))])
    answer = client.infer("doubler", [an_input(module, np.array([[3.0]], np.float32))])
    assert answer.as_numpy("Y").tolist() == [[6.0]]
    client.close()


@flavours
def test_strings_come_back_as_they_went(server: Server, module: Any, connect: Any) -> None:
    client = connect(server)
    values = np.array([b"", b"abc", "größe".encode()], dtype=np.object_)
    answer = client.infer("strings", [an_input(module, values, "BYTES")])
    assert answer.as_numpy("Y").tolist() == values.tolist()
    client.close()


BAD = [
    ("nosuch", "X", (1, 4), "FP32", "Request for unknown model: 'nosuch' is not found"),
    ("fp32", "Z", (1, 4), "FP32", "unexpected inference input 'Z' for model 'fp32'"),
    ("fp32", "X", (1, 5), "FP32", r"unexpected shape for input 'X' for model 'fp32'"),
    ("fp32", "X", (9, 4), "FP32", "inference request batch-size must be <= 8 for 'fp32'"),
    ("fp32", "X", (1, 4), "INT32", "data-type is 'INT32', but model 'fp32' expects 'FP32'"),
]


@flavours
@pytest.mark.parametrize(("model", "name", "shape", "datatype", "text"), BAD)
def test_a_bad_request_is_told_why_and_the_next_one_is_answered(
    server: Server,
    module: Any,
    connect: Any,
    model: str,
    name: str,
    shape: tuple[int, ...],
    datatype: str,
    text: str,
) -> None:
    client = connect(server)
    numpy_type = np.float32 if datatype == "FP32" else np.int32
    bad = module.InferInput(name, list(shape), datatype)
    bad.set_data_from_numpy(np.zeros(shape, numpy_type))
    with pytest.raises(InferenceServerException, match=text):
        client.infer(model, [bad])
    good = client.infer("fp32", [an_input(module, np.ones((1, 4), np.float32))])
    assert good.as_numpy("Y").shape == (1, 4)
    client.close()


def test_the_aio_clients_work_too(server: Server) -> None:
    async def ask() -> list[Any]:
        values = np.ones((1, 4), np.float32)
        answers = []
        address = server.http_url.removeprefix("http://")
        async with tritonclient.http.aio.InferenceServerClient(address) as client:
            answer = await client.infer("fp32", [an_input(tritonclient.http, values)])
            answers.append(answer.as_numpy("Y").tolist())
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc_url) as client:
            answer = await client.infer("fp32", [an_input(tritonclient.grpc, values)])
            answers.append(answer.as_numpy("Y").tolist())
        return answers

    assert asyncio.run(ask()) == [[[1.0] * 4]] * 2


def test_the_index_tells_the_reason_of_a_broken_model(server: Server) -> None:
    client = grpc(server)
    entries = {entry.name: entry for entry in client.get_model_repository_index().models}
    client.close()
    assert entries["fp32"].state == "READY"
    assert entries["broken"].state == "UNAVAILABLE"
    assert "config.pbtxt:1:10: Expected string, got: 5" in entries["broken"].reason


def test_requests_at_once_share_batches_and_python_is_entered_once_per_batch(
    server: Server,
) -> None:
    before = server.engine.counters()

    def one(number: int) -> list[list[float]]:
        client = http(server)
        values = np.full((1, 4), number, np.float32)
        answer = client.infer("fp32", [an_input(tritonclient.http, values)])
        client.close()
        result: list[list[float]] = answer.as_numpy("Y").tolist()
        return result

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(64)))
    assert answers == [[[float(n)] * 4] for n in range(64)]
    after = server.engine.counters()
    batches = after["batches"] - before["batches"]
    assert 0 < batches <= 64
    assert after["gil_acquisitions"] - before["gil_acquisitions"] == batches
    assert after["in_flight"] == 0


@flavours
@pytest.mark.parametrize("rows", [1, 8])
def test_a_large_request_alone_reaches_the_backend_without_a_copy(
    server: Server, module: Any, connect: Any, rows: int
) -> None:
    """Over gRPC it was copied once: the message began on a cache line, its tensor did not."""
    client = connect(server)
    values = np.random.default_rng(1).random((rows, 100_003), np.float32)
    before = server.engine.counters()
    answer = client.infer("wide", [an_input(module, values)])
    after = server.engine.counters()
    client.close()
    assert (answer.as_numpy("Y") == values).all()
    assert after["borrowed_inputs"] - before["borrowed_inputs"] == 1
    assert after["gathered_bytes"] == before["gathered_bytes"]


LYING = [
    b"POST /v2/models/fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v2/models/fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{abc",
    b"GET /v2/models/fp32/infer HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nno colon here\r\n\r\n",
]


@pytest.mark.parametrize("text", LYING)
def test_wire_nonsense_gets_a_4xx_and_harms_nobody(server: Server, text: bytes) -> None:
    host, _, port = server.http_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(text)
        assert raw.recv(4096).startswith(b"HTTP/1.1 4")
    with urllib.request.urlopen(f"{server.http_url}/v2/models/fp32", timeout=5) as answer:
        assert json.load(answer)["name"] == "fp32"


def test_metrics_carry_tritons_names(server: Server) -> None:
    with urllib.request.urlopen(server.metrics_url, timeout=5) as answer:
        page = answer.read().decode()
    assert 'nv_inference_request_success{model="fp32",version="1"}' in page
    assert 'nv_inference_request_failure{model="fp32",version="1",reason="REJECTED"} 0' in page
    assert "nerite_request_duration_seconds_bucket" in page
