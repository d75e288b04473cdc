# SPDX-License-Identifier: Apache-2.0
"""Requests that are answered before their body was read: the connection is kept, or said to close.

It used to be closed without a word, so that the client's next request on it broke.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.keyed import make_key

from nerite.server.access_options import AccessOptions
from nerite.server.server import Server
from nerite.testing import serve

IDENTITY = """backend: "identity" max_batch_size: 0
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("unread")
    (root / "one/1").mkdir(parents=True)
    (root / "one/config.pbtxt").write_text(IDENTITY)
    with serve(root, header_timeout_secs=1) as running:
        yield running


class Wire:
    """A connection, its bytes as they are."""

    def __init__(self, server: Server) -> None:
        host, port = server.http_url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, value = line.decode().split(": ", 1)
            headers[name.lower()] = value
        return status, headers, self.file.read(int(headers.get("content-length", "0")))

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    made = Wire(server)
    yield made
    made.close()


def head(path: str, *more: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more, "", ""]).encode()


@pytest.mark.parametrize(
    ("method", "path", "extra", "status"),
    [
        ("POST", "/v2/models/nobody/infer", (), 404),
        ("POST", "/nowhere", (), 404),
        ("DELETE", "/v2/models/one/infer", (), 405),
        ("POST", "/v2/models/one/infer", ("Content-Encoding: br",), 501),
        ("POST", "/v2/systemsharedmemory/unregister", (), 200),
        ("GET", "/v2", (), 200),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_the_connection_lives_on_when_the_body_comes_after_its_head(
    method: str, path: str, extra: tuple[str, ...], status: int, chunked: bool, wire: Wire
) -> None:
    body = b"x" * 70_000
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    wire.send(head(path, length, *extra, method=method))
    if chunked:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    wire.send(body[:1000])
    wire.send(body[1000:])
    got, headers, _ = wire.answer()
    assert (got, headers.get("connection")) == (status, None)
    wire.send(LIVE)
    assert wire.answer()[0] == 200


def test_a_long_body_that_nobody_wants_is_not_read_and_the_answer_says_so(wire: Wire) -> None:
    wire.send(head("/v2/models/nobody/infer", f"Content-Length: {2 << 20}"))
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (404, "close")
    assert wire.file.read() == b""


def test_a_body_that_is_waited_for_in_vain_closes_the_connection_and_says_so(wire: Wire) -> None:
    wire.send(head("/v2/models/nobody/infer", "Content-Length: 100"))
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (404, "close")


def test_a_client_that_asks_before_it_sends_is_not_told_to_send(wire: Wire) -> None:
    wire.send(head("/v2/models/nobody/infer", "Content-Length: 100", "Expect: 100-continue"))
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (404, "close")


def test_whoever_is_refused_by_the_guard_keeps_the_connection(
    server: Server, tmp_path: Path
) -> None:
    make_key(tmp_path / "keys.txt", "infer", "infer")
    access = AccessOptions(api_keys=tmp_path / "keys.txt")
    with serve(*server.options.repositories, access=access) as running:
        wire = Wire(running)
        wire.send(head("/v2/models/one/infer", "Content-Length: 5"))
        wire.send(b"12345")
        status, headers, _ = wire.answer()
        assert (status, headers.get("connection")) == (401, None)
        wire.send(LIVE)
        assert wire.answer()[0] == 200
        wire.close()
