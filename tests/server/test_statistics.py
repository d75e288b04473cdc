# SPDX-License-Identifier: Apache-2.0
"""The parts of the statistics extension that not every model has, over both protocols."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tests.model_folders import write_model

from nerite.backends import Batch, Device, Executed, Memory, Model
from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "python"
input [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] } ]
input [ { name: "MODE" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
"""
MODEL = """import time
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            n, mode = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy().item()
                for name in ("N", "MODE")
            )
            if mode == b"raise":
                raise RuntimeError("it broke")
            sender = request.get_response_sender()
            for i in range(n):
                time.sleep(0.01)
                out = pb_utils.Tensor("OUT", np.array([i], np.int32))
                last = mode == b"with_last" and i == n - 1
                sender.send(pb_utils.InferenceResponse([out]), FINAL if last else 0)
            if mode == b"error":
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("late")))
            if mode == b"left":
                while not request.is_cancelled():
                    time.sleep(0.001)
                sender.send(pb_utils.InferenceResponse([out]))
            if mode != b"with_last":
                sender.send(flags=FINAL)
"""
KINDS = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")


class Holder:
    """A backend that holds what its configuration says, and something that its instances share."""

    def load(self, model: Model, device: Device) -> None:
        del device
        self._held = int(model.parameter("held"))
        model.shared.get("weights", Weights)

    def execute(self, batch: Batch) -> Executed:
        return {"Y": batch.inputs["X"]}

    def unload(self) -> None:
        pass

    def held_memory(self) -> list[Memory]:
        return [Memory("CPU", 0, self._held), Memory("GPU", 1, 7)]


class Weights:
    """What instances share."""

    def held_memory(self) -> list[Memory]:
        return [Memory("CPU", 0, 1000)]


HOLDER = """backend: "tests.server.test_statistics:Holder"
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
parameters { key: "held" value: { string_value: "30" } }
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    for name in ("rep", "gone"):
        write_model(root / name, {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    write_model(root / "holder", {"config.pbtxt": HOLDER, "1": None})
    with serve(root) as running:
        yield running


def of_http(server: Server, model: str) -> dict[str, Any]:
    body = urlopen(f"{server.http_url}/v2/models/{model}/stats").read()
    told: dict[str, Any] = json.loads(body)["model_stats"][0]
    return told


def of_grpc(server: Server, model: str) -> Any:
    with grpcclient.InferenceServerClient(server.grpc_url) as triton:
        return triton.get_inference_statistics(model).model_stats[0]


def stream(server: Server, n: int, mode: str, model: str = "rep", leaves: bool = False) -> None:
    """Asks once and reads all that comes, or leaves with the first response."""
    ended = threading.Event()
    with grpcclient.InferenceServerClient(server.grpc_url) as triton:

        def came(result: Any, error: Any) -> None:
            last = error is None and result.get_response().parameters["triton_final_response"]
            if leaves or mode == "raise" or (last and last.bool_param):
                ended.set()

        inputs = [
            grpcclient.InferInput("N", [1], "INT32"),
            grpcclient.InferInput("MODE", [1], "BYTES"),
        ]
        inputs[0].set_data_from_numpy(np.array([n], np.int32))
        inputs[1].set_data_from_numpy(np.array([mode.encode()], object))
        triton.start_stream(came)
        triton.async_stream_infer(model, inputs, enable_empty_final_response=True)
        assert ended.wait(20)
        triton.stop_stream(cancel_requests=leaves)


def test_responses_of_decoupled_models_are_told_by_their_place(server: Server) -> None:
    stream(server, 3, "plain")
    stream(server, 2, "with_last")
    stream(server, 0, "plain")
    stream(server, 1, "error")
    stream(server, 1, "raise")
    told = of_http(server, "rep")["response_stats"]
    counts = {place: [at[kind]["count"] for kind in KINDS] for place, at in told.items()}
    assert counts == {
        # Computed, taken over, responses, errors, ends without a response, for nobody.
        "0": [5, 4, 3, 1, 1, 0],
        "1": [3, 3, 2, 1, 0, 0],
        "2": [2, 1, 1, 0, 1, 0],
        "3": [1, 0, 0, 0, 1, 0],
    }
    for place in ("0", "1", "2"):
        at = told[place]
        assert at["success"]["ns"] > at["success"]["count"] * 10_000_000, "the model slept so long"
        assert at["compute_infer"]["ns"] > at["success"]["count"] * 10_000_000
        assert 0 < at["compute_output"]["ns"] < at["compute_infer"]["ns"]
    same = of_grpc(server, "rep").response_stats
    assert {
        place: {kind: (getattr(at, kind).count, getattr(at, kind).ns) for kind in KINDS}
        for place, at in same.items()
    } == {
        place: {kind: (at[kind]["count"], at[kind]["ns"]) for kind in KINDS}
        for place, at in told.items()
    }


def test_what_is_made_for_a_client_that_is_gone_is_told_as_cancelled(server: Server) -> None:
    stream(server, 1, "left", "gone", leaves=True)
    told: dict[str, Any] = {}
    while "2" not in told:
        told = of_http(server, "gone")["response_stats"]
    assert [told[place]["cancel"]["count"] for place in ("0", "1", "2")] == [0, 1, 1]
    assert [told[place]["compute_infer"]["count"] for place in ("0", "1", "2")] == [1, 0, 0]


def test_memory_is_what_backends_say_that_they_hold_and_shared_things_once(server: Server) -> None:
    held = [
        {"type": "CPU", "id": 0, "byte_size": 1060},
        {"type": "GPU", "id": 1, "byte_size": 14},
    ]
    assert of_http(server, "holder")["memory_usage"] == held
    same = of_grpc(server, "holder").memory_usage
    assert [{"type": m.type, "id": m.id, "byte_size": m.byte_size} for m in same] == held
    assert of_http(server, "rep")["memory_usage"] == []
    assert len(of_grpc(server, "rep").memory_usage) == 0
