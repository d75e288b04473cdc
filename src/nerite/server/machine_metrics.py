# SPDX-License-Identifier: Apache-2.0
"""Which metrics of the machine a server keeps: those of the host, and those of its GPUs."""

from __future__ import annotations

from nerite.server import environment
from nerite.server.gpu_metrics import GpuMetrics, open_nvml
from nerite.server.host_metrics import HostMetrics
from nerite.server.options import ServerOptions

MachineMetrics = HostMetrics | GpuMetrics


def machine_metrics(options: ServerOptions) -> list[MachineMetrics]:
    """What the metrics page tells about the machine."""
    found: list[MachineMetrics] = []
    interval = options.metrics_interval_ms / 1000
    if options.allow_metrics and options.allow_cpu_metrics:
        found.append(HostMetrics(interval))
    if options.allow_metrics and options.allow_gpu_metrics and not environment.is_cpu_only():
        nvml = open_nvml()
        if nvml is not None:
            found.append(GpuMetrics(nvml, interval))
    return found
