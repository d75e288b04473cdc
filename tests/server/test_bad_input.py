# SPDX-License-Identifier: Apache-2.0
"""Whatever a client sends, on either protocol, the next request is answered."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.http2 import http2_frame, opening
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ 2 ] }
input { name: "S" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "OX" data_type: TYPE_FP32 dims: [ 2 ] }
output { name: "OS" data_type: TYPE_STRING dims: [ 1 ] }
"""
BROKEN = CONFIG.replace("dims: [ 2 ]", "dims: [ 0 ]", 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("bad-input")
    for name, text in {"two": CONFIG, "broken": BROKEN, "corrupt": "", "absent": ""}.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(text)
    (root / "corrupt/1/model.onnx").write_bytes(b"this is no protobuf")
    (root / "absent/config.pbtxt").write_text('backend: "openvino"\nmax_batch_size: 0\n')
    with serve(root, wait=None, header_timeout_secs=0.5, max_message_bytes=4096) as running:
        assert running.wait_loaded(30)
        yield running


@pytest.fixture(params=["http", "grpc"])
def spoken(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    module = tritonclient.http if request.param == "http" else tritonclient.grpc
    url = server.http_url.removeprefix("http://") if request.param == "http" else server.grpc_url
    client = module.InferenceServerClient(url)
    client.module = module
    yield client
    client.close()
    alive(server)


def alive(server: Server) -> None:
    """A right request is answered on both ports."""
    urls = {
        tritonclient.http: server.http_url.removeprefix("http://"),
        tritonclient.grpc: server.grpc_url,
    }
    for module, url in urls.items():
        with module.InferenceServerClient(url) as client:
            client.module = module
            answer = client.infer("two", tensors(client))
            assert answer.as_numpy("OX").tolist() == [[1.0, 2.0]]
    assert server.engine.counters()["in_flight"] == 0


def tensors(client: Any, **changes: Any) -> list[Any]:
    """The right inputs, with some put in other words."""
    made = []
    for name, array, kind in (
        ("X", np.array([[1, 2]], np.float32), "FP32"),
        ("S", np.array([[b"s"]], object), "BYTES"),
    ):
        name, array, kind = changes.get(name, (name, array, kind))
        tensor = client.module.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def refused(client: Any, model: str, inputs: list[Any], **options: Any) -> str:
    with pytest.raises(InferenceServerException) as told:
        client.infer(model, inputs, **options)
    return str(told.value)


def test_an_unknown_model(spoken: Any) -> None:
    told = refused(spoken, "nosuch", tensors(spoken))
    assert "Request for unknown model: 'nosuch' is not found" in told


def test_an_unknown_version(spoken: Any) -> None:
    told = refused(spoken, "two", tensors(spoken), model_version="9")
    assert "Request for unknown model: 'two' version 9 is not found" in told


def test_a_wrong_name(spoken: Any) -> None:
    inputs = tensors(spoken, X=("Z", np.zeros((1, 2), np.float32), "FP32"))
    assert "unexpected inference input 'Z' for model 'two'" in refused(spoken, "two", inputs)


def test_a_wrong_shape(spoken: Any) -> None:
    inputs = tensors(spoken, X=("X", np.zeros((1, 3), np.float32), "FP32"))
    told = refused(spoken, "two", inputs)
    assert "unexpected shape for input 'X' for model 'two'. Expected [-1,2], got [1,3]" in told


def test_a_wrong_type(spoken: Any) -> None:
    inputs = tensors(spoken, X=("X", np.zeros((1, 2), np.int32), "INT32"))
    told = refused(spoken, "two", inputs)
    assert "inference input 'X' data-type is 'INT32', but model 'two' expects 'FP32'" in told


def test_a_missing_input(spoken: Any) -> None:
    told = refused(spoken, "two", tensors(spoken)[:1])
    assert "expected 2 inputs but got 1 inputs for model 'two'" in told
    assert "missing required input(s) ['S']" in told


def test_a_surplus_input(spoken: Any) -> None:
    more = spoken.module.InferInput("MORE", [1, 1], "FP32")
    more.set_data_from_numpy(np.zeros((1, 1), np.float32))
    told = refused(spoken, "two", [*tensors(spoken), more])
    assert "expected 2 inputs but got 3 inputs for model 'two'" in told


def test_an_output_that_is_not_there(spoken: Any) -> None:
    wanted = [spoken.module.InferRequestedOutput("NOPE")]
    told = refused(spoken, "two", tensors(spoken), outputs=wanted)
    assert "unexpected inference output 'NOPE' for model 'two'" in told


def test_a_batch_that_is_too_large(spoken: Any) -> None:
    inputs = tensors(
        spoken,
        X=("X", np.zeros((5, 2), np.float32), "FP32"),
        S=("S", np.full((5, 1), b"s", object), "BYTES"),
    )
    told = refused(spoken, "two", inputs)
    assert "inference request batch-size must be <= 4 for 'two'" in told


def test_batches_that_disagree(spoken: Any) -> None:
    inputs = tensors(spoken, X=("X", np.zeros((2, 2), np.float32), "FP32"))
    assert "batch size does not match other inputs for 'two'" in refused(spoken, "two", inputs)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("broken", "dimension must be integer >= 1, or -1"),
        ("corrupt", "model.onnx"),
        ("absent", "openvino"),
    ],
)
def test_a_model_that_cannot_be_loaded(
    server: Server, spoken: Any, model: str, reason: str
) -> None:
    assert f"Request for unknown model: '{model}'" in refused(spoken, model, tensors(spoken))
    told = {entry.name: entry.reason for entry in server.states.index()}
    assert reason in told[model]


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def infer_message(**header: Any) -> bytes:
    body = json.dumps(header).encode()
    head = f"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


LYING_HTTP = {
    "broken JSON": infer_message(inputs=[])[:-1] + b"}",
    "deep JSON": infer_message(inputs=json.loads("[" * 90 + "]" * 90)),
    "huge shape": infer_message(
        inputs=[{"name": "X", "datatype": "FP32", "shape": [2**31, 2**31], "data": []}]
    ),
    "lying binary size": infer_message(
        inputs=[
            {
                "name": "X",
                "datatype": "FP32",
                "shape": [1, 2],
                "parameters": {"binary_data_size": 2**40},
            }
        ]
    ),
    "lying body length": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 99999999999999\r\n\r\n",
    "lying header length": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Inference-Header-Content-Length: 4000000000\r\n\r\n{}",
    "two lengths": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Content-Length: 3\r\n\r\n{}",
    "half a body, then nothing": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\n"
    b'Content-Length: 100\r\n\r\n{"inputs"',
}


@pytest.mark.parametrize("name", LYING_HTTP)
def test_http_that_lies_gets_a_4xx(server: Server, name: str) -> None:
    with socket.create_connection(address(server.http_url), timeout=10) as raw:
        raw.sendall(LYING_HTTP[name])
        assert raw.recv(4096).startswith(b"HTTP/1.1 4"), name
    alive(server)


def test_a_head_that_never_ends_is_cut_off(server: Server) -> None:
    with socket.create_connection(address(server.http_url), timeout=10) as raw:
        raw.sendall(b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert raw.recv(4096) == b""  # closed, nothing was asked yet
    alive(server)


def test_a_client_that_hangs_up_in_the_middle_harms_nobody(server: Server) -> None:
    for url in (server.http_url, server.grpc_url):
        with socket.create_connection(address(url), timeout=10) as raw:
            raw.sendall(b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n")
    alive(server)


def wire_tensor(**changes: Any) -> bytes:
    fields: dict[str, Any] = {"name": "X", "datatype": "FP32", "shape": [1, 2]} | changes
    request = service_pb2.ModelInferRequest(model_name="two")
    request.inputs.add(**fields)
    request.raw_input_contents.append(struct.pack("<2f", 1, 2))
    return request.SerializeToString()


LYING_GRPC = {
    "broken protobuf": (b"\xff\xff\xff", "INTERNAL"),
    "a length past the end": (b"\x0a\xff\xff\xff\xff\x07two", "INTERNAL"),
    "huge shape": (wire_tensor(shape=[2**62, 2**62]), "INVALID_ARGUMENT"),
    "negative shape": (wire_tensor(shape=[-5, 2]), "INVALID_ARGUMENT"),
    "a message over the limit": (b"\x0a\x04two " * 2000, "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize("name", LYING_GRPC)
def test_grpc_that_lies_gets_a_status(server: Server, name: str) -> None:
    message, code = LYING_GRPC[name]
    with grpc.insecure_channel(server.grpc_url) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as told:
            infer(message, timeout=10)
    assert told.value.code().name == code
    alive(server)


CALL_HEAD = opening("/inference.GRPCInferenceService/ModelInfer")
HALF_A_CALL = CALL_HEAD + http2_frame(0, 0, 1, b"\0\0\0\1\0" + b"half of it")


def test_a_grpc_message_that_never_ends_is_answered_and_let_go(server: Server) -> None:
    with socket.create_connection(address(server.grpc_url), timeout=10) as raw:
        raw.sendall(HALF_A_CALL)
        stream = raw.makefile("rb")
        ended = False
        while not ended:
            head = stream.read(9)
            assert head, "the connection closed without an answer"
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            number = int.from_bytes(head[5:9], "big")
            stream.read(length)
            ended = number == 1 and kind == 1 and flags & 1 == 1  # headers that end the stream
    alive(server)


CUT_OFF_GRPC = {
    "nothing": b"",
    "half a preface": b"PRI * HTTP/2.0\r\n",
    "a preface without settings": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "half a frame's head": HALF_A_CALL[: 24 + 9 + 4],
    "half a call's headers": CALL_HEAD[:-3],
    "headers to be continued": CALL_HEAD[: 24 + 9 + 4] + b"\0" + CALL_HEAD[24 + 9 + 5 :],
}


@pytest.mark.parametrize("name", CUT_OFF_GRPC)
def test_a_grpc_peer_that_stops_before_it_has_called_is_let_go(server: Server, name: str) -> None:
    """It held its place among the connections for two hours: only calls were watched."""
    with socket.create_connection(address(server.grpc_url), timeout=10) as raw:
        raw.sendall(CUT_OFF_GRPC[name])
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):  # the server's own settings
                pass
    alive(server)


def test_a_grpc_peer_that_has_opened_may_wait_for_its_first_call(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        grpc.channel_ready_future(channel).result(10)
        with socket.create_connection(address(server.grpc_url), timeout=10) as swept:
            while swept.recv(4096):  # whoever opened before it would have gone before it
                pass
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=10) == b"\x08\x01"
        assert grpc.ChannelConnectivity.IDLE not in states


def test_a_grpc_port_spoken_to_in_http_1_closes(server: Server) -> None:
    with socket.create_connection(address(server.grpc_url), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
    alive(server)
