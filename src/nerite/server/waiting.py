# SPDX-License-Identifier: Apache-2.0
"""The two ways in which a stop waits: for what is left of its time, and before it begins at all."""

from __future__ import annotations

import logging
import threading
import time

_log = logging.getLogger(__name__)


class Delay:
    """A pause that another thread can end."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._pausing = False

    def pause(self, seconds: float) -> None:
        """Waits; at once over if it was ended before."""
        with self._lock:
            self._pausing = seconds > 0 and not self._over.is_set()
        if self._pausing:
            _log.info("Not ready any more; still serving for %g s.", seconds)
            self._over.wait(seconds)
        with self._lock:
            self._pausing = False

    def end(self) -> bool:
        """Ends the pause, if there is one; whether there was."""
        with self._lock:
            ended, self._pausing = self._pausing, False
            if ended:
                self._over.set()
            return ended


class Clock:
    """What is left of some seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def __call__(self) -> float:
        return max(0.0, self._end - time.monotonic())
