# SPDX-License-Identifier: Apache-2.0
"""Compressed requests and answers on both ports, with Triton's client and to the byte."""

from __future__ import annotations

import gzip
import http.client
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import zstandard
from tests.http2 import called
from tritonclient.grpc import service_pb2

from nerite.errors import InvalidArgument
from nerite.server.door_options import DoorOptions
from nerite.server.options import ServerOptions
from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
LIMIT = 8 << 20
V1_CONFIG = CONFIG.replace("max_batch_size: 0", "max_batch_size: 8")
DOORS = DoorOptions(
    sagemaker=True,
    sagemaker_port=0,
    sagemaker_model="echo",
    vertex_ai=True,
    vertex_ai_port=0,
    vertex_ai_model="echo",
    vertex_ai_predict_route="/predict",
    vertex_ai_health_route="/health",
)
#: One that is handled where it comes in, one that is given to a thread of its own.
SIZES = (64, 300_000)
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"

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
    for name, config in {"echo": CONFIG, "rows": V1_CONFIG}.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(config)
    options = {"max_request_bytes": LIMIT, "grpc_compression": "low", "doors": DOORS}
    with serve(root, **options) as running:
        yield running


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def numbers(count: int) -> Any:
    return np.arange(count, dtype=np.float32) % 7


def post(
    server: Server, body: bytes, path: str = "/v2/models/echo/infer", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(*address(server.http_url), timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, named)
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


def bomb(encoding: str, size: int) -> bytes:
    """So many zeros, compressed without ever being in memory."""
    packer: Any = {
        "gzip": lambda: zlib.compressobj(wbits=31),
        "deflate": zlib.compressobj,
        "zstd": zstandard.ZstdCompressor().compressobj,
    }[encoding]()
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(size >> 20)) + packer.flush()


class Peak:
    """The most memory that this process has used since, in bytes."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._told("VmRSS")

    @staticmethod
    def _told(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) << 10

    def grown(self) -> int:
        return self._told("VmHWM") - self.before


@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/v1/models/rows:predict"])
@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_over_http_goes_off_nowhere(server: Server, encoding: str, path: str) -> None:
    sent = bomb(encoding, 400 << 20)
    assert len(sent) < LIMIT
    peak = Peak()
    status, _, answer = post(server, sent, path, Content_Encoding=encoding)
    assert status == 413
    text = f"request body decompressed from {encoding} exceeds the limit of {LIMIT} bytes"
    assert text in answer.decode()
    assert peak.grown() < 5 * LIMIT


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_bomb_over_grpc_goes_off_nowhere(server: Server, encoding: str, method: str) -> None:
    """Plain messages may have 2 GiB; a short compressed one may become what HTTP takes."""
    sent = bomb(encoding, 56 << 20)
    framed = struct.pack(">BI", 1, len(sent)) + sent
    peak = Peak()
    path = f"/inference.GRPCInferenceService/{method}"
    fields, _ = called(address(server.grpc_url), path, framed, {"grpc-encoding": encoding})
    assert fields["grpc-status"] == "8"
    assert fields["grpc-message"] == (
        f"Received message larger than max (more vs. {LIMIT}) once decompressed. Compressed "
        "messages may become as long as --http-max-input-size says, or 32 times as long as they "
        "are sent."
    )
    assert peak.grown() < 5 * LIMIT


def test_a_long_message_that_shrinks_as_tensors_do_is_taken(server: Server) -> None:
    """Ten times as long as what HTTP would take, and 20 times as long as it is sent."""
    noise = np.random.default_rng(1).integers(0, 2**16, LIMIT // 8, np.uint16)
    array = np.repeat(noise, 20).view(np.float32)
    assert array.nbytes > 2 * LIMIT
    request = service_pb2.ModelInferRequest(model_name="echo")
    request.inputs.add(name="X", datatype="FP32", shape=[array.size])
    request.raw_input_contents.append(array.tobytes())
    with grpc.insecure_channel(
        server.grpc_url, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        infer = channel.unary_unary(INFER)
        message = request.SerializeToString()
        told = infer(message, timeout=60, compression=grpc.Compression.Gzip)
    answer = service_pb2.ModelInferResponse.FromString(told)
    assert answer.raw_output_contents[0] == array.tobytes()


@pytest.mark.parametrize(
    ("door", "path"), [("sagemaker", "/invocations"), ("vertex_ai", "/predict")]
)
@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_doors_of_clouds_take_compressed_bodies_under_the_same_limit(
    server: Server, encoding: str, door: str, path: str
) -> None:
    for body, status in (
        (COMPRESS[encoding](json_request(64)), 200),
        (bomb(encoding, 40 << 20), 413),
    ):
        connection = http.client.HTTPConnection(*server.ports[door], timeout=20)
        connection.request("POST", path, body, {"Content-Encoding": encoding})
        answer = connection.getresponse()
        assert answer.status == status, answer.read()
        if status == 200:
            assert json.loads(answer.read())["outputs"][0]["data"] == numbers(64).tolist()
        connection.close()


V1 = "/v1/models/rows:predict"


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("encoding", COMPRESS)
def test_v1_takes_bodies_in_every_encoding(server: Server, encoding: str, count: int) -> None:
    rows = [numbers(count).tolist()]
    body = COMPRESS[encoding](json.dumps({"instances": rows}).encode())
    status, _, answer = post(server, body, V1, Content_Encoding=encoding)
    assert (status, json.loads(answer)) == (200, {"predictions": rows})


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        ("/v2/repository/index", {"ready": True}, 200),
        ("/v2/logging", {"log_verbose_level": 0}, 200),
        ("/v2/trace/setting", {}, 200),
        ("/v2/repository/models/echo/load", {"parameters": {}}, 503),
        ("/v2/systemsharedmemory/region/a/register", {"key": "/a", "byte_size": 8}, 501),
    ],
)
def test_every_route_that_reads_a_body_reads_a_compressed_one(
    server: Server, path: str, document: Any, status: int
) -> None:
    plain = json.dumps(document).encode()
    wanted = post(server, plain, path)
    assert wanted[0] == status
    for encoding, compress in COMPRESS.items():
        got = post(server, compress(plain), path, Content_Encoding=encoding)
        assert (got[0], got[2]) == (status, wanted[2]), encoding
    refused = post(server, plain, path, Content_Encoding="br")
    assert (refused[0], json.loads(refused[2])) == (501, {"error": "Unsupported compression type"})


def test_a_body_that_is_compressed_twice_is_refused_rather_than_read_as_one(
    server: Server,
) -> None:
    body = gzip.compress(gzip.compress(json_request(4)))
    for path in ("/v2/models/echo/infer", V1):
        assert post(server, body, path, Content_Encoding="gzip, gzip")[0] == 501
        connection = http.client.HTTPConnection(*address(server.http_url), timeout=20)
        connection.putrequest("POST", path)
        for name, value in (
            ("Content-Length", str(len(body))),
            *[("Content-Encoding", "gzip")] * 2,
        ):
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        assert answer.status == 501
        assert b"Unsupported compression type" in answer.read()
        connection.close()


@pytest.mark.parametrize("encoding", [*COMPRESS, "br"])
def test_generate_takes_plain_bodies_only_as_triton_does(server: Server, encoding: str) -> None:
    body = COMPRESS.get(encoding, gzip.compress)(b'{"X": [1]}')
    for verb in ("generate", "generate_stream"):
        path = f"/v2/models/echo/{verb}"
        status, _, answer = post(server, body, path, Content_Encoding=encoding)
        text = "Unsupported content-encoding, only 'identity' is supported."
        assert (status, json.loads(answer)) == (400, {"error": text})
        assert post(server, b'{"X": [1]}', path, Content_Encoding="identity")[0] == 200


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


@pytest.mark.parametrize(("accepted", "encoding"), [("gzip", "gzip"), ("zstd", "zstd"), ("", "")])
def test_answers_of_streams_are_compressed_for_those_who_can_read_them(
    server: Server, accepted: str, encoding: str
) -> None:
    counts = (2, 64, 10_000)
    messages = [grpc_request(count) for count in counts]
    framed = b"".join(struct.pack(">BI", 0, len(each)) + each for each in messages)
    headers = {"grpc-accept-encoding": accepted} if accepted else {}
    fields, data = called(address(server.grpc_url), STREAM, framed, headers)
    assert (fields.get("grpc-encoding", ""), fields["grpc-status"]) == (encoding, "0")
    flags = []
    for count in counts:
        flag, length = struct.unpack(">BI", data[:5])
        message, data = data[5 : 5 + length], data[5 + length :]
        answer = service_pb2.ModelStreamInferResponse.FromString(
            EXPAND[encoding](message) if flag else message
        )
        assert answer.infer_response.raw_output_contents[0] == numbers(count).tobytes()
        flags.append(flag)
    assert data == b""
    assert flags == [int(bool(encoding))] * 3


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_grpcio_streams_compressed_both_ways(server: Server, compression: Any) -> None:
    counts = [2, *SIZES, 1000] * 20
    with grpc.insecure_channel(server.grpc_url) as channel:
        stream = channel.stream_stream(STREAM)
        call = stream(iter([grpc_request(n) for n in counts]), timeout=60, compression=compression)
        answers = [service_pb2.ModelStreamInferResponse.FromString(each) for each in call]
    contents = [each.infer_response.raw_output_contents[0] for each in answers]
    assert contents == [numbers(count).tobytes() for count in counts]


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
