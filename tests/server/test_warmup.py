# SPDX-License-Identifier: Apache-2.0
"""Warm-up over the real server: what instances have executed before a client sees the model."""

from __future__ import annotations

import base64
import json
import queue
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import lightgbm
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import TensorProto, helper
from tests.config.conftest import theme
from tests.model_folders import write_model

from nerite.server.server import Server
from nerite.tensors import serialize_bytes
from nerite.testing import serve

#: Keeps what it executed in the module, which instances share, and tells it.
TELLS = """import json
import threading
import numpy as np
import triton_python_backend_utils as pb_utils

SEEN = []

def of(request):
    return pb_utils.get_input_tensor_by_name(request, "X").as_numpy()

def seen(requests):
    tensors = [of(request) for request in requests]
    values = [value for tensor in tensors for value in tensor.flat]
    SEEN.append([
        threading.current_thread().name,
        [tensor.shape for tensor in tensors],
        [value.decode() if isinstance(value, bytes) else float(value) for value in values],
        requests[0].requested_output_names(),
    ])

def told():
    text = np.array([[json.dumps(SEEN)]], object)
    return pb_utils.InferenceResponse([pb_utils.Tensor("Y", text)])

class TritonPythonModel:
    def execute(self, requests):
        if of(requests[0]).shape[-1] == 1:
            return [told() for _ in requests]
        seen(requests)
        return [told() for _ in requests]
"""
DECOUPLED = TELLS.replace(
    """        seen(requests)
        return [told() for _ in requests]
""",
    """        seen(requests)
        senders = [request.get_response_sender() for request in requests]
        threading.Timer(0.05, lambda: [self.answer(sender) for sender in senders]).start()

    def answer(self, sender):
        SEEN.append("answered")
        sender.send(told())
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
).replace(
    "            return [told() for _ in requests]\n",
    "            for request in requests:\n"
    "                request.get_response_sender().send(told(), 1)\n"
    "            return None\n",
)
ERRORS = """import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        if DECOUPLED:
            HOW
            return None
        error = pb_utils.TritonError("not today")
        return [pb_utils.InferenceResponse(error=error) for _ in requests]
"""


def config(backend: str, *samples: str, batch: int = 8, kind: str = "FP32", more: str = "") -> str:
    return f"""backend: "{backend}" max_batch_size: {batch}
    input {{ name: "X" data_type: TYPE_{kind} dims: [ -1 ] }}
    output {{ name: "Y" data_type: TYPE_STRING dims: [ 1 ] }}
    {more} {" ".join("model_warmup { " + sample + " }" for sample in samples)}"""


def sample(data: str, kind: str = "FP32", dims: str = "2", name: str = "s", more: str = "") -> str:
    return f"""name: "{name}" batch_size: 1 {more} inputs {{ key: "X" value {{
      data_type: TYPE_{kind} dims: [ {dims} ] {data} }} }}"""


def onnx(operator: str, kind: int) -> bytes:
    given = helper.make_tensor_value_info("X", kind, ["n", "m"])
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [0.5, 1.5, 2.5])
    made = helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["n", "m"])
    node = helper.make_node(operator, ["table", "X"], ["Y"])
    graph = helper.make_graph([node], "g", [given], [made], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def gather(data: str) -> str:
    return f"""backend: "onnxruntime" max_batch_size: 8
    input {{ name: "X" data_type: TYPE_INT64 dims: [ -1 ] }}
    output {{ name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }}
    model_warmup {{ {sample(data, "INT64")} }}"""


def trees() -> str:
    data = lightgbm.Dataset(np.random.default_rng(0).random((40, 3)), np.arange(40.0))
    return lightgbm.train({"verbose": -1}, data, 1).model_to_string()  # type: ignore[no-any-return]


def rows(dims: str) -> str:
    return f"""backend: "lightgbm" max_batch_size: 8
    input {{ name: "X" data_type: TYPE_FP64 dims: [ -1 ] }}
    model_warmup {{ {sample("random_data: true", "FP64", dims)} }}"""


FILE = np.array([3.5, 4.5], "<f4").tobytes()
WORDS = serialize_bytes(np.array([b"eins", b"zwei"], object))
LETS_GO = "[request.get_response_sender() for request in requests]"
SENDS_ERROR = """error = pb_utils.InferenceResponse(error=pb_utils.TritonError("no"))
            [request.get_response_sender().send(error, 1) for request in requests]"""
STREAMS = "model_transaction_policy { decoupled: true }"
THRICE_TWICE = sample("zero_data: true").replace("batch_size: 1", "batch_size: 3 count: 2")


def failing(decoupled: bool = False, how: str = "pass") -> dict[str, Any]:
    return {
        "config.pbtxt": config("python", sample("zero_data: true"), more=STREAMS * decoupled),
        "1/model.py": ERRORS.replace("DECOUPLED", str(decoupled)).replace("HOW", how),
    }


def coded(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("warm")
    instances = "instance_group { count: 2 kind: KIND_CPU }"
    onnx_file = coded(onnx("Gather", TensorProto.INT64))
    models: dict[str, dict[str, Any]] = {
        "zeros": {
            "config.pbtxt": config(
                "python",
                THRICE_TWICE,
                sample("input_data_file: 'x.bin'", name="from_file"),
                more=instances,
            ),
            "1/model.py": TELLS,
            "warmup/x.bin": coded(FILE),
        },
        "random": {
            "config.pbtxt": config("python", sample("random_data: true", dims="1000")),
            "1/model.py": TELLS,
        },
        "strings": {
            "config.pbtxt": config(
                "python",
                sample("input_data_file: 'words'", "STRING"),
                sample("random_data: true", "STRING"),
                kind="STRING",
            ),
            "1/model.py": TELLS,
            "warmup/words": coded(WORDS),
        },
        "single": {
            "config.pbtxt": config(
                "python", sample("zero_data: true").replace("size: 1", "size: 2"), batch=0
            ).replace("dims: [ 1 ]", "dims: [ 1, 1 ]"),
            "1/model.py": TELLS,
        },
        "streams": {
            "config.pbtxt": config("python", sample("zero_data: true"), more=STREAMS),
            "1/model.py": DECOUPLED,
        },
        "onnx_warm": {"config.pbtxt": gather("zero_data: true"), "1/model.onnx": onnx_file},
        "trees_warm": {"config.pbtxt": rows("3"), "1/model.txt": trees()},
        "onnx_fails": {"config.pbtxt": gather("random_data: true"), "1/model.onnx": onnx_file},
        "trees_fail": {"config.pbtxt": rows("4"), "1/model.txt": trees()},
        "wrong_words": {
            "config.pbtxt": config(
                "python", sample("input_data_file: 'w'", "STRING", "3"), kind="STRING"
            ),
            "1/model.py": TELLS,
            "warmup/w": coded(WORDS),
        },
        "answers_errors": failing(),
        "streams_errors": failing(decoupled=True, how=SENDS_ERROR),
        "lets_go": failing(decoupled=True, how=LETS_GO),
    }
    for name, files in models.items():
        write_model(root / name, files)
    with serve(root, wait=None) as running:
        assert running.wait_loaded(60)
        yield running


REASONS = {
    "onnx_fails": ("failed to run warmup sample 's': onnx runtime error 2: ", "Gather"),
    "trees_fail": ("failed to run warmup sample 's': model 'trees_fail' takes rows of 3", "4; "),
    "wrong_words": ("warmup setting expects 3 strings for input 'X'", "from w has 2"),
    "answers_errors": ("failed to run warmup sample 's': not today; ", ""),
    "streams_errors": ("failed to run warmup sample 's': no; ", ""),
    "lets_go": ("failed to run warmup sample 's': the model let go of the response sender", "; "),
}


@pytest.mark.parametrize("model", REASONS)
def test_a_sample_that_fails_fails_the_load_and_says_why(server: Server, model: str) -> None:
    start, end = REASONS[model]
    for entries in (http_index(server), grpc_index(server)):
        entry = next(entry for entry in entries if entry["name"] == model)
        assert entry["state"] == "UNAVAILABLE"
        assert entry["reason"].startswith(f"Invalid argument: {start}")
        assert end in entry["reason"]


def http_index(server: Server) -> list[Any]:
    with tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://")) as client:
        return list(client.get_model_repository_index())


def grpc_index(server: Server) -> list[Any]:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        return list(client.get_model_repository_index(as_json=True)["models"])


Seen = Callable[..., list[Any]]


@pytest.fixture(params=["http", "grpc"])
def seen(request: pytest.FixtureRequest, server: Server) -> Seen:
    if request.param == "http":
        return partial(infer, tritonclient.http, server.http_url.removeprefix("http://"))
    return partial(infer, tritonclient.grpc, server.grpc_url)


def infer(
    module: Any, url: str, model: str, kind: str = "FP32", shape: tuple[int, ...] = (1, 1)
) -> list[Any]:
    """What the model executed so far, asked with a tensor that it does not note."""
    array = np.full(shape, b"", object) if kind == "BYTES" else np.zeros(shape, np.float32)
    tensor = module.InferInput("X", list(shape), kind)
    tensor.set_data_from_numpy(array)
    with module.InferenceServerClient(url) as client:
        answer = client.infer(model, [tensor]).as_numpy("Y")
    return list(json.loads(answer.flat[0]))


def test_every_instance_executes_every_sample_as_often_as_it_says(
    seen: Seen,
) -> None:
    executed = seen("zeros")
    one = [[[1, 2]] * 3, [0.0] * 6, ["Y"]]
    other = [[[1, 2]], [3.5, 4.5], ["Y"]]
    for thread in ("nerite-zeros_0_0", "nerite-zeros_0_1"):
        assert [call[1:] for call in executed if call[0] == thread] == [one, one, other]


def test_random_data_is_of_the_type(seen: Seen) -> None:
    ((_, shapes, values, _),) = seen("random")
    assert shapes == [[1, 1000]]
    assert all(0 <= value < 1 for value in values)
    assert len(set(values)) > 900


def test_strings_come_from_a_file_or_are_empty(
    seen: Seen,
) -> None:
    executed = seen("strings", "BYTES")
    assert [call[2] for call in executed] == [["eins", "zwei"], ["", ""]]


def test_requests_of_a_model_without_batching_are_executed_singly(
    seen: Seen,
) -> None:
    executed = seen("single", shape=(1,))
    assert [call[1] for call in executed] == [[[2]], [[2]]]


def test_a_decoupled_model_is_ready_once_it_has_answered(server: Server) -> None:
    executed = seen_over_stream(server)
    assert [call if call == "answered" else call[1] for call in executed] == [[[1, 2]], "answered"]


def seen_over_stream(server: Server) -> list[Any]:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    tensor = tritonclient.grpc.InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("streams", [tensor])
        result, error = answers.get(timeout=10)
        client.stop_stream()
    assert error is None
    return list(json.loads(result.as_numpy("Y").flat[0]))


@pytest.mark.parametrize("model", ["onnx_warm", "trees_warm"])
def test_samples_are_counted_nowhere(server: Server, model: str) -> None:
    with tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://")) as client:
        assert client.is_model_ready(model)
        statistics = client.get_inference_statistics(model)["model_stats"][0]
    assert statistics["inference_count"] == statistics["execution_count"] == 0
    assert statistics["inference_stats"]["success"]["count"] == 0
    with urlopen(server.metrics_url) as page:
        lines = page.read().decode().splitlines()
    counted = [line for line in lines if f'model="{model}"' in line and "_count{" in line]
    assert f'nv_inference_count{{model="{model}",version="1"}} 0' in counted
    assert f'nv_inference_exec_count{{model="{model}",version="1"}} 0' in counted


def test_a_failing_python_model_is_told_as_triton_tells_it(tmp_path: Path) -> None:
    (case,) = theme("warmup_failing")["cases"]
    write_model(tmp_path / case["id"], case["files"])
    with serve(tmp_path, wait=None) as running:
        assert running.wait_loaded(30)
        (entry,) = http_index(running)
    (recorded,) = case["expect"]["index"]
    assert entry["reason"] == recorded["reason"].replace("{repo}", str(tmp_path))
