# SPDX-License-Identifier: Apache-2.0
"""The daemon's time."""

from __future__ import annotations

import time


class Clock:
    """Seconds since the epoch that never go back, whatever is done to the machine's clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Now."""
        return time.monotonic() + self._offset
