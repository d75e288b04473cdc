# SPDX-License-Identifier: Apache-2.0
"""Where gRPC ends: messages and metadata too long, empty or odd, and more pings than need be."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.http2 import DATA, END_STREAM, HEADERS, called, frames, http2_frame, opening
from tests.model_folders import write_model
from tests.server.test_forwarding import ECHO
from tritonclient.grpc import service_pb2

from nerite.server.access_options import AccessOptions
from nerite.server.server import Server
from nerite.testing import serve

LIMIT = 4096
SERVICE = "/inference.GRPCInferenceService"
LIVE = f"{SERVICE}/ServerLive"
PING, ACK, GOAWAY, RST_STREAM = 6, 1, 7, 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("grpc-limits")
    write_model(root / "echo", {"1/model.py": ECHO})
    access = AccessOptions(grpc_header_forward="^my-")
    with serve(root, access=access, max_message_bytes=LIMIT) as running:
        yield running


def address(server: Server) -> tuple[str, int]:
    host, _, port = server.grpc_url.partition(":")
    return host, int(port)


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def request(padding: int = 0) -> bytes:
    made = service_pb2.ModelInferRequest(model_name="echo", id="x" * padding)
    made.inputs.add(name="X", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    return made.SerializeToString()


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_a_message_of_just_the_limit_is_read_and_a_longer_one_is_told_both(
    server: Server, method: str
) -> None:
    path = f"{SERVICE}/{method}"
    fits = request(LIMIT - len(request(1000)) + 1000)
    assert len(fits) == LIMIT
    fields, _ = called(address(server), path, framed(fits))
    assert fields["grpc-status"] == "0"
    for length in (LIMIT + 1, 60_000):
        fields, _ = called(address(server), path, framed(bytes(length)))
        text = f"Received message larger than max ({length} vs. {LIMIT})"
        assert (fields["grpc-status"], fields["grpc-message"]) == ("8", text)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_a_length_that_lies_is_refused_at_its_prefix(server: Server, method: str) -> None:
    """Nothing else of the message is waited for."""
    with socket.create_connection(address(server), timeout=10) as raw:
        raw.sendall(opening(f"{SERVICE}/{method}"))
        raw.sendall(http2_frame(DATA, 0, 1, struct.pack(">BI", 0, 2**32 - 1) + b"x"))
        with raw.makefile("rb") as stream:
            for frame in frames(stream):
                if frame.stream == 1 and frame.kind == HEADERS and frame.flags & END_STREAM:
                    break
            else:
                raise AssertionError("closed without an answer")


def test_the_client_learns_its_code(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        infer = channel.unary_unary(f"{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as told:
            infer(bytes(50_000), timeout=10)
        assert told.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told.value.details() == f"Received message larger than max (50000 vs. {LIMIT})"
        assert channel.unary_unary(LIVE)(b"", timeout=10) == b"\x08\x01"


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_messages_with_an_encoding_that_is_not_offered(server: Server, method: str) -> None:
    path, headers = f"{SERVICE}/{method}", {"grpc-encoding": "snappy"}
    fields, _ = called(address(server), path, framed(request(), 1), headers)
    assert fields["grpc-status"] == "12"
    assert fields["grpc-message"] == (
        "grpc-encoding 'snappy' is not offered; identity,gzip,deflate,zstd are"
    )
    assert fields["grpc-accept-encoding"] == "identity,gzip,deflate,zstd"
    # What is not compressed can be read whatever else would be.
    fields, _ = called(address(server), path, framed(request()), headers)
    assert fields["grpc-status"] == "0"


def test_a_flag_that_means_nothing(server: Server) -> None:
    fields, _ = called(address(server), f"{SERVICE}/ModelInfer", framed(request(), 2))
    assert (fields["grpc-status"], fields["grpc-message"]) == (
        "13",
        "message has compression flag 2, expected 0 or 1",
    )


def seen(channel: grpc.Channel, *metadata: tuple[str, Any]) -> Any:
    infer = channel.unary_unary(f"{SERVICE}/ModelInfer")
    answer = service_pb2.ModelInferResponse.FromString(
        infer(request(), timeout=10, metadata=metadata)
    )
    return json.loads(answer.raw_output_contents[0][4:])


def test_metadata_empty_repeated_and_long(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        assert seen(channel, ("my-empty", "")) == {"my-empty": ""}
        assert seen(channel, ("my-key", "a"), ("my-key", "b")) == {"my-key": "b"}
        assert seen(channel, ("my-long", "v" * 7000)) == {"my-long": "v" * 7000}
        assert len(seen(channel, *[(f"my-{i}", "v") for i in range(200)])) == 200


def test_metadata_beyond_the_limit_ends_its_call_alone(server: Server) -> None:
    """The limit is told in the settings, so a client may refuse by itself."""
    with grpc.insecure_channel(server.grpc_url) as channel:
        for metadata in ([("my-key", "v" * 100_000)], [(f"my-{i}", "v" * 50) for i in range(1500)]):
            with pytest.raises(grpc.RpcError) as told:
                seen(channel, *metadata)
            assert told.value.code() in {
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.UNKNOWN,
            }
            assert seen(channel, ("my-key", "v")) == {"my-key": "v"}


def test_metadata_without_end_ends_its_connection(server: Server) -> None:
    """Continued headers cost memory only up to the limit, however many are sent."""
    before = server.engine.counters()["connections"]
    with socket.create_connection(address(server), timeout=10) as raw:
        opened = opening(LIVE)
        at = opened.rindex(b"\x01\x04\x00\x00\x00\x01")  # HEADERS, which were to be the end
        raw.sendall(opened[: at + 1] + b"\0" + opened[at + 2 :])
        field = b"\0\x03x-y\x7f\x21" + b"v" * 160
        with raw.makefile("rb") as stream:
            try:
                for _ in range(20_000):
                    raw.sendall(http2_frame(9, 0, 1, field * 90))
            except ConnectionError:
                pass
            else:
                raise AssertionError("300 MB of headers were read")
            kinds = [frame.kind for frame in frames(stream)]
    assert GOAWAY in kinds or not kinds
    with grpc.insecure_channel(server.grpc_url) as channel:
        assert channel.unary_unary(LIVE)(b"", timeout=10) == b"\x08\x01"
    assert server.engine.counters()["connections"] <= before + 1


def test_pings_are_answered_however_many(server: Server) -> None:
    """gRPC's own server hangs up on its third ping in five minutes, with `too_many_pings`."""
    count = 5000
    with socket.create_connection(address(server), timeout=10) as raw:
        raw.sendall(opening(LIVE) + http2_frame(DATA, END_STREAM, 1, framed(b"")))
        answered, ended = [], False
        with raw.makefile("rb") as stream:
            for number in range(0, count, 500):
                pings = range(number, number + 500)
                raw.sendall(b"".join(http2_frame(PING, 0, 0, struct.pack(">Q", n)) for n in pings))
                for frame in frames(stream):
                    assert frame.kind not in (GOAWAY, RST_STREAM)
                    ended |= frame.stream == 1 and frame.kind == HEADERS and bool(frame.flags & 1)
                    if frame.kind == PING and frame.flags & ACK:
                        answered.append(int.from_bytes(frame.payload, "big"))
                        if len(answered) == number + 500:
                            break
        assert answered == list(range(count))
        assert ended
