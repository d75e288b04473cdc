# SPDX-License-Identifier: Apache-2.0
"""What the metrics page says about the machine: processor and memory, under Triton's names.

One thread reads the kernel's counters every `metrics_interval_ms`; the page shows what it read
last. The metrics of models are the data plane's own and always of the moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nerite.server.repeating import Repeating

if TYPE_CHECKING:
    from nerite._core import Metric

_PROC = Path("/proc")

#: Name -> Triton's help text. There is no pool of pinned memory here, so it is empty.
_FAMILIES: Final = {
    "nv_cpu_utilization": "CPU utilization rate [0.0 - 1.0]",
    "nv_cpu_memory_total_bytes": "CPU total memory (RAM), in bytes",
    "nv_cpu_memory_used_bytes": "CPU used memory (RAM), in bytes",
    "nv_pinned_memory_pool_total_bytes": "Pinned memory pool total memory size, in bytes",
    "nv_pinned_memory_pool_used_bytes": "Pinned memory pool used memory size, in bytes",
}


class HostMetrics:
    """Keeps the gauges of the host up to date from `start` to `stop`."""

    def __init__(self, interval_secs: float, proc: Path = _PROC) -> None:
        from nerite import _core

        self._reader = HostReader(proc)
        self._gauges: dict[str, Metric] = {
            name: _core.MetricFamily(name, text, "gauge").metric({})
            for name, text in _FAMILIES.items()
        }
        self._repeating = Repeating("nerite-host", interval_secs, self._show)

    def start(self) -> None:
        """Reads once, so that the first page is right, and goes on in the background."""
        self._repeating.start()

    def stop(self) -> None:
        """Ends the thread and takes the gauges off the page."""
        self._repeating.stop()
        self._gauges.clear()

    def _show(self) -> None:
        for name, value in self._reader.read().items():
            self._gauges[name].set(value)


class HostReader:
    """Reads `/proc`; utilization is that since the last reading, or since the start of the host."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._before = (0, 0)

    def read(self) -> Mapping[str, float]:
        """Gauges by name; what cannot be read is left out."""
        return {**self._utilization(), **self._memory()}

    def _utilization(self) -> dict[str, float]:
        try:
            words = (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:]
            ticks = [int(word) for word in words]
        except (OSError, ValueError):
            return {}
        if len(ticks) < 5:
            return {}
        # Guest time, the last two, is user time already. Waiting for I/O is idle too.
        total, idle = sum(ticks[:8]), ticks[3] + ticks[4]
        (total_before, idle_before), self._before = self._before, (total, idle)
        passed = total - total_before
        if passed <= 0:
            return {}
        busy = 1 - (idle - idle_before) / passed
        return {"nv_cpu_utilization": min(1.0, max(0.0, busy))}

    def _memory(self) -> dict[str, float]:
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
            sizes = {
                key: int(rest.split()[0]) * 1024
                for key, _, rest in (line.partition(":") for line in lines if ":" in line)
            }
            total, free = sizes["MemTotal"], sizes["MemAvailable"]
        except (OSError, ValueError, KeyError, IndexError):
            return {}
        return {
            "nv_cpu_memory_total_bytes": float(total),
            "nv_cpu_memory_used_bytes": float(total - free),
        }
