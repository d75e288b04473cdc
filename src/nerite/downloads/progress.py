# SPDX-License-Identifier: Apache-2.0
"""How far a download is, shown on terminals only: a log is no place for a bar."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 24
_EVERY_SECS = 0.1


class Progress:
    """Counts bytes of several files at once; draws one line if somebody watches."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        told: Callable[[str], None] | None = None,
    ) -> None:
        """`stream` is drawn on if it is a terminal; None draws nothing.

        `told` is called with every piece, and with how much is there. What it raises ends the
        transfer.
        """
        self._told = told
        self._stream = stream if stream is not None and stream.isatty() else None
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = self._drawn = clock()
        self._fetched = self._done = self._total = 0
        self._what = ""

    def expect(self, size: int, what: str) -> None:
        """Some more bytes are to come."""
        with self._lock:
            self._total += size
            self._what = what

    def add(self, count: int, *, fetched: bool = True) -> None:
        """Bytes are there; those of an earlier try count, but tell nothing about the speed."""
        with self._lock:
            self._done += count
            self._fetched += count if fetched else 0
            now = self._clock()
            if self._stream is not None and now - self._drawn >= _EVERY_SECS:
                self._drawn = now
                self._draw(self._stream, now)
            so_far = self._so_far()
        if self._told is not None:
            self._told(so_far)

    def _so_far(self) -> str:
        done = megabytes(self._done)
        return f"{done} of {megabytes(self._total)}" if self._total else done

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self, stream: TextIO, now: float) -> None:
        rate = self._fetched / max(now - self._begun, 1e-9)
        shown = self._so_far()
        if self._total:
            filled = min(_WIDTH, _WIDTH * self._done // self._total)
            bar = "#" * filled + "-" * (_WIDTH - filled)
            shown = f"[{bar}] {shown}"
        stream.write(f"\r\x1b[K{self._what}: {shown}, {megabytes(int(rate))}/s")
        stream.flush()


def megabytes(count: int) -> str:
    """`12.3 MB`; below a megabyte in kilobytes."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
