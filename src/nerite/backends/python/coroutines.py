# SPDX-License-Identifier: Apache-2.0
"""Runs `async def execute` of decoupled models, many at a time, on an event loop of the instance.

`execute` of the next batch is called without waiting for the last one's coroutine, as Triton does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any

_log = logging.getLogger(__name__)


class Coroutines:
    """An event loop on a thread of its own, and what runs on it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._running: set[Future[Any]] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name=f"nerite-{name}-loop", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        while not self._closing:
            try:
                self._loop.run_forever()
            except BaseException:
                # A coroutine that leaves (SystemExit) takes the loop along, but not the others.
                _log.exception("a coroutine of %s left", self._thread.name)

    def run(self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Future[Any]], None]) -> None:
        """Starts a coroutine; `done` is called with what became of it."""
        started = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._running.add(started)
        started.add_done_callback(done)
        started.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Waits for what runs, then ends the loop."""
        wait(list(self._running))
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
