# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of a process and all below it, read from /proc.

Triton runs Python models in a child process and nginx serves from one, so a server is always
measured as a tree. Linux only, as are the load generators.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat that this bench needs."""

    pid: int
    parent: int
    ticks: int  # user and system time of all its threads and of its children that have ended


def parse_stat(text: str) -> ProcessStat:
    """The line of /proc/PID/stat; the command in it may hold blanks and parentheses."""
    pid, _, rest = text.partition(" (")
    fields = rest[rest.rindex(")") + 2 :].split()
    # proc(5) counts from 1 and `fields` starts with its third field, the state.
    return ProcessStat(int(pid), int(fields[1]), sum(int(field) for field in fields[11:15]))


def parse_memory(rollup: str) -> int:
    """Bytes of memory that belong to the process (Pss), from /proc/PID/smaps_rollup."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no line starts with 'Pss:'")


def descendants(stats: list[ProcessStat], root: int) -> list[ProcessStat]:
    """The root and every process below it, parents before their children."""
    found = [stat for stat in stats if stat.pid == root]
    for parent in found:  # grows while it is walked
        found += [stat for stat in stats if stat.parent == parent.pid and stat.pid != parent.pid]
    return found


def cpu_seconds(root: int) -> float:
    """CPU time that the process and all below it have used since they started."""
    return sum(stat.ticks for stat in process_tree(root)) / TICKS_PER_SECOND


def memory_bytes(root: int) -> int:
    """Memory of the process and all below it, shared pages counted once."""
    rollups = (Path(f"/proc/{stat.pid}/smaps_rollup") for stat in process_tree(root))
    return sum(parse_memory(rollup.read_text()) for rollup in rollups)


def two_cores() -> list[int]:
    """The cores that may be used, at least two: one for the server, one for the client.

    Raises:
        ValueError: there is one only.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise ValueError("two cores are needed, one for the server and one for the generator")
    return usable


def process_tree(root: int) -> list[ProcessStat]:
    """The living processes from the root down."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats.append(parse_stat(path.read_text()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended between the listing and the reading
    return descendants(stats, root)
