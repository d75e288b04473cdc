# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 to the byte: for what a gRPC library would not send, or would not tell."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

from hpack import Decoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
PIECE, WINDOW = 16 << 10, (64 << 10) - 1


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload
    )


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that is spelled out."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def opening(path: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A connection's beginning, and the headers of its first call."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
        **(headers or {}),
    }
    block = b"".join(literal(name.encode(), value.encode()) for name, value in fields.items())
    return PREFACE + http2_frame(SETTINGS, 0, 0, b"") + http2_frame(HEADERS, END_HEADERS, 1, block)


class Frame(NamedTuple):
    """One frame, as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frames(stream: BinaryIO) -> Iterator[Frame]:
    """The frames of a connection until it ends."""
    with contextlib.suppress(ConnectionResetError):
        while head := stream.read(9):
            length, number = int.from_bytes(head[:3], "big"), int.from_bytes(head[5:9], "big")
            yield Frame(head[3], head[4], number, stream.read(length))


def called(
    address: tuple[str, int], path: str, message: bytes, headers: Mapping[str, str] | None = None
) -> tuple[dict[str, str], bytes]:
    """Headers with trailers, and the data, of the answer to a call of one framed message."""
    fields: dict[str, str] = {}
    decoder = Decoder()
    with socket.create_connection(address, timeout=10) as raw, raw.makefile("rb") as stream:
        # All of it fits into what HTTP/2 lets a client send before it has heard of larger windows.
        assert len(message) <= WINDOW
        pieces = [message[at : at + PIECE] for at in range(0, len(message), PIECE)]
        sent = [http2_frame(DATA, 0, 1, piece) for piece in pieces[:-1]]
        sent.append(http2_frame(DATA, END_STREAM, 1, pieces[-1]))
        raw.sendall(opening(path, headers) + b"".join(sent))
        data = b""
        for frame in frames(stream):
            if frame.stream == 1 and frame.kind == DATA:
                data += frame.payload
            if frame.stream == 1 and frame.kind == HEADERS:
                fields |= decoder.decode(frame.payload)
            if frame.stream == 1 and frame.kind in (DATA, HEADERS) and frame.flags & END_STREAM:
                return fields, data
        raise AssertionError("the connection closed without an answer")
