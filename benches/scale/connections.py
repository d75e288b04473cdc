# SPDX-License-Identifier: Apache-2.0
"""A client that holds thousands of keep-alive connections and asks on many at the same time.

It counts what went wrong instead of stopping at it, because the one figure that matters is how
many errors there were. Bare protocols rather than streams keep 5,000 of them cheap.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benches.load.answers import LOOPBACK, HttpAnswer, WrongAnswer, parse_answer

# So many connects at a time stay under any listen backlog.
WAVE = 100
TIMEOUT_SECONDS = 30.0

Check = Callable[[int, HttpAnswer], None]


@dataclass(slots=True)
class Outcome:
    """What became of a number of requests that were sent together."""

    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    # From the last request sent to the first answer read: above zero, all were in flight at once.
    held_seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        """Take in another; the shorter hold counts."""
        held = [each.held_seconds for each in (self, other) if each.answered]
        self.held_seconds = min(held, default=0.0)
        self.answered += other.answered
        self.errors += other.errors


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with at most one request in flight."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: asyncio.Future[HttpAnswer] | None = None
        self._closed = asyncio.Event()
        self.answered_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[HttpAnswer]:
        """Send at once; the answer comes with the future."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is None or not self.is_open:
            self._fail(ConnectionResetError("the server had closed the connection"))
        else:
            self._transport.write(request)
        return self._waiting

    async def close(self) -> None:
        """Close it from this side, and wait until it is."""
        if self._transport is not None:
            self._transport.close()
        await self._closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the connection is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio's: some of an answer, or all of it."""
        self._received += data
        try:
            answer = parse_answer(self._received)
        except WrongAnswer as error:
            self._fail(error)
            return
        if answer is not None:
            self._received = b""
            self.answered_at = time.monotonic()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: nothing more will come."""
        self._transport = None
        self._closed.set()
        self._fail(exc or ConnectionResetError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


async def open_connections(port: int, count: int) -> tuple[list[Connection], Counter[str]]:
    """That many connections, or as many as the server took and why not the others."""
    opened: list[Connection] = []
    errors: Counter[str] = Counter()
    for start in range(0, count, WAVE):
        wave = [_open(port) for _ in range(min(WAVE, count - start))]
        for result in await asyncio.gather(*wave, return_exceptions=True):
            if isinstance(result, Connection):
                opened.append(result)
            else:
                errors[repr(result)] += 1
    return opened, errors


async def ask_together(
    connections: list[Connection], requests: list[bytes], check: Check
) -> Outcome:
    """Send one request on each connection before reading any answer, then judge all answers."""
    pairs = zip(connections, requests, strict=True)
    futures = [connection.send(request) for connection, request in pairs]
    sent_at = time.monotonic()
    outcome = Outcome()
    answers = (asyncio.wait_for(future, TIMEOUT_SECONDS) for future in futures)
    for index, answer in enumerate(await asyncio.gather(*answers, return_exceptions=True)):
        try:
            if isinstance(answer, BaseException):
                raise answer
            check(index, answer)
            outcome.answered += 1
        except (WrongAnswer, OSError, TimeoutError) as error:
            outcome.errors[repr(error)] += 1
    if outcome.answered:
        first = min(each.answered_at for each in connections if each.answered_at >= sent_at)
        outcome.held_seconds = first - sent_at
    return outcome


async def _open(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    connecting = loop.create_connection(Connection, LOOPBACK, port)
    _, connection = await asyncio.wait_for(connecting, TIMEOUT_SECONDS)
    return connection
