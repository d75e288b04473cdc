# SPDX-License-Identifier: Apache-2.0
"""A server as a process: its log, its signals, its exit code.

The first SIGINT or SIGTERM stops it after what was accepted is answered, the second ends it; but
while a stop still waits for `drain_delay_secs`, the second only ends that wait. Only the main
thread can do this; a server inside another program is stopped with `Server.stop`.
"""

from __future__ import annotations

import logging
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto

from nerite.backends import lean_imports
from nerite.models.memory import limit_arenas
from nerite.server import environment
from nerite.server.logs import log_of
from nerite.server.server import Server

_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOP_FAILED = "failed to stop server: Internal - Exit timeout expired. Exiting immediately."
START_FAILED = "creating server: Internal - failed to load all models"


#: A second signal that comes sooner than this counts as the first.
SAME_WISH_SECS = 0.5


class _Event(Enum):
    SIGNAL = auto()
    LOAD_FAILED = auto()
    STOPPED = auto()
    OUT_OF_TIME = auto()


class _Events:
    """What the main thread waits for, put by signal handlers and by other threads.

    Not a queue alone: a signal that comes just before its `get` begins to wait is noted by the
    interpreter, but its handler runs only after the wait. The bell is rung by the interpreter's own
    C handler, so a wait that begins after the signal ends at once.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            end.setblocking(False)

    def put(self, event: _Event) -> None:
        """Adds an event; safe in a signal handler."""
        self._waiting.put(event)
        # A bell that cannot be rung was rung often enough, or nobody listens any more.
        with suppress(OSError):
            self._bell.send(b"\0")

    def get(self) -> _Event:
        """Waits for the next event."""
        while True:
            with suppress(queue.Empty):
                return self._waiting.get_nowait()
            select.select([self._ear], [], [])
            with suppress(BlockingIOError):
                self._ear.recv(4096)

    @property
    def bell(self) -> int:
        """What the interpreter rings when a signal comes."""
        return self._bell.fileno()

    def close(self) -> None:
        """Gives the bell back; later events are not heard any more."""
        self._ear.close()
        self._bell.close()


def serve_forever(server: Server) -> int:
    """Starts the server, serves until a signal comes, stops; the exit code of the process.

    0: stopped with every accepted request answered. 1: that took longer than `exit_timeout_secs`,
    a second signal came, or a model failed to load and `exit_on_error` is set. After 1 threads may
    still be at work: leave with `os._exit`.
    """
    if not environment.chooses_arenas():
        limit_arenas()
    lean_imports.allow()
    events = _Events()
    with log_of(server.log_settings), _signals_to(events):
        server.start()
        if server.options.exit_on_error:
            _in_background(lambda: _report_failure(server, events))
        first = events.get()
        if first is _Event.LOAD_FAILED:
            _log.error("%s", START_FAILED)
        else:
            _log.info("Waiting for in-flight requests to complete.")
        _in_background(lambda: _stop(server, events))
        event = _end_of_stop(server, events)
        if event is not _Event.STOPPED:
            _log.error("%s", STOP_FAILED)
        return int(first is _Event.LOAD_FAILED or event is not _Event.STOPPED)


def _end_of_stop(server: Server, events: _Events) -> _Event:
    """How a stop that goes on in the background ends: by itself, or by another signal."""
    since = time.monotonic()
    while True:
        event = events.get()
        if _is_echo(event, since):
            continue
        if event is _Event.SIGNAL and server.end_delay():
            since = time.monotonic()
            continue
        return event


def _is_echo(event: _Event, since: float) -> bool:
    """Whether an event only repeats what the server is stopping for.

    `timeout` and shells signal the process and then its whole group: that is one wish, not two.
    """
    if event is _Event.SIGNAL:
        return time.monotonic() - since < SAME_WISH_SECS
    return event is _Event.LOAD_FAILED


def _stop(server: Server, events: _Events) -> None:
    events.put(_Event.STOPPED if server.stop() else _Event.OUT_OF_TIME)


def _report_failure(server: Server, events: _Events) -> None:
    server.wait_loaded()
    if server.failed:
        events.put(_Event.LOAD_FAILED)


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


@contextmanager
def _signals_to(events: _Events) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    bell = signal.set_wakeup_fd(events.bell, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: events.put(_Event.SIGNAL))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(bell)
        events.close()
