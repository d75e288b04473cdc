# SPDX-License-Identifier: Apache-2.0
"""The client of the scale bench, against a small server in the same loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from benches.load.answers import LOOPBACK, HttpAnswer, WrongAnswer
from benches.scale.connections import Outcome, ask_together, open_connections

COUNT = 20
Reply = Callable[[bytes, asyncio.Transport], None]


class Served(asyncio.Protocol):
    """The server's side of a connection: a line is a request."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reply(data.strip(), self._transport)


def expect(index: int, answer: HttpAnswer) -> None:
    """Every connection must get back its own number."""
    if answer.body != str(index).encode():
        raise WrongAnswer("the answer of another connection")


async def ask_a_server_that(reply: Reply) -> Outcome:
    """Ask once on each of COUNT connections to a server that replies in this way."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Served(reply), LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        connections, errors = await open_connections(port, COUNT)
        assert (len(connections), errors.total()) == (COUNT, 0)
        requests = [f"{number}\n".encode() for number in range(COUNT)]
        outcome = await ask_together(connections, requests, expect)
        await asyncio.gather(*(connection.close() for connection in connections))
    return outcome


def echo(line: bytes, transport: asyncio.Transport) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(line), line))


def echo_in_two_parts(line: bytes, transport: asyncio.Transport) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    rest = b"ngth: %d\r\n\r\n%b" % (len(line), line)
    asyncio.get_running_loop().call_soon(transport.write, rest)


def confuse(line: bytes, transport: asyncio.Transport) -> None:
    echo(line if line != b"7" else b"8", transport)


def hang_up_on_three(line: bytes, transport: asyncio.Transport) -> None:
    if line == b"3":
        transport.close()
    else:
        echo(line, transport)


def test_right_answers_are_counted() -> None:
    for reply in (echo, echo_in_two_parts):
        outcome = asyncio.run(ask_a_server_that(reply))
        assert (outcome.answered, outcome.errors.total()) == (COUNT, 0)


def test_an_answer_on_the_wrong_connection_is_an_error() -> None:
    outcome = asyncio.run(ask_a_server_that(confuse))
    assert outcome.answered == COUNT - 1
    assert "another connection" in next(iter(outcome.errors))


def test_a_connection_that_the_server_closes_is_an_error() -> None:
    outcome = asyncio.run(ask_a_server_that(hang_up_on_three))
    assert outcome.answered == COUNT - 1
    assert "closed the connection" in next(iter(outcome.errors))


def test_all_requests_wait_together_for_a_server_that_gathers() -> None:
    waiting: list[tuple[bytes, asyncio.Transport]] = []

    def gather(line: bytes, transport: asyncio.Transport) -> None:
        waiting.append((line, transport))
        if len(waiting) == COUNT:
            for each in waiting:
                echo(*each)

    outcome = asyncio.run(ask_a_server_that(gather))
    assert outcome.answered == COUNT
    assert outcome.held_seconds > 0


def test_connections_that_are_refused_are_counted_not_raised() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    connections, errors = asyncio.run(open_connections(port, 3))
    assert (connections, errors.total()) == ([], 3)
