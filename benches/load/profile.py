# SPDX-License-Identifier: Apache-2.0
"""Where a server's time goes: one more run under perf, kept as a text per server and case.

The profiled run is not one of those that are counted, because sampling costs time itself.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benches.load.cpu import process_tree
from benches.load.prepare import program

# Not a round number, so that samples do not keep step with timers.
SAMPLES_PER_SECOND = 997
# Functions below this share of the samples (per cent) are left out of the text.
SMALLEST_SHARE = 0.5


@contextmanager
def recording(root: int, report: Path) -> Iterator[None]:
    """Sample the process and all below it while the block runs, then write the report.

    Raises:
        Missing: perf is not installed.
    """
    perf = program("perf")
    report.parent.mkdir(parents=True, exist_ok=True)
    data = report.with_suffix(".data")
    pids = ",".join(str(stat.pid) for stat in process_tree(root))
    rate = ["--freq", str(SAMPLES_PER_SECOND)]
    recorder = subprocess.Popen(
        [perf, "record", "--quiet", *rate, "--pid", pids, "--output", str(data)],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        recorder.terminate()  # it writes its file when it is told to end
        recorder.wait()
    report.write_text(_report(perf, data))
    data.unlink()


def _report(perf: str, data: Path) -> str:
    """Share by library, then by function."""
    base = [perf, "report", "--stdio", "--input", str(data), "--percent-limit", str(SMALLEST_SHARE)]
    parts = []
    for keys in ("dso", "dso,symbol"):
        said = subprocess.run(
            [*base, "--sort", keys], capture_output=True, text=True, check=False
        ).stdout
        parts.append(tidied(said))
    return "\n\n".join(parts) + "\n"


def tidied(said: str) -> str:
    """perf's table without its comments, its wide columns and its two empty ones."""
    lines = (line.strip() for line in said.splitlines() if not line.startswith("#"))
    rows = (re.split(r"\s{2,}", line, maxsplit=2) for line in lines if line)
    return "\n".join(f"{share:>7}  {' '.join(rest)}"[:120] for share, *rest in map(_cut, rows))


def _cut(row: list[str]) -> list[str]:
    return [re.sub(r"(\s+-)+$", "", cell) for cell in row]
