# SPDX-License-Identifier: Apache-2.0
"""How long calls and connections of gRPC may last: deadlines, keep-alive pings, connection age."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from tests.http2 import called, frames, http2_frame, opening
from tritonclient.grpc import service_pb2

from nerite.errors import InvalidArgument
from nerite.server.options import ServerOptions
from nerite.server.server import Server
from nerite.testing import serve

MODEL = """
import nerite_test_gate as gate
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(0)
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]})
        return config

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            gate.seen.append(x.tolist())
            gate.entered.set()
            assert gate.open.wait(15)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
        return answers
"""
INFER = "/inference.GRPCInferenceService/ModelInfer"
GOAWAY, PING, ACK = 7, 6, 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Where the model waits until a test lets it go on."""
    module = types.ModuleType("nerite_test_gate")
    module.open, module.entered = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    module.seen = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nerite_test_gate", module)
    yield module
    module.open.set()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("gated")
    (root / "gated/1").mkdir(parents=True)
    (root / "gated/1/model.py").write_text(MODEL)
    return root


def address(server: Server) -> tuple[str, int]:
    host, _, port = server.grpc_url.partition(":")
    return host, int(port)


def framed(*numbers: float) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="gated")
    request.inputs.add(name="X", datatype="FP32", shape=[len(numbers)])
    request.raw_input_contents.append(struct.pack(f"<{len(numbers)}f", *numbers))
    message = request.SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


def test_a_deadline_ends_a_call_and_frees_its_place(repository: Any, gate: Any) -> None:
    with serve(repository) as server:
        with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
            tensor = tritonclient.grpc.InferInput("X", [1], "FP32")
            tensor.set_data_from_numpy(np.ones(1, np.float32))
            done = threading.Event()
            client.async_infer("gated", [tensor], lambda result, error: done.set())
            assert gate.entered.wait(10)
            for limit in ("20m", "20000u", "1n"):  # they wait behind the first, and leave
                fields, data = called(address(server), INFER, framed(2), {"grpc-timeout": limit})
                assert (fields["grpc-status"], fields["grpc-message"], data) == (
                    "4",
                    "Deadline Exceeded",
                    b"",
                )
            assert server.engine.counters()["in_flight"] == 1
            gate.open.set()
            assert done.wait(10)
        fields, data = called(address(server), INFER, framed(3), {"grpc-timeout": "10S"})
        assert fields["grpc-status"] == "0"
        assert gate.seen == [[1.0], [3.0]]  # nobody computed what nobody waited for


def test_a_deadline_that_is_none_is_told(repository: Any, gate: Any) -> None:
    gate.open.set()
    with serve(repository) as server:
        fields, _ = called(address(server), INFER, framed(1), {"grpc-timeout": "5s"})
        assert fields["grpc-status"] == "13"
        assert "grpc-timeout" in fields["grpc-message"]


def test_a_silent_peer_is_asked_and_one_that_does_not_answer_is_let_go(repository: Any) -> None:
    limits = {"grpc_keepalive_time_ms": 100, "grpc_keepalive_timeout_ms": 200}
    with serve(repository, wait=None, **limits) as server:
        with socket.create_connection(address(server), timeout=10) as raw:
            raw.sendall(opening("/grpc.health.v1.Health/Check") + http2_frame(0, 1, 1, b""))
            with raw.makefile("rb") as stream:
                answered = 0
                for frame in frames(stream):
                    if frame.kind == PING and not frame.flags & ACK:
                        if answered == 3:
                            break  # from here on it is silent
                        answered += 1
                        raw.sendall(http2_frame(PING, ACK, 0, frame.payload))
                rest = list(frames(stream))
        assert all(frame.kind in (GOAWAY, PING) for frame in rest)
        with grpc.insecure_channel(server.grpc_url) as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert live(b"", timeout=10) == b"\x08\x01"


def test_an_old_connection_is_told_to_go(repository: Any) -> None:
    with serve(repository, wait=None, grpc_max_connection_age_ms=200) as server:
        with socket.create_connection(address(server), timeout=10) as raw:
            raw.sendall(opening("/grpc.health.v1.Health/Check") + http2_frame(0, 1, 1, b""))
            told = []
            with raw.makefile("rb") as stream:
                for frame in frames(stream):
                    told.append(frame.kind)
                    if frame.kind == PING and not frame.flags & ACK:
                        raw.sendall(http2_frame(PING, ACK, 0, frame.payload))
        assert GOAWAY in told
        with grpc.insecure_channel(server.grpc_url) as channel:  # which makes another by itself
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            channel.subscribe((states := []).append)  # type: ignore[var-annotated]
            while states.count(grpc.ChannelConnectivity.IDLE) < 2:
                assert live(b"", timeout=10, wait_for_ready=True) == b"\x08\x01"


def test_calls_of_an_old_connection_have_a_grace(repository: Any, gate: Any) -> None:
    ages = {"grpc_max_connection_age_ms": 100, "grpc_max_connection_age_grace_ms": 100}
    with serve(repository, **ages) as server:
        with socket.create_connection(address(server), timeout=10) as raw:
            raw.sendall(opening(INFER) + http2_frame(0, 1, 1, framed(1)))
            assert gate.entered.wait(10)
            with raw.makefile("rb") as stream:
                kinds = [frame.kind for frame in frames(stream)]
        assert GOAWAY in kinds
        assert 0 not in kinds  # it is still computed
        gate.open.set()
    with serve(repository, **(ages | {"grpc_max_connection_age_grace_ms": 10_000})) as server:
        gate.open.clear()
        gate.entered.clear()
        with socket.create_connection(address(server), timeout=10) as raw:
            raw.sendall(opening(INFER) + http2_frame(0, 1, 1, framed(1)))
            assert gate.entered.wait(10)
            kinds = []
            with raw.makefile("rb") as stream:
                for frame in frames(stream):
                    kinds.append(frame.kind)
                    if frame.kind == PING and not frame.flags & ACK:
                        raw.sendall(http2_frame(PING, ACK, 0, frame.payload))
                    if frame.kind == GOAWAY:
                        gate.open.set()
        assert kinds.index(GOAWAY) < kinds.index(0)  # answered after it was told to go


def test_a_stop_does_not_wait_for_a_peer_that_has_not_opened(repository: Any) -> None:
    """It took as long as the exit timeout: the HTTP/2 library waits for the preface first."""
    with serve(repository, wait=None, exit_timeout_secs=30) as server:
        raw = socket.create_connection(address(server), timeout=10)
        raw.sendall(b"PRI * HTTP/2.0")
        while server.engine.counters()["connections"] == 0:
            time.sleep(0.001)
        assert server.stop(5)
        raw.close()


def test_times_out_of_range_are_refused() -> None:
    for name in ("keepalive_time", "keepalive_timeout", "max_connection_age"):
        with pytest.raises(InvalidArgument, match=f"option 'grpc_{name}_ms' is 0"):
            ServerOptions(**{f"grpc_{name}_ms": 0})
