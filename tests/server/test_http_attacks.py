# SPDX-License-Identifier: Apache-2.0
"""HTTP/1 as no honest client speaks it, to the byte: how many answers come, and may more follow.

What a proxy and the server could frame differently is refused, or its answer is the last.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator, Sequence

import pytest
from tests.dripping import drip
from tests.model_folders import write_model

from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
BODY = json.dumps(
    {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [1]}]}
).encode()
LENGTH = f"Content-Length: {len(BODY)}"
TRIED = "GET /v2/health/live HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
#: What a smuggler would hide behind a request, and what honest clients send next.
NEXT = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("attacks")
    write_model(root / "m", {"config.pbtxt": CONFIG, "1/": None})
    with serve(root, header_timeout_secs=1) as running:
        yield running


def infer(*headers: str, body: bytes = BODY, version: str = "1.1") -> bytes:
    lines = (f"POST /v2/models/m/infer HTTP/{version}", "Host: x", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def chunked(chunks: bytes) -> bytes:
    return infer(CHUNKED, body=chunks)


def answers(server: Server, sent: bytes, count: int | None = None) -> list[int]:
    """The statuses of what comes; without a count the server must end the connection."""
    host, port = server.ports["http"]
    told = b""
    with (
        socket.create_connection((host, port), timeout=10) as raw,
        contextlib.suppress(ConnectionError),
    ):
        raw.sendall(sent)
        while count is None or len(_statuses(told)) < count:
            piece = raw.recv(65536)
            if not piece:
                assert count is None, f"closed after {told!r}"
                break
            told += piece
    return _statuses(told)


def _statuses(told: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", told)]


#: The length of the body in two words, or in none.
FRAMED_TWICE = {
    "a length and chunks": (infer(LENGTH, CHUNKED, body=CHUNKS), 200),
    "chunks and a length": (infer(CHUNKED, LENGTH, body=CHUNKS), 200),
    "chunks in HTTP/1.0": (infer(CHUNKED, body=CHUNKS, version="1.0"), 400),
    "chunks, then nothing": (infer("Transfer-Encoding: chunked, identity", body=CHUNKS), 400),
    "chunks by another name": (infer("Transfer-Encoding: xchunked", body=CHUNKS), 400),
    "chunks and their denial": (infer(CHUNKED, "Transfer-Encoding: identity", body=CHUNKS), 400),
    "a blank before the colon": (infer("Transfer-Encoding : chunked", body=CHUNKS), 400),
    "a tab that is none": (infer("Transfer-Encoding: \x0bchunked", body=CHUNKS), 400),
    "two lengths": (infer(LENGTH, "Content-Length: 3"), 400),
    "a list of lengths": (infer(f"{LENGTH}, {len(BODY)}"), 400),
    "a signed length": (infer(f"Content-Length: +{len(BODY)}"), 400),
    "a negative length": (infer("Content-Length: -1"), 400),
    "a length in hexadecimal": (infer("Content-Length: 0x10"), 400),
    "a length of 65 bits": (infer("Content-Length: 18446744073709551616"), 400),
    "a folded header": (infer(LENGTH, "X: a\r\n b"), 400),
    "a zero byte": (infer(LENGTH, "X: a\0b"), 400),
    "a lone carriage return": (infer(LENGTH, "X: a\rb"), 400),
    "a header without a colon": (infer(LENGTH, "Xyz"), 400),
    "a header without a name": (infer(LENGTH, ": x"), 400),
    "a chunk's size in C": (chunked(b"0x" + CHUNKS), 400),
    "a chunk of 65 bits": (chunked(b"10000000000000000\r\n" + CHUNKS), 400),
    "a negative chunk": (chunked(b"-5\r\n" + CHUNKS), 400),
    "chunks with lone line feeds": (chunked(CHUNKS.replace(b"\r\n", b"\n")), 400),
    "a chunk that goes on": (chunked(CHUNKS.replace(b"}]}\r\n", b"}]}XX")), 400),
    "a chunk with 200 kB to say": (chunked(CHUNKS.replace(b"\r\n", b";" + b"a" * 200_000, 1)), 400),
    "a trailer of 100 kB": (chunked(CHUNKS[:-2] + b"X: " + b"a" * 100_000 + b"\r\n\r\n"), 400),
    "5000 trailers": (chunked(CHUNKS[:-2] + b"X: 1\r\n" * 5000 + b"\r\n"), 400),
    "a control character in the path": (b"GET /v2/\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "TLS": (bytes.fromhex("1603010200010001fc0303") + b"a" * 100, 400),
    "101 headers": (infer(LENGTH, *[f"X{i}: 1" for i in range(101)]), 431),
    "2 MB of headers": (infer(LENGTH, f"X: {'a' * (2 << 20)}"), 431),
    "70 kB of path": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "HTTP/1.0": (infer(LENGTH, version="1.0"), 200),
    "the wish to close": (infer(LENGTH, "Connection: close"), 200),
}


@pytest.mark.parametrize("name", FRAMED_TWICE)
def test_nothing_is_answered_behind_a_request_whose_end_is_not_sure(
    server: Server, name: str
) -> None:
    sent, status = FRAMED_TWICE[name]
    assert answers(server, sent + NEXT) == [status]


#: Where the request ends is sure, whatever else is odd.
FRAMED_ONCE: dict[str, tuple[bytes, Sequence[int]]] = {
    "gzip inside chunks": (infer("Transfer-Encoding: gzip, chunked", body=CHUNKS), [501]),
    "chunks inside chunks": (infer(CHUNKED, CHUNKED, body=CHUNKS), [501]),
    "chunks in capitals": (infer("TRANSFER-ENCODING: CHUNKED", body=CHUNKS), [200]),
    "the same length twice": (infer(LENGTH, LENGTH), [200]),
    "trailers, one of them a length": (
        chunked(CHUNKS[:-2] + b"X-Sum: 1\r\nContent-Length: 500\r\n\r\n"),
        [200],
    ),
    "chunks with extensions": (chunked(CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)), [200]),
    "a chunk for each byte": (
        chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"),
        [200],
    ),
    "95 headers": (infer(LENGTH, *[f"X{i}: 1" for i in range(95)]), [200]),
    "100 kB of headers": (infer(LENGTH, f"X: {'a' * 100_000}"), [200]),
    "HTTP/1.0 that goes on": (infer(LENGTH, "Connection: keep-alive", version="1.0"), [200]),
    "an offer to speak HTTP/2": (
        NEXT[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
        [200],
    ),
    "two hosts": (infer("Host: y", LENGTH), [400]),
    "the same host twice": (infer("HOST: x", LENGTH), [400]),
    "a target with another host than Host": (
        b"GET http://y/v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        [200],
    ),
    "no host, as Triton takes it": (TRIED.encode() + b"\r\n\r\n", [200]),
    "empty lines before": (b"\r\n\r\n" + NEXT, [200]),
    "the whole server": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
    "an echo": (b"TRACE /v2 HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n", [405]),
    "a path upwards": (b"GET /v2/models/../health/live HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
    "a path with a zero byte": (b"GET /v2/health/live%00 HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
    "four requests, the middle ones wrong": (
        infer(LENGTH)
        + infer("Content-Length: 2", body=b"{}")
        + b"POST /v2/models/nobody/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        + infer(LENGTH),
        [200, 400, 404, 200],
    ),
}


@pytest.mark.parametrize("name", FRAMED_ONCE)
def test_what_is_behind_a_request_with_a_sure_end_is_answered_in_turn(
    server: Server, name: str
) -> None:
    sent, statuses = FRAMED_ONCE[name]
    wanted = [*statuses, 200]
    assert answers(server, sent + NEXT, len(wanted)) == wanted


def test_what_is_before_a_malformed_request_is_answered(server: Server) -> None:
    assert answers(server, infer(LENGTH) + b"GARBAGE\r\n\r\n" + NEXT) == [200, 400]


def test_http_2_on_the_http_port_is_closed(server: Server) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    assert answers(server, preface) == []


def test_an_answer_to_head_has_no_body(server: Server) -> None:
    """With one the next answer would begin in its middle."""
    host, port = server.ports["http"]
    with socket.create_connection((host, port), timeout=10) as raw, raw.makefile("rb") as stream:
        raw.sendall(b"HEAD /v2 HTTP/1.1\r\nHost: x\r\n\r\n" + NEXT)
        assert stream.readline().startswith(b"HTTP/1.1 405")
        while stream.readline().strip():
            pass
        assert stream.readline().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "begun",
    [infer(LENGTH)[:-9], chunked(CHUNKS[:-3]), chunked(b"5"), chunked(b"5\r\nab")],
    ids=["a body", "chunks", "a chunk's size", "a chunk"],
)
def test_a_body_that_stops_is_told_so_and_its_connection_ends(server: Server, begun: bytes) -> None:
    assert answers(server, begun) == [408]


def test_a_body_that_drips_is_told_so_and_its_connection_ends(server: Server) -> None:
    """Each byte comes in time; all of them together would hold the connection for minutes."""
    begun = infer("Content-Length: 1000000", body=b"")
    host, port = server.ports["http"]
    with socket.create_connection((host, port), timeout=10) as raw:
        raw.sendall(begun)
        sent, told = drip(raw)
    assert told.startswith(b"HTTP/1.1 408")
    assert b"came too slowly" in told
    assert sent > 2


def test_a_transfer_encoding_that_is_not_offered_is_named(server: Server) -> None:
    host, port = server.ports["http"]
    with socket.create_connection((host, port), timeout=10) as raw:
        raw.sendall(infer("Transfer-Encoding: gzip, chunked", "Connection: close", body=CHUNKS))
        with raw.makefile("rb") as stream:
            told = stream.read()
    assert b"Unsupported transfer encoding, only 'chunked' is supported." in told
