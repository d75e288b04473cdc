# SPDX-License-Identifier: Apache-2.0
"""Numbers that clients write make no memory and no time: lengths, shapes, counts, depths.

The server is a process of its own whose resident memory is looked at before and after. Limits on
time are wide (a slow machine passes); what they catch is work that grows with the square.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.keyed import IDENTITY
from tests.serving import FREE_PORTS, started
from tritonclient.grpc import service_pb2

MIB = 1 << 20
STRINGS = """backend: "identity"
input { name: "INPUT0" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "OUTPUT0" data_type: TYPE_STRING dims: [ -1 ] }
"""
POSTS = (
    "/v2/models/own/infer",
    "/v2/models/own/generate",
    "/v2/models/own/generate_stream",
    "/v1/models/own:predict",
    "/v2/repository/index",
    "/v2/repository/models/other/load",
    "/v2/repository/models/other/unload",
    "/v2/logging",
    "/v2/trace/setting",
    "/v2/models/own/trace/setting",
    "/v2/systemsharedmemory/region/r/register",
)


@dataclass(frozen=True)
class Served:
    """A server that runs elsewhere."""

    pid: int
    http: tuple[str, int]
    grpc: str

    def resident(self) -> int:
        """The most memory it ever had, in bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) << 10

    def sent(self, path: str, rest: bytes, timeout: float = 30) -> tuple[int, bytes]:
        """The status and the body that come back for the rest of a POST, whatever it is."""
        with socket.create_connection(self.http, timeout=timeout) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode())
            answer = bytearray()
            # It may have seen enough before all was sent; its answer is there to be read.
            with contextlib.suppress(ConnectionError):
                connection.sendall(rest)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    answer += piece
        assert answer, f"{path}: closed without an answer"
        return int(answer.split()[1]), bytes(answer).partition(b"\r\n\r\n")[2]

    def alive(self) -> bool:
        body = json.dumps(
            {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]}
        ).encode()
        return self.sent("/v2/models/own/infer", sized(body))[0] == 200


def sized(body: bytes) -> bytes:
    return b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b"")
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("sizes")
    for name, text in (("own", IDENTITY), ("other", IDENTITY), ("strings", STRINGS)):
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(text)
    words = [sys.executable, "-m", "nerite", "serve", str(root), *FREE_PORTS]
    words += ["--model-control-mode=explicit", "--load-model=*", "--allow-client-shm=true"]
    with started(words, stderr=subprocess.STDOUT) as (pid, shown):
        ports = dict(re.findall(r"Started (HTTP|GRPC)\w+ at 127\.0\.0\.1:(\d+)", shown))
        running = Served(pid, ("127.0.0.1", int(ports["HTTP"])), f"127.0.0.1:{ports['GRPC']}")
        # What a first request needs once is no growth.
        assert running.alive()
        yield running


@pytest.mark.parametrize("path", POSTS)
def test_bodies_in_tiny_chunks(served: Served, path: str) -> None:
    before = served.resident()
    status, _ = served.sent(path, chunked(b" " * MIB, 6))
    # Blanks alone are what some calls take for no body.
    assert status in (200, 400), status
    status, _ = served.sent(path, chunked(b"[" * (MIB // 4), 1))
    assert status == 400
    assert served.resident() - before < 40 * MIB
    assert served.alive()


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("opened", [b"[", b'{"inputs":', b'{"a":[', b'{"parameters":{"x":'])
def test_depth(served: Served, path: str, opened: bytes) -> None:
    began = time.monotonic()
    status, answer = served.sent(path, sized(opened * 100_000))
    assert status == 400, answer[:200]
    assert len(answer) < 4096
    assert time.monotonic() - began < 10
    assert served.alive()


@pytest.mark.parametrize("length", ["-1", "18446744073709551616", "abc", "1e3", "0x10", "99", ""])
def test_header_lengths(served: Served, length: str) -> None:
    rest = b"Inference-Header-Content-Length: %b\r\n" % length.encode() + sized(b'{"inputs":[]}')
    assert served.sent("/v2/models/own/infer", rest)[0] == 400
    assert served.alive()


def test_a_length_that_no_memory_has(served: Served) -> None:
    before = served.resident()
    for length in (2**63, 2**64, 2**70, 10**30):
        for path in POSTS:
            status, _ = served.sent(path, b"Content-Length: %d\r\n\r\n{}" % length)
            assert status in (400, 413), (path, length, status)
    assert served.resident() - before < 8 * MIB
    assert served.alive()


@pytest.mark.parametrize(
    "shape", [[2**32, 2**32], [-1], [2**63 - 1], [2**31], [2**62, 4], [-(2**63)]]
)
def test_shapes_that_overflow(served: Served, shape: list[int]) -> None:
    before = served.resident()
    for model, kind in (("own", "FP32"), ("strings", "BYTES")):
        values: tuple[dict[str, Any], ...] = (
            {"data": []},
            {"data": [1]},
            {"parameters": {"binary_data_size": 4}},
        )
        for value in values:
            body = {"inputs": [{"name": "INPUT0", "datatype": kind, "shape": shape, **value}]}
            text = json.dumps(body).encode()
            rest = b"Inference-Header-Content-Length: %d\r\n" % len(text)
            status, answer = served.sent(f"/v2/models/{model}/infer", rest + sized(text + bytes(4)))
            assert status == 400, answer
        request = service_pb2.ModelInferRequest(model_name=model)
        request.inputs.add(name="INPUT0", datatype=kind, shape=shape)
        request.raw_input_contents.append(bytes(4))
        assert code_of(served, request) == "INVALID_ARGUMENT"
    assert served.resident() - before < 8 * MIB
    assert served.alive()


def code_of(served: Served, request: service_pb2.ModelInferRequest) -> str:
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(served.grpc, options) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            call(request.SerializeToString(), timeout=60)
        except grpc.RpcError as why:
            return str(why.code().name)
    return "OK"


@pytest.mark.parametrize("names", ["many", "one"])
def test_outputs_that_are_asked_for_a_million_times(served: Served, names: str) -> None:
    count = 1_000_000
    wanted = [{"name": f"O{i}" if names == "many" else "OUTPUT0"} for i in range(count)]
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}
    body = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    before, began = served.resident(), time.monotonic()
    status, answer = served.sent("/v2/models/own/infer", sized(body))
    assert status == 400, answer[:200]
    assert len(answer) < 4096
    assert time.monotonic() - began < 10
    assert served.resident() - before < 8 * len(body)
    request = service_pb2.ModelInferRequest(model_name="own")
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1])
    request.raw_input_contents.append(bytes(4))
    for each in wanted[:200_000]:
        request.outputs.add(name=each["name"])
    assert code_of(served, request) == "INVALID_ARGUMENT"
    assert served.alive()


def test_a_million_strings_of_one_byte(served: Served) -> None:
    count = 1_000_000
    raw = struct.pack("<Ic", 1, b"x") * count
    request = service_pb2.ModelInferRequest(model_name="strings")
    tensor = request.inputs.add(name="INPUT0", datatype="BYTES", shape=[count])
    before = served.resident()
    request.raw_input_contents.append(raw)
    assert code_of(served, request) == "OK"
    grown = served.resident() - before
    request.ClearField("raw_input_contents")
    tensor.contents.bytes_contents.extend([b"x"] * count)
    assert code_of(served, request) == "OK"
    assert grown < 16 * len(raw), grown
    assert served.resident() - before < 64 * len(raw)
