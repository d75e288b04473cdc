# SPDX-License-Identifier: Apache-2.0
"""Become another program that dies with its parent: `launch.py PARENT PROGRAM WORDS...`.

Run as a file, by an interpreter without site packages, in the child's place: code between fork and
exec of a process with threads could hang in a lock that another thread held. Imports nothing of
Nerite.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Asks the kernel for SIGKILL at the parent's death, then executes `argv`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit(f"cannot be tied to the daemon's life: {os.strerror(ctypes.get_errno())}")
    # The parent may have died before the kernel was asked.
    if os.getppid() != parent:
        sys.exit(1)
    # Exec hands on what is ignored (SIGPIPE, by Python) and what is blocked (by `nerite up`).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a list of words, and no shell is wanted
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
