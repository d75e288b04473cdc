# SPDX-License-Identifier: Apache-2.0
"""Runs `async def execute` of decoupled models, many at a time, on an event loop of the instance.

`execute` of the next batch is called without waiting for the last one's coroutine, as Triton does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any


class Coroutines:
    """An event loop on a thread of its own, and what runs on it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._running: set[Future[Any]] = set()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"nerite-{name}-loop", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Future[Any]], None]) -> None:
        """Starts a coroutine; `done` is called with what became of it."""
        started = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._running.add(started)
        started.add_done_callback(done)
        started.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Waits for what runs, then ends the loop."""
        for running in list(self._running):
            running.exception()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
