# SPDX-License-Identifier: Apache-2.0
"""How far a download is, told to the status and to a log, and how one is given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nerite.errors import NeriteError

#: The container that downloads in a cluster; `nerite logs -c` finds its lines under this name.
FETCH_LOG = "storage-initializer"
_EVERY_SECS = 0.5
_LOGGED_EVERY_SECS = 5.0


class Abandoned(Exception):
    """Nobody wants what is being fetched any more."""


class FetchReport:
    """Is called with every piece, from several threads; tells of some."""

    def __init__(
        self,
        show: Callable[[str], None],
        log: Callable[[bytes], None],
        unwanted: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`show` gets the state now and then, `log` a line; `unwanted` ends everything."""
        self._show, self._log, self._unwanted, self._clock = show, log, unwanted, clock
        self._shown, self._logged = float("-inf"), clock()
        self._last = ""
        self._uri = ""

    @contextmanager
    def about(self, uri: str) -> Iterator[None]:
        """A URI is fetched meanwhile; beginning and end are logged, and why it failed."""
        self._uri, self._last = uri, ""
        self._line(f"fetching {uri}")
        try:
            yield
        except (NeriteError, OSError) as why:
            self._line(f"error: {why}")
            raise
        self._line(f"fetched {uri}: {self._last or 'it was there'}")

    def __call__(self, so_far: str) -> None:
        """So much is there."""
        if self._unwanted():
            raise Abandoned
        self._last, now = so_far, self._clock()
        if now - self._shown >= _EVERY_SECS:
            self._shown = now
            self._show(so_far)
        if now - self._logged >= _LOGGED_EVERY_SECS:
            self._logged = now
            self._line(f"{self._uri}: {so_far}")

    def _line(self, text: str) -> None:
        self._log(text.encode() + b"\n")
