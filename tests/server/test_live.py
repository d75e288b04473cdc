"""The whole server on real sockets, spoken to by the unmodified tritonclient."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from nerite.server.server import Server
from nerite.testing import serve

VECTORS = Path(__file__).parents[1]
COUNTING = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(64)
        config.set_dynamic_batching()
        config.add_input({"name": "X", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "Y", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "MATES", "data_type": "TYPE_INT32", "dims": [1]})
        return config

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            mates = np.full(x.shape, len(requests), np.int32)
            tensors = [pb_utils.Tensor("Y", x), pb_utils.Tensor("MATES", mates)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""


def identity(shape: str, more: str = "") -> str:
    return f"""backend: "identity" {more}
input [ {{ name: "INPUT0" data_type: TYPE_FP32 {shape} }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 {shape} }} ]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of each kind."""
    root = tmp_path_factory.mktemp("repository")
    python = json.loads((VECTORS / "backends/vectors/python_errors.json").read_text())["models"]
    onnx = json.loads((VECTORS / "models/vectors/onnx_autocomplete.json").read_text())["cases"]
    file = next(case for case in onnx if case["id"] == "ox_none")["files"]["1/model.onnx"]["b64"]
    files: dict[str, bytes] = {
        "id/config.pbtxt": identity("dims: [ -1 ]", "max_batch_size: 4").encode(),
        "scalar/config.pbtxt": identity(
            "dims: [ 1 ] reshape { shape: [ ] }", "max_batch_size: 4"
        ).encode(),
        "counting/1/model.py": COUNTING.encode(),
        "onx/1/model.onnx": base64.b64decode(file),
        **{f"{m}/{path}": text.encode() for m, f in python.items() for path, text in f.items()},
    }
    for name, data in files.items():
        path = root / name
        (root / name.split("/")[0] / "1").mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    module = httpclient if request.param == "http" else grpcclient
    url = server.http_url.removeprefix("http://") if request.param == "http" else server.grpc_url
    made = module.InferenceServerClient(url)
    made.module = module
    yield made
    made.close()


def infer(client: Any, model: str, inputs: dict[str, Any], **options: Any) -> Any:
    tensors = []
    for name, array in inputs.items():
        kind = {"f": "FP32", "O": "BYTES", "i": "INT32"}[array.dtype.kind]
        tensors.append(client.module.InferInput(name, list(array.shape), kind))
        tensors[-1].set_data_from_numpy(array)
    return client.infer(model, tensors, **options)


def text(*words: str) -> Any:
    return np.array([[word.encode()] for word in words], dtype=object)


def test_the_server_says_that_it_is_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert all(client.is_model_ready(m) for m in ("id", "scalar", "counting", "onx", "err"))


def test_identity_answers_with_its_input(client: Any) -> None:
    array = np.arange(6, dtype="f4").reshape(2, 3)
    assert infer(client, "id", {"INPUT0": array}).as_numpy("OUTPUT0").tolist() == array.tolist()


def test_a_declared_reshape_is_for_the_backend_only(client: Any) -> None:
    array = np.array([[1], [2]], "f4")
    assert infer(client, "scalar", {"INPUT0": array}).as_numpy("OUTPUT0").tolist() == [[1], [2]]


def test_an_onnx_model_answers(client: Any) -> None:
    array = np.ones((3, 4), "f4")
    assert infer(client, "onx", {"X": array}).as_numpy("Y").tolist() == array.tolist()


def test_a_python_model_answers(client: Any) -> None:
    assert infer(client, "counting", {"X": text("é", "")}).as_numpy("Y").tolist() == [
        ["é".encode()],
        [b""],
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("raise", "Failed to process the request(s) for model 'err_0', message: ValueError: it b"),
        ("none", "found type '<class 'NoneType'>'"),
        ("string", "found type '<class 'str'>'."),
        ("short", "InferenceRequest(s) size is:1, and InferenceResponse(s) size is:0"),
        ("INVALID_ARG", "error INVALID_ARG"),
    ],
)
def test_errors_of_a_python_model_reach_the_client(word: str, message: str, client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        infer(client, "err", {"WHAT": np.array([word.encode()], object)})
    assert message in str(caught.value.message())
    ok = infer(client, "err", {"WHAT": np.array([b"ok"], object)})
    assert ok.as_numpy("OUT").tolist() == [1]


def test_a_python_model_sees_what_the_client_said(client: Any) -> None:
    told = infer(
        client,
        "params",
        {"IN": np.array([1], np.int32)},
        request_id="q7",
        timeout=5_000_000,
        parameters={"a": 1, "b": "x", "c": True},
    ).as_numpy("OUT")[0]
    seen = json.loads(told)
    assert (seen["id"], seen["timeout"]) == ("q7", 5_000_000)
    assert seen["params"] == {"a": 1, "b": "x", "c": True}
    assert seen["outputs"] == ["EXTRA", "OUT"]


def test_requests_at_the_same_time_share_batches_and_keep_their_answers(server: Server) -> None:
    before = server.engine.counters()

    def ask(number: int) -> int:
        client = httpclient.InferenceServerClient(server.http_url.removeprefix("http://"))
        client.module = httpclient
        for step in range(20):
            answer = infer(client, "counting", {"X": text(f"{number} {step}")})
            assert answer.as_numpy("Y").tolist() == [[f"{number} {step}".encode()]]
        client.close()
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == list(range(8))
    after = server.engine.counters()
    assert after["requests"] - before["requests"] == 160
    batches = after["batches"] - before["batches"]
    assert batches <= 160
    assert after["gil_acquisitions"] - before["gil_acquisitions"] <= batches + 8


def test_the_index_lists_every_model(client: Any) -> None:
    index = client.get_model_repository_index()
    if client.module is httpclient:
        names = {entry["name"]: entry["state"] for entry in index}
    else:
        names = {entry.name: entry.state for entry in index.models}
    assert names == dict.fromkeys(("counting", "err", "id", "onx", "params", "scalar"), "READY")


def test_a_bare_onnx_file_needs_no_configuration(repository: Path) -> None:
    with serve(repository / "onx/1/model.onnx") as server:
        client = httpclient.InferenceServerClient(server.http_url.removeprefix("http://"))
        client.module = httpclient
        answer = infer(client, "model", {"X": np.ones((2, 4), "f4")})
        assert answer.as_numpy("Y").shape == (2, 4)
        client.close()


def test_the_example_backend_is_served_from_outside_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = Path(__file__).parents[2] / "examples/backend"
    monkeypatch.syspath_prepend(str(example))
    with serve(example / "models") as server:
        client = grpcclient.InferenceServerClient(server.grpc_url)
        client.module = grpcclient
        answer = infer(client, "reverse", {"TEXT": text("one two")})
        assert answer.as_numpy("REVERSED").tolist() == [[b"two one"]]
        client.close()


PROCESS = """
import sys
from nerite.server.options import ServerOptions
from nerite.server.process import serve_forever
from nerite.server.server import Server

server = Server(ServerOptions(
    repositories=(sys.argv[1],), http_address="127.0.0.1", http_port=0, allow_grpc=False,
    metrics_port=0, io_threads=1, exit_timeout_secs=float(sys.argv[2]),
), observer=lambda event: print(server.http_url, server.metrics_url, event.state, flush=True))
sys.exit(serve_forever(server))
"""


def slow_model(folder: Path, milliseconds: int) -> Path:
    delay = f'parameters {{ key: "execute_delay_ms" value {{ string_value: "{milliseconds}" }} }}'
    (folder / "slow/1").mkdir(parents=True)
    (folder / "slow/config.pbtxt").write_text(identity("dims: [ -1 ]", delay))
    return folder


@pytest.mark.parametrize(
    ("delay", "seconds", "code"), [(800, 10, 0), (5000, 0.2, 1)], ids=["in time", "out of time"]
)
def test_a_signal_finishes_what_was_accepted(
    delay: int, seconds: float, code: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROCESS, str(slow_model(tmp_path, delay)), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            url, metrics, state = line.split()
            if state == "READY":
                break
        answers: list[Any] = []

        def ask() -> None:
            client = httpclient.InferenceServerClient(url.removeprefix("http://"))
            client.module = httpclient
            try:
                answers.append(infer(client, "slow", {"INPUT0": np.ones(2, "f4")}))
            except Exception as why:
                answers.append(why)
            client.close()

        thread = threading.Thread(target=ask)
        thread.start()
        while "nerite_requests_in_flight 1" not in urlopen(metrics).read().decode():
            pass
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == code
        thread.join(10)
    finally:
        process.kill()
        _, errors = process.communicate()
    if code == 0:
        assert answers[0].as_numpy("OUTPUT0").tolist() == [1, 1]
    else:
        assert "failed to stop server: Internal - Exit timeout expired." in errors
