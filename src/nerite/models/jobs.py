# SPDX-License-Identifier: Apache-2.0
"""Work on models: what concerns one model in the order in which it was asked for, different models
side by side, no more at a time than there are to be threads.

What a job does is not known here. Threads are daemons, and not an executor's, which Python joins at
exit: a model whose load hangs must not keep a server alive that was told to end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from nerite.errors import Unavailable
from nerite.models.roomy import roomy

T = TypeVar("T")

#: Jobs that may wait; a server is not asked for more than this by people.
LIMIT = 100_000


class Jobs:
    """Runs functions, each under the name of the model that it works on."""

    def __init__(self, threads: int) -> None:
        self._lock = threading.Lock()
        self._free = threads
        self._waiting: dict[str, deque[tuple[Callable[[], Any], Future[Any]]]] = {}
        self._count = 0
        self._running: set[str] = set()
        self._closed = False

    def submit(self, name: str, work: Callable[[], T]) -> Future[T]:
        """Runs `work` after all that was submitted under the same name before it.

        Raises:
            Unavailable: No more work is taken.
        """
        done: Future[T] = Future()
        with self._lock:
            if self._closed or self._count >= LIMIT:
                why = "the server is stopping" if self._closed else "too many loads are waiting"
                raise Unavailable(f"model '{name}' cannot be loaded or unloaded now: {why}")
            self._waiting.setdefault(name, deque()).append((work, done))
            self._count += 1
            self._start()
        return done

    @contextmanager
    def away(self) -> Iterator[None]:
        """Lends this job's place to others, while it waits for one of them."""
        with self._lock:
            self._free += 1
            self._start()
        try:
            yield
        finally:
            with self._lock:
                self._free -= 1  # may be below 0 for a while: the next to end starts nobody

    def close(self) -> None:
        """Takes no more work and drops what waits."""
        with self._lock:
            self._closed = True
            dropped = [done for jobs in self._waiting.values() for _, done in jobs]
            self._waiting.clear()
            self._count = 0
        for done in dropped:
            done.cancel()

    def _start(self) -> None:
        """Starts threads for jobs that can run now; the lock is held."""
        while self._free > 0 and (name := self._next()) is not None:
            self._free -= 1
            job = self._take(name)
            threading.Thread(
                target=self._run, args=(name, job), name=f"nerite-job-{name}", daemon=True
            ).start()

    def _next(self) -> str | None:
        return next((name for name in self._waiting if name not in self._running), None)

    def _take(self, name: str) -> tuple[Callable[[], Any], Future[Any]]:
        jobs = self._waiting[name]
        job = jobs.popleft()
        if not jobs:
            del self._waiting[name]
        self._count -= 1
        self._running.add(name)
        return job

    def _run(self, name: str | None, job: tuple[Callable[[], Any], Future[Any]]) -> None:
        while name is not None:
            _finish(*job)
            with self._lock:
                self._running.discard(name)
                name = self._next() if self._free >= 0 else None
                if name is None:
                    self._free += 1
                    self._start()
                else:
                    job = self._take(name)


def _finish(work: Callable[[], Any], done: Future[Any]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = roomy(work)
    except BaseException as why:
        done.set_exception(why)
    else:
        done.set_result(result)
