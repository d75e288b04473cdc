"""Components that break off, dawdle, and say what nobody asked for, to the byte."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from tests.kserve.test_gateway import ask, gateway, predictor

#: What is done on one connection, which is closed behind it.
Behaviour = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"
YES = OK + b"Content-Length: 3\r\n\r\nyes"


@dataclass
class Upstream:
    """Connections in the order in which they came, each with its behaviour; the last goes on."""

    behaviours: list[Behaviour]
    address: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def read(self, raw: socket.socket) -> bytes:
        """A request with all its body, or nothing at the end."""
        told = b""
        while b"\r\n\r\n" not in told:
            if not (piece := raw.recv(65536)):
                return b""
            told += piece
        head, _, body = told.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += raw.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return head

    def answering(self, *pieces: bytes) -> Behaviour:
        """One request and what is said to it."""

        def behave(raw: socket.socket) -> None:
            self.read(raw)
            for piece in pieces:
                raw.sendall(piece)

        return behave

    def keeping(self, answer: bytes = YES) -> Behaviour:
        """The same answer to every request."""

        def behave(raw: socket.socket) -> None:
            while self.read(raw):
                raw.sendall(answer)

        return behave


@contextmanager
def upstream(*behaviours: Callable[[Upstream], Behaviour]) -> Iterator[Upstream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Upstream([], f"127.0.0.1:{listener.getsockname()[1]}")
        made.behaviours = [behaviour(made) for behaviour in behaviours]
        threads = []

        def behave(raw: socket.socket, behaviour: Behaviour) -> None:
            with raw, suppress(OSError):
                behaviour(raw)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    raw, _ = listener.accept()
                    behaviour = made.behaviours[min(made.connections, len(behaviours) - 1)]
                    made.connections += 1
                    threads.append(threading.Thread(target=behave, args=(raw, behaviour)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join(10)


def saying(*pieces: bytes) -> Callable[[Upstream], Behaviour]:
    return lambda made: made.answering(*pieces)


def keeping(answer: bytes = YES) -> Callable[[Upstream], Behaviour]:
    return lambda made: made.keeping(answer)


@pytest.mark.parametrize(
    "begun",
    [b"", b"HTTP", b"HTTP/1.1 200 OK\r\nContent-", b"GARBAGE\r\n\r\n", OK + b"A: \0\r\n\r\n"],
    ids=["nothing", "a word", "half a head", "no HTTP", "a zero byte"],
)
def test_a_head_that_breaks_off_or_is_none_is_502(begun: bytes) -> None:
    with upstream(saying(begun)) as made, gateway(predictor(made.address)) as gate:
        status, _, body = ask(gate, body=b"{}")
        assert status == 502, body
        assert made.address in json.loads(body)["error"]
        assert len(made.requests) == 1


@pytest.mark.parametrize(
    "begun",
    [
        OK + b"Content-Length: 10\r\n\r\n12345",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n123",
    ],
    ids=["a length", "chunks", "a chunk that is none", "half a chunk"],
)
def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(begun: bytes) -> None:
    with upstream(saying(begun)) as made, gateway(predictor(made.address)) as gate:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            ask(gate)
        assert len(made.requests) == 1


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    with upstream(saying(OK + b"\r\nabc", b"def")) as made, gateway(predictor(made.address)) as g:
        assert [ask(g)[2] for _ in range(3)] == [b"abcdef"] * 3
        assert made.connections == 3


def test_what_is_said_before_the_answer_is_not_the_answer() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    early += b"HTTP/1.1 100 Continue\r\n\r\n"
    with upstream(keeping(early + YES)) as made, gateway(predictor(made.address)) as gate:
        assert [ask(gate)[::2] for _ in range(3)] == [(200, b"yes")] * 3
        assert made.connections == 1


def test_trailers_do_not_reach_into_the_next_answer() -> None:
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\nX-Sum: 1\r\n\r\n"
    with upstream(keeping(chunked)) as made, gateway(predictor(made.address)) as gate:
        assert [ask(gate)[::2] for _ in range(3)] == [(200, b"yes")] * 3
        assert made.connections == 1


def test_more_than_was_announced_is_nobodys_answer() -> None:
    """A component that says too much must not answer the next request with the rest."""
    twice = YES + YES.replace(b"yes", b"bad")
    with upstream(keeping(twice)) as made, gateway(predictor(made.address)) as gate:
        assert [ask(gate)[::2] for _ in range(5)] == [(200, b"yes")] * 5


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_component_that_closes_each_time_costs_a_connection_and_no_request(method: str) -> None:
    closing = YES.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with upstream(saying(closing)) as made, gateway(predictor(made.address)) as gate:
        for number in range(10):
            status, headers, body = ask(gate, method=method)
            assert (status, body) == (200, b"yes")
            assert "connection" not in headers
            assert made.connections == number + 1


def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    with upstream(keeping(OK + b"Content-Length: 1000\r\n\r\n")) as made:
        with gateway(predictor(made.address)) as gate:
            for _ in range(3):
                status, headers, body = ask(gate, method="HEAD", body=None)
                assert (status, headers["content-length"], body) == (200, "1000", b"")
        assert made.connections == 1


def closes_on_the_second(made: Upstream) -> Behaviour:
    """As a server does whose patience ends in the moment in which it is asked again."""

    def behave(raw: socket.socket) -> None:
        made.read(raw)
        raw.sendall(YES)
        made.read(raw)

    return behave


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_may_be_asked_twice_is_when_its_connection_ends_under_it(method: str) -> None:
    with upstream(closes_on_the_second, keeping()) as made:
        with gateway(predictor(made.address)) as gate:
            assert ask(gate, method="POST")[2] == b"yes"
            assert ask(gate, method=method, body=None)[0] == 200
        assert made.connections == 2
        assert [request.split()[0] for request in made.requests] == [
            word.encode() for word in ("POST", method, method)
        ]


def test_what_may_have_been_done_is_not_done_twice() -> None:
    with upstream(closes_on_the_second, keeping()) as made:
        with gateway(predictor(made.address)) as gate:
            assert ask(gate)[0] == 200
            status, _, body = ask(gate, body=b"once")
            assert status == 502
            assert "broke off before it answered" in json.loads(body)["error"]
            assert ask(gate)[0] == 200
        assert sum(request.endswith(b"once") for request in made.requests) == 1


def test_a_get_is_asked_twice_at_most() -> None:
    with upstream(closes_on_the_second, saying(b"")) as made:
        with gateway(predictor(made.address)) as gate:
            assert ask(gate)[0] == 200
            assert ask(gate, method="GET", body=None)[0] == 502
        assert len(made.requests) == 3


def test_a_client_that_reads_slowly_holds_back_its_component_and_nobody_else() -> None:
    sent = threading.Event()
    size = 64 << 20

    def huge(made: Upstream) -> Behaviour:
        def behave(raw: socket.socket) -> None:
            made.read(raw)
            raw.sendall(OK + b"Content-Length: %d\r\n\r\n" % size)
            for _ in range(size >> 20):
                raw.sendall(bytes(1 << 20))
            sent.set()

        return behave

    with upstream(huge, keeping()) as made, gateway(predictor(made.address)) as gate:
        slow = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
        slow.request("GET", "/", headers={"Host": "iris"})
        answer = slow.getresponse()
        for _ in range(20):
            assert ask(gate)[2] == b"yes"
        assert not sent.is_set()
        assert len(answer.read()) == size
        assert sent.wait(10)
        slow.close()


@pytest.mark.parametrize(("size", "status"), [(60_000, 200), (2 << 20, 502)])
def test_a_head_of_any_size_is_passed_on_or_refused(size: int, status: int) -> None:
    large = OK + b"X-Large: " + b"a" * size + b"\r\nContent-Length: 0\r\n\r\n"
    with upstream(saying(large), keeping()) as made, gateway(predictor(made.address)) as gate:
        with suppress(http.client.LineTooLong):
            assert ask(gate)[0] == status
        assert ask(gate)[2] == b"yes"


@pytest.mark.parametrize(
    ("host", "status"), [("nobody.default", 404), ("absent.default", 503), ("gone.default", 503)]
)
def test_a_refusal_waits_for_the_body_and_keeps_the_connection(host: str, status: int) -> None:
    """It was said as soon as the head was there; a client in the middle of its body saw none."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    services = predictor(name="absent"), predictor(nobody, name="gone")
    with gateway(*services) as gate:
        connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
        for _ in range(2):
            connection.putrequest("POST", "/", skip_host=True)
            connection.putheader("Host", host)
            connection.putheader("Content-Length", "2000")
            connection.endheaders()
            told, _, _ = select.select([connection.sock], [], [], 0.05)
            assert not told
            connection.send(b"x" * 1000)
            connection.send(b"x" * 1000)
            response = connection.getresponse()
            assert (response.status, response.getheader("Connection")) == (status, None)
            assert "error" in json.loads(response.read())
        connection.close()


def test_a_refusal_does_not_wait_for_what_is_too_long_or_asks_first() -> None:
    with gateway(predictor(name="iris"), predictor(name="rose")) as gate:
        for name, value in (("Content-Length", str(2 << 20)), ("Expect", "100-continue")):
            connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
            connection.putrequest("POST", "/", skip_host=True)
            for line in {"Host": "nobody", "Content-Length": "2", name: value}.items():
                connection.putheader(*line)
            connection.endheaders()
            response = connection.getresponse()
            assert (response.status, response.getheader("Connection")) == (404, "close")
            response.read()
            connection.close()
