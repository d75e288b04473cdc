# SPDX-License-Identifier: Apache-2.0
"""Compressed requests and answers on both ports, with Triton's client and to the byte."""

from __future__ import annotations

import gzip
import http.client
import json
import resource
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import zstandard
from tests.http2 import called
from tritonclient.grpc import service_pb2

from nerite.errors import InvalidArgument
from nerite.server.options import ServerOptions
from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
LIMIT = 8 << 20
#: One that is handled where it comes in, one that is given to a thread of its own.
SIZES = (64, 300_000)
INFER = "/inference.GRPCInferenceService/ModelInfer"

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}
EXPAND: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("compression")
    (root / "echo/1").mkdir(parents=True)
    (root / "echo/config.pbtxt").write_text(CONFIG)
    options = {"max_request_bytes": LIMIT, "max_message_bytes": LIMIT, "grpc_compression": "low"}
    with serve(root, **options) as running:
        yield running


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def numbers(count: int) -> Any:
    return np.arange(count, dtype=np.float32) % 7


def post(server: Server, body: bytes, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(*address(server.http_url), timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/v2/models/echo/infer", body, named)
    answer = connection.getresponse()
    told = answer.status, answer.headers, answer.read()
    connection.close()
    return told


def json_request(count: int) -> bytes:
    tensor = {"name": "X", "datatype": "FP32", "shape": [count], "data": numbers(count).tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_tritons_http_client_compresses_both_ways(
    server: Server, encoding: str, binary: bool, count: int
) -> None:
    tensor = tritonclient.http.InferInput("X", [count], "FP32")
    tensor.set_data_from_numpy(numbers(count), binary_data=binary)
    wanted = tritonclient.http.InferRequestedOutput("Y", binary_data=binary)
    with tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://")) as client:
        answer = client.infer(
            "echo",
            [tensor],
            outputs=[wanted],
            request_compression_algorithm=encoding,
            response_compression_algorithm=encoding,
        )
        assert np.array_equal(answer.as_numpy("Y"), numbers(count))


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("encoding", COMPRESS)
def test_http_bodies_in_every_encoding(server: Server, encoding: str, count: int) -> None:
    body = COMPRESS[encoding](json_request(count))
    status, headers, answer = post(
        server, body, Content_Encoding=encoding, Accept_Encoding=encoding
    )
    assert (status, headers["Content-Encoding"]) == (200, encoding)
    assert len(answer) == int(headers["Content-Length"])
    told = json.loads(EXPAND[encoding](answer))
    assert told["outputs"][0]["data"] == numbers(count).tolist()


def test_an_answer_that_would_not_get_shorter_is_sent_as_it_is(server: Server) -> None:
    noise = np.random.default_rng(1).integers(0, 2**32, 100_000, np.uint32).tobytes()
    tensor = {"name": "X", "datatype": "FP32", "shape": [100_000]}
    tensor["parameters"] = {"binary_data_size": len(noise)}
    head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": [tensor]}).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    status, headers, answer = post(server, head + noise, Accept_Encoding="zstd", **length)
    assert (status, headers["Content-Encoding"]) == (200, None)
    assert answer[int(headers["Inference-Header-Content-Length"]) :] == noise


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_goes_off_nowhere(server: Server, encoding: str) -> None:
    bomb = COMPRESS[encoding](bytes(400 << 20))
    assert len(bomb) < LIMIT
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, _, answer = post(server, bomb, Content_Encoding=encoding)
    assert status == 413
    text = f"request body decompressed from {encoding} exceeds the limit of {LIMIT} bytes"
    assert text in answer.decode()
    bomb = COMPRESS[encoding](bytes(40 << 20))
    framed = struct.pack(">BI", 1, len(bomb)) + bomb
    fields, _ = called(address(server.grpc_url), INFER, framed, {"grpc-encoding": encoding})
    assert fields["grpc-status"] == "8"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 << 10, f"{grown} KiB for {LIMIT} bytes"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_damaged_bodies_are_refused(server: Server, encoding: str) -> None:
    whole = COMPRESS[encoding](json_request(64))
    for body in (whole[:-1], whole + b"x", json_request(64)):
        status, _, answer = post(server, body, Content_Encoding=encoding)
        assert status == 400
        assert f"is no complete {encoding} data" in answer.decode()
    status, headers, answer = post(server, whole, Content_Encoding="br")
    assert (status, headers["Accept-Encoding"]) == (501, "gzip, deflate, zstd")
    assert json.loads(answer) == {"error": "Unsupported compression type"}


def grpc_request(count: int) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="echo")
    request.inputs.add(name="X", datatype="FP32", shape=[count])
    request.raw_input_contents.append(numbers(count).tobytes())
    return request.SerializeToString()


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_tritons_grpc_client_compresses(server: Server, encoding: str, count: int) -> None:
    tensor = tritonclient.grpc.InferInput("X", [count], "FP32")
    tensor.set_data_from_numpy(numbers(count))
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        answer = client.infer("echo", [tensor], compression_algorithm=encoding)
        assert np.array_equal(answer.as_numpy("Y"), numbers(count))
        assert client.is_server_ready()


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("identity, deflate, gzip", "gzip"), ("deflate", "deflate"), ("zstd,identity", "zstd")],
)
def test_grpc_answers_are_compressed_for_those_who_can_read_them(
    server: Server, accepted: str, encoding: str
) -> None:
    for count in SIZES:
        message = COMPRESS[encoding](grpc_request(count))
        framed = struct.pack(">BI", 1, len(message)) + message
        headers = {"grpc-encoding": encoding, "grpc-accept-encoding": accepted}
        fields, data = called(address(server.grpc_url), INFER, framed, headers)
        assert fields["grpc-encoding"] == encoding
        flag, length = struct.unpack(">BI", data[:5])
        assert (flag, length) == (1, len(data) - 5)
        answer = service_pb2.ModelInferResponse.FromString(EXPAND[encoding](data[5:]))
        assert answer.raw_output_contents[0] == numbers(count).tobytes()


def test_grpc_answers_stay_plain_for_all_others(server: Server) -> None:
    message = grpc_request(500)
    framed = struct.pack(">BI", 0, len(message)) + message
    for headers in ({}, {"grpc-accept-encoding": "identity,snappy"}):
        fields, data = called(address(server.grpc_url), INFER, framed, headers)
        assert (data[0], fields.get("grpc-encoding")) == (0, None)
        answer = service_pb2.ModelInferResponse.FromString(data[5:])
        assert answer.raw_output_contents[0] == numbers(500).tobytes()


@pytest.mark.parametrize(
    ("encoding", "status", "text"),
    [
        ("snappy", "12", "grpc-encoding 'snappy' is not offered; identity,gzip,deflate,zstd are"),
        ("gzip", "13", "message has grpc-encoding 'gzip', but is no complete gzip data"),
        ("", "13", "message is marked as compressed, but grpc-encoding does not say how"),
    ],
)
def test_compressed_messages_that_cannot_be_read_are_refused(
    server: Server, encoding: str, status: str, text: str
) -> None:
    message = grpc_request(4)
    framed = struct.pack(">BI", 1, len(message)) + message
    headers = {"grpc-encoding": encoding} if encoding else {}
    fields, _ = called(address(server.grpc_url), INFER, framed, headers)
    assert (fields["grpc-status"], fields["grpc-message"]) == (status, text)
    offered = "identity,gzip,deflate,zstd" if encoding else None
    assert fields.get("grpc-accept-encoding") == offered


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="one of none, low, medium, high is expected"):
        ServerOptions(grpc_compression="max")
