# SPDX-License-Identifier: Apache-2.0
"""End what a killed daemon leaves behind: `guard.py`, run as a file, told of process groups.

The kernel ends the daemon's children with it, but not what those have started. This process reads
`+GROUP` and `-GROUP` lines from its input; when the input ends, however the daemon ended, it kills
the groups that are still there, and goes. Imports nothing of Nerite.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Reads until nobody can write any more."""
    # Ctrl-C and the like are for the daemon; this process ends with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
