# SPDX-License-Identifier: Apache-2.0
"""What the metrics page says about NVIDIA GPUs, under Triton's names, one series for each GPU.

Read through NVML, which comes with the driver, by the package `nvidia-ml-py` (`nerite[gpu]`). Where
there is no driver there is nothing to tell; a driver without the package is told once, in the log.
One thread reads every `metrics_interval_ms`, so a driver that dawdles keeps no request waiting.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nerite.errors import MissingExtra
from nerite.server.repeating import Repeating

if TYPE_CHECKING:
    from nerite._core import Metric

_log = logging.getLogger(__name__)

_DRIVER = Path("/proc/driver/nvidia/version")
_ENERGY: Final = "nv_energy_consumption"
#: Name -> Triton's help text, and how NVML tells it of a GPU, in Triton's unit.
_GAUGES: Final[dict[str, tuple[str, Callable[[Any, Any], float]]]] = {
    "nv_gpu_utilization": (
        "GPU utilization rate [0.0 - 1.0)",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    "nv_gpu_memory_total_bytes": (
        "GPU total memory, in bytes",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    "nv_gpu_memory_used_bytes": (
        "GPU used memory, in bytes",
        # The second version leaves out what the driver keeps for itself, as nvidia-smi does.
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu, version=nvml.nvmlMemory_v2).used,
    ),
    "nv_gpu_power_usage": (
        "GPU power usage in watts",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    ),
    "nv_gpu_power_limit": (
        "GPU power management limit in watts",
        lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
    ),
}
_ENERGY_TEXT: Final = "GPU energy consumption in joules since the Triton Server started"


def open_nvml(driver: Path = _DRIVER) -> Any | None:
    """NVML, ready to be asked; None where there is no GPU, or no package to ask with."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        if driver.exists():
            missing = MissingExtra("telling metrics of GPUs", "nvidia-ml-py", "gpu")
            _log.warning("%s, or give --allow-gpu-metrics=false", missing)
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as why:
        _log.debug("there are no metrics of GPUs: %s", why)
        return None
    return nvml


class GpuMetrics:
    """Keeps the metrics of the GPUs up to date from `start` to `stop`."""

    def __init__(self, nvml: Any, interval_secs: float) -> None:
        """`nvml` is what `open_nvml` gave; it is closed at the end."""
        from nerite import _core

        self._nvml = nvml
        family = _core.MetricFamily
        self._families = {name: family(name, text, "gauge") for name, (text, _) in _GAUGES.items()}
        self._families[_ENERGY] = family(_ENERGY, _ENERGY_TEXT, "counter")
        self._series: dict[tuple[str, str], Metric] = {}
        self._joules: dict[str, float] = {}
        self._repeating = Repeating("nerite-gpu", interval_secs, self._show)

    def start(self) -> None:
        """Reads once, so that the first page is right, and goes on in the background."""
        self._repeating.start()

    def stop(self) -> None:
        """Ends the thread and takes the metrics off the page."""
        self._repeating.stop()
        self._series.clear()
        self._families.clear()
        self._nvml.nvmlShutdown()

    def _show(self) -> None:
        for uuid, values in read(self._nvml).items():
            for name, value in values.items():
                metric = self._metric(name, uuid)
                if name == _ENERGY:
                    # The driver counts from its own start, the page from the server's.
                    metric.increment(max(0.0, value - self._joules.get(uuid, value)))
                    self._joules[uuid] = value
                else:
                    metric.set(value)

    def _metric(self, name: str, uuid: str) -> Metric:
        key = (name, uuid)
        if key not in self._series:
            self._series[key] = self._families[name].metric({"gpu_uuid": uuid})
        return self._series[key]


def read(nvml: Any) -> dict[str, Mapping[str, float]]:
    """Each GPU's values by its UUID; what a GPU or its driver does not tell is left out."""
    found: dict[str, Mapping[str, float]] = {}
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            gpu = nvml.nvmlDeviceGetHandleByIndex(index)
            found[str(nvml.nvmlDeviceGetUUID(gpu))] = _values(nvml, gpu)
    except nvml.NVMLError as why:
        _log.debug("GPUs cannot be read: %s", why)
    return found


def _values(nvml: Any, gpu: Any) -> Mapping[str, float]:
    asked = {name: ask for name, (_, ask) in _GAUGES.items()}
    asked[_ENERGY] = lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000
    told = {}
    for name, ask in asked.items():
        try:
            told[name] = float(ask(nvml, gpu))
        except nvml.NVMLError as why:
            _log.debug("%s of a GPU cannot be read: %s", name, why)
    return told
