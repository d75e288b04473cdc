# SPDX-License-Identifier: Apache-2.0
"""What KServe's own Python server gets wrong on the V2 protocol, right here, on scikit-learn.

V2 only; the model is served as KServe would have it served. Where a recording of KServe 0.21 shows
a defect, the comment says what it answers.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import skops.io
import tritonclient.grpc as grpcclient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from nerite.server.server import Server
from nerite.testing import serve

ROWS, CLASSES = load_iris(return_X_y=True)
DATA = [5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5]
TENSOR = {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": DATA}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("iris")
    skops.io.dump(LogisticRegression(max_iter=500).fit(ROWS, CLASSES), folder / "model.skops")
    with serve(folder, model_name="iris") as running:
        yield running


@pytest.fixture
def connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
    yield made
    made.close()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Status and JSON of an answer; the connection must be usable afterwards."""
    text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
    connection.request(method, path, text, JSON if headers is None else headers)
    answer = connection.getresponse()
    read = answer.read()
    assert not answer.will_close
    return answer.status, json.loads(read) if read else None


def infer(connection: http.client.HTTPConnection, body: object, **more: Any) -> tuple[int, Any]:
    return ask(connection, "POST", "/v2/models/iris/infer", body, **more)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/x-www-form-urlencoded",  # what curl sends unless told otherwise
        "application/octet-stream",
        "text/plain",
    ],
)
def test_json_is_json_whatever_its_content_type(
    content_type: str | None, connection: http.client.HTTPConnection
) -> None:
    """KServe: 400, `received byte inputs`, for all but the second and third."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    status, answer = infer(connection, {"inputs": [TENSOR]}, headers=headers)
    assert status == 200
    assert answer["outputs"][0]["data"] == [0, 2]


@pytest.mark.parametrize("binary", [False, True])
def test_every_answer_has_its_content_type(
    binary: bool, connection: http.client.HTTPConnection
) -> None:
    """KServe: none at all on answers with binary tensors."""
    body = {"inputs": [TENSOR], "parameters": {"binary_data_output": binary}}
    connection.request("POST", "/v2/models/iris/infer", json.dumps(body), JSON)
    answer = connection.getresponse()
    read = answer.read()
    kind = "application/octet-stream" if binary else "application/json"
    assert answer.getheader("Content-Type") == kind
    assert answer.getheader("Content-Length") == str(len(read))
    header = answer.getheader("Inference-Header-Content-Length")
    outputs = json.loads(read[: int(header)] if header else read)["outputs"]
    assert bool(header) is binary
    if binary:
        start = int(header or 0)
        assert np.frombuffer(read[start : start + 16], np.int64).tolist() == [0, 2]
        sizes = [out["parameters"]["binary_data_size"] for out in outputs]
        assert start + sum(sizes) == len(read)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        # KServe: 422 {"detail": [...]}
        ('{"inputs": [', "failed to parse the request JSON buffer"),
        ([1], "Unable to parse 'inputs'"),
        ({"id": 7, "inputs": [TENSOR]}, "Unable to parse 'id'"),
        ({"inputs": [{k: v for k, v in TENSOR.items() if k != "shape"}]}, "Unable to parse 'sha"),
        ({"inputs": [{k: v for k, v in TENSOR.items() if k != "data"}]}, "But no field is set"),
        ({"inputs": [{**TENSOR, "shape": [2.5, 4]}]}, "Unable to parse 'shape'"),
        # KServe: 500 with the words of numpy or of a Python exception
        ({"inputs": []}, "expected 1 inputs but got 0 inputs for model 'iris'"),
        ({"inputs": [{**TENSOR, "shape": [-1, 4]}]}, "Unable to parse 'shape'"),
        ({"inputs": [{**TENSOR, "shape": [3, 4]}]}, "Shape does not match"),
        (
            {"inputs": [{**TENSOR, "shape": [1, 3], "data": [1, 2, 3]}]},
            "Expected [-1,4], got [1,3]",
        ),
        ({"inputs": [{**TENSOR, "datatype": "FP99"}]}, "invalid datatype for input input-0"),
        ({"inputs": [{**TENSOR, "data": ["a", *DATA[1:]]}]}, "Unable to parse 'data'"),
        # KServe: 200, null or infinity taken for a number
        ({"inputs": [{**TENSOR, "data": [None, *DATA[1:]]}]}, "Unable to parse 'data'"),
        ({"inputs": [{**TENSOR, "data": [1e39, *DATA[1:]]}]}, "contains infinity or a value too"),
    ],
)
def test_a_mistake_of_the_client_is_400_with_one_text(
    body: object, text: str, connection: http.client.HTTPConnection
) -> None:
    """And the connection is kept: KServe closes it after a 500 without saying so."""
    status, answer = infer(connection, body)
    assert (status, list(answer)) == (400, ["error"])
    assert text in answer["error"]
    assert "Error :" not in answer["error"]
    first = connection.sock
    assert infer(connection, {"inputs": [TENSOR]})[0] == 200
    assert connection.sock is first


@pytest.mark.parametrize("length", ["5", "abc", "-1", "999999"])
def test_a_wrong_header_length_is_a_mistake_of_the_client(
    length: str, connection: http.client.HTTPConnection
) -> None:
    """KServe: 500 `ValueError : invalid literal for int()` for the second."""
    headers = {"Inference-Header-Content-Length": length}
    status, answer = infer(connection, {"inputs": [TENSOR]}, headers=headers)
    assert (status, list(answer)) == (400, ["error"])


@pytest.mark.parametrize("surplus", [-4, 4])
def test_binary_bytes_that_are_too_few_or_too_many_are_noticed(
    surplus: int, connection: http.client.HTTPConnection
) -> None:
    """KServe: 200, with whatever was there."""
    named = {k: v for k, v in TENSOR.items() if k != "data"}
    header = json.dumps({"inputs": [{**named, "parameters": {"binary_data_size": 32}}]}).encode()
    body = header + bytes(32 + surplus)
    headers = {"Inference-Header-Content-Length": str(len(header))}
    status, answer = infer(connection, body, headers=headers)
    assert (status, list(answer)) == (400, ["error"])


def test_an_id_comes_back_and_none_is_invented(connection: http.client.HTTPConnection) -> None:
    """KServe: makes one up where there is none or an empty one."""
    assert infer(connection, {"id": "a-1", "inputs": [TENSOR]})[1]["id"] == "a-1"
    for body in ({"inputs": [TENSOR]}, {"id": "", "inputs": [TENSOR]}):
        assert "id" not in infer(connection, body)[1]


def test_an_answer_has_no_nulls(connection: http.client.HTTPConnection) -> None:
    """KServe: `"model_version":null,"parameters":null` in every one."""
    _, answer = infer(connection, {"inputs": [TENSOR]})
    assert None not in answer.values()
    assert answer["model_version"] == "1"


def test_versions_are_paths(connection: http.client.HTTPConnection) -> None:
    """KServe: 501 `Model versioning not supported yet.`"""
    one = "/v2/models/iris/versions/1"
    assert ask(connection, "GET", one) == ask(connection, "GET", "/v2/models/iris")
    assert ask(connection, "GET", f"{one}/ready")[0] == 200
    status, answer = ask(connection, "POST", f"{one}/infer", {"inputs": [TENSOR]})
    assert (status, answer["model_version"]) == (200, "1")
    status, answer = ask(connection, "GET", "/v2/models/iris/versions/9")
    assert (status, "version 9" in answer["error"]) == (404, True)


def test_the_repository_has_an_index(connection: http.client.HTTPConnection) -> None:
    """KServe: 404; the function is there, but no route."""
    expected = [{"name": "iris", "version": "1", "state": "READY"}]
    for body in ({}, {"ready": True}, None):
        assert ask(connection, "POST", "/v2/repository/index", body) == (200, expected)


def test_metadata_tells_the_tensors_and_the_statistics_count(
    connection: http.client.HTTPConnection,
) -> None:
    """KServe: empty lists, `versions` null, an empty platform; no statistics."""
    _, told = ask(connection, "GET", "/v2/models/iris")
    assert (told["versions"], told["platform"]) == (["1"], "sklearn")
    assert told["inputs"] == [{"name": "input-0", "datatype": "FP32", "shape": [-1, 4]}]
    assert told["outputs"][0] == {"name": "output-0", "datatype": "INT64", "shape": [-1]}

    def count() -> int:
        _, stats = ask(connection, "GET", "/v2/models/iris/stats")
        return int(stats["model_stats"][0]["inference_count"])

    before = count()
    infer(connection, {"inputs": [TENSOR]})
    assert count() == before + 2  # rows


def test_an_unknown_output_is_refused_on_both_protocols(
    server: Server, connection: http.client.HTTPConnection
) -> None:
    """KServe: gRPC forgets which outputs were asked for."""
    status, answer = infer(connection, {"inputs": [TENSOR], "outputs": [{"name": "nope"}]})
    assert (status, "unexpected inference output 'nope'" in answer["error"]) == (400, True)
    tensor = grpcclient.InferInput("input-0", [2, 4], "FP32")
    tensor.set_data_from_numpy(np.array(DATA, np.float32).reshape(2, 4))
    wanted = [grpcclient.InferRequestedOutput("nope")]
    with (
        grpcclient.InferenceServerClient(server.grpc_url) as client,
        pytest.raises(InferenceServerException, match="unexpected inference output 'nope'"),
    ):
        client.infer("iris", [tensor], outputs=wanted)


def test_grpc_tells_a_mistake_of_the_client_as_one(server: Server) -> None:
    """KServe: INTERNAL `Internal server error`, and UNKNOWN with an attribute's name."""
    request = service_pb2.ModelInferRequest(model_name="iris")
    given = request.inputs.add(name="input-0", datatype="FP32", shape=[2, 4])
    given.contents.fp32_contents.extend(DATA[:3])
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(grpc.RpcError, match="Expected 32, got 12") as caught:
            client._client_stub.ModelInfer(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
        index = client.get_model_repository_index(as_json=True)
        assert index["models"] == [{"name": "iris", "version": "1", "state": "READY"}]
        assert client.get_model_metadata("iris", "1", as_json=True)["platform"] == "sklearn"


def test_a_model_that_failed_makes_the_server_unready(tmp_path: Path) -> None:
    """KServe: ready with no model at all."""
    (tmp_path / "model.skops").write_bytes(b"no model")
    with serve(tmp_path, model_name="iris", wait=None) as server:
        assert server.wait_loaded(30)
        made = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
        assert ask(made, "GET", "/v2/health/live")[0] == 200
        assert ask(made, "GET", "/v2/health/ready")[0] == 400
        (entry,) = ask(made, "POST", "/v2/repository/index", {})[1]
        assert entry["state"] == "UNAVAILABLE"
        assert "model.skops" in entry["reason"]
        assert infer(made, {"inputs": [TENSOR]})[0] == 404
        made.close()


SLOW = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        with open("{gate}") as gate:  # opens when somebody writes
            gate.read()
        done = pb_utils.Tensor("Y", np.zeros((1, 1), np.float32))
        return [pb_utils.InferenceResponse([done]) for _ in requests]
"""


def test_probes_are_answered_while_a_model_computes(tmp_path: Path) -> None:
    """KServe: predict runs on the event loop, and pods are killed for their silence."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "models/slow/1").mkdir(parents=True)
    (tmp_path / "models/slow/1/model.py").write_text(SLOW.format(gate=gate))
    (tmp_path / "models/slow/config.pbtxt").write_text(
        'backend: "python" max_batch_size: 0\n'
        'input { name: "X" data_type: TYPE_FP32 dims: [ 1, 1 ] }\n'
        'output { name: "Y" data_type: TYPE_FP32 dims: [ 1, 1 ] }\n'
    )
    body = {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}
    with serve(tmp_path / "models") as running, ThreadPoolExecutor(1) as pool:
        address = running.http_url.removeprefix("http://")
        asking, probe = (http.client.HTTPConnection(address, timeout=15) for _ in range(2))
        asked = pool.submit(ask, asking, "POST", "/v2/models/slow/infer", body)
        with gate.open("w"):  # now the model waits for what is written
            for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/slow/ready"):
                assert ask(probe, "GET", path)[0] == 200
            assert not asked.done()
        assert asked.result(15)[0] == 200
        asking.close()
        probe.close()
