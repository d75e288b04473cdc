# SPDX-License-Identifier: Apache-2.0
"""`nerite serve` as a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FREE_PORTS = (
    *(f"--{name}-port=0" for name in ("http", "grpc", "metrics")),
    *(f"--{name}-address=127.0.0.1" for name in ("http", "grpc")),
)


@contextmanager
def served(words: Sequence[str], folder: Path | None = None) -> Iterator[str]:
    """Runs a command that serves; its start-up screen, and a signal at the end, which it obeys."""
    with started(words, folder) as (_, shown):
        yield shown


@contextmanager
def started(
    words: Sequence[str], folder: Path | None = None, stderr: int = subprocess.DEVNULL
) -> Iterator[tuple[int, str]]:
    """The same, with the number of the process; its log too with `stderr=subprocess.STDOUT`."""
    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        assert process.stdout is not None
        shown = ""
        try:
            while "try: curl" not in shown:
                line = process.stdout.readline()
                assert line, f"{words} ended before it was ready: {shown}"
                shown += line
            yield process.pid, shown
        finally:
            process.terminate()
            assert process.wait(20) == 0
