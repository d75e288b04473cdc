# SPDX-License-Identifier: Apache-2.0
"""Bodies that take longer than the arrival timeout, and what comes behind those in pieces."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest
from tests.kserve.stubs import Call, Handler, stubs
from tests.kserve.test_gateway import gateway, predictor
from tests.model_folders import write_model

from nerite.server.server import Server
from nerite.testing import serve

PATIENCE = 0.8
CONFIG = """backend: "python" max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
#: Answers three times as late as a body may.
MODEL = f"""
import time
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep({3 * PATIENCE})
        x = [utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [utils.InferenceResponse([utils.Tensor("Y", one)]) for one in x]
"""
TENSOR = {"name": "X", "datatype": "FP32", "shape": [1], "data": [1]}
BODY = json.dumps({"inputs": [TENSOR]}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("slow")
    write_model(root / "m", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    write_model(root / "quick", {"config.pbtxt": CONFIG.replace("python", "identity"), "1/": None})
    with serve(root, header_timeout_secs=PATIENCE) as running:
        yield running


def pause(seconds: float) -> None:
    """What is tested is the passing of time."""
    threading.Event().wait(seconds)


def send(raw: socket.socket, model: str, pieces: int, seconds: float, body: bytes = BODY) -> None:
    """A request whose body comes in `pieces`, over that time."""
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    raw.sendall(head.encode())
    size = -(-len(body) // pieces)
    for start in range(0, len(body), size):
        pause(seconds / pieces)
        raw.sendall(body[start : start + size])


def status(raw: socket.socket) -> int:
    told = HTTPResponse(raw)
    told.begin()
    told.read()
    return told.status


def test_a_model_may_take_longer_than_its_request_took_to_come(server: Server) -> None:
    """A body in two pieces was taken for the next request's head, and its connection ended."""
    with socket.create_connection(server.ports["http"], timeout=10) as raw:
        send(raw, "m", 2, 0.1)
        assert status(raw) == 200


def test_a_connection_may_rest_after_a_body_in_pieces(server: Server) -> None:
    with socket.create_connection(server.ports["http"], timeout=10) as raw:
        for _ in range(2):
            send(raw, "quick", 2, 0.1)
            assert status(raw) == 200
            pause(3 * PATIENCE)


def test_a_body_that_keeps_coming_may_take_longer_than_one_that_stops(server: Server) -> None:
    with socket.create_connection(server.ports["http"], timeout=10) as raw:
        send(raw, "quick", 20, 4 * PATIENCE, BODY + b" " * 100_000)
        assert status(raw) == 200


def test_it_may_through_a_gateway_too_and_one_that_stops_is_told_so() -> None:
    with (
        stubs({"*": {"echo": True}}) as made,
        gateway(predictor(made), arrival_timeout_secs=PATIENCE) as gate,
        socket.create_connection(("127.0.0.1", gate.port), timeout=10) as raw,
    ):
        send(raw, "quick", 20, 4 * PATIENCE, BODY + b" " * 100_000)
        assert status(raw) == 200
        pause(3 * PATIENCE)
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        assert status(raw) == 408


def test_a_component_may_take_longer_than_its_request_took_to_come() -> None:
    def late(handler: Handler, call: Call) -> None:
        pause(3 * PATIENCE)
        handler.reply(200, {}, call.body)

    with (
        stubs({"*": late}) as made,
        gateway(predictor(made), arrival_timeout_secs=PATIENCE) as gate,
        socket.create_connection(("127.0.0.1", gate.port), timeout=10) as raw,
    ):
        send(raw, "any", 2, 0.1)
        assert status(raw) == 200


def test_a_gateway_reaches_a_component_through_a_file(tmp_path: Path) -> None:
    root = tmp_path / "models"
    write_model(root / "m", {"config.pbtxt": CONFIG.replace("python", "identity"), "1/": None})
    address = f"unix:{tmp_path / 'h.sock'}"
    with (
        serve(root, http_address=address),
        gateway(predictor(address)) as gate,
        socket.create_connection(("127.0.0.1", gate.port), timeout=10) as raw,
    ):
        send(raw, "m", 1, 0)
        assert status(raw) == 200
