# SPDX-License-Identifier: Apache-2.0
"""What the process finds around itself: variables and cores. Nothing else reads the environment."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """How many cores the process may use: its affinity, or less if its container's share is."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def variables() -> dict[str, str]:
    """All variables, for whom they are meant as they are (credentials of storage)."""
    return dict(os.environ)


def escapes_logs() -> bool:
    """Whether log messages are written as JSON strings (Triton's variable; on unless it is 0)."""
    return os.environ.get("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "1") != "0"


def is_cpu_only() -> bool:
    """Whether GPUs are to be left alone (Triton's variable; it counts as soon as it is there)."""
    return "TRITON_SERVER_CPU_ONLY" in os.environ


def refuses_colour() -> bool:
    """Whether the user wants no colours (no-color.org), or has a terminal that shows none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def inherited() -> dict[str, str]:
    """The variables that processes started from here get."""
    return dict(os.environ)


def home_folder() -> Path:
    """Where what was applied is kept: `NERITE_HOME`, or a folder for state of the user's own."""
    given = os.environ.get("NERITE_HOME")
    if given:
        return Path(given).expanduser().absolute()
    states = os.environ.get("XDG_STATE_HOME")
    # The standard says that a relative path there is to be taken for none.
    folder = Path(states) if states and Path(states).is_absolute() else None
    return (folder or Path.home() / ".local/state") / "nerite"


def chooses_arenas() -> bool:
    """Whether somebody has told the C library how many arenas it may keep."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "MALLOC_ARENA_MAX" in os.environ or "malloc.arena_max" in tunables


def _quota(cgroup: Path) -> float | None:
    """Cores that the control group grants, by version 2 (`cpu.max`) or 1."""
    text = _read(cgroup / "cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    first = _read(cgroup / "cpu/cpu.cfs_quota_us")
    second = _read(cgroup / "cpu/cpu.cfs_period_us")
    if first is None or second is None or int(first) <= 0:
        return None
    return int(first) / int(second)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
