# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 to the byte: for what a gRPC library would not send, or would not tell."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

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
        frames = [http2_frame(DATA, 0, 1, piece) for piece in pieces[:-1]]
        frames.append(http2_frame(DATA, END_STREAM, 1, pieces[-1]))
        raw.sendall(opening(path, headers) + b"".join(frames))
        data, ended = b"", False
        while not ended:
            head = stream.read(9)
            assert head, "the connection closed without an answer"
            payload = stream.read(int.from_bytes(head[:3], "big"))
            kind, flags, number = head[3], head[4], int.from_bytes(head[5:9], "big")
            if number == 1 and kind == DATA:
                data += payload
            if number == 1 and kind == HEADERS:
                fields |= decoder.decode(payload)
            ended = number == 1 and kind in (DATA, HEADERS) and flags & END_STREAM == END_STREAM
        return fields, data
