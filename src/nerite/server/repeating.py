# SPDX-License-Identifier: Apache-2.0
"""Work that is done at once and then again and again, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeating:
    """Calls a function every so many seconds from `start` to `stop`."""

    def __init__(self, name: str, interval_secs: float, work: Callable[[], None]) -> None:
        self._interval = interval_secs
        self._work = work
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Calls once before it returns, and goes on in the background."""
        self._work()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; it calls no more."""
        self._stopped.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopped.wait(self._interval):
            self._work()
