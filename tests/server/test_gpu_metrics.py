# SPDX-License-Identifier: Apache-2.0
"""Metrics of GPUs, with a stand-in for NVML: the page of a server that has two, or none."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.keyed import IDENTITY
from tests.server.test_metrics import page_of, samples

from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.server.gpu_metrics import open_nvml
from nerite.testing import serve

ONE, TWO = "GPU-1111", "GPU-2222"


class NVMLError(Exception):
    """What NVML raises."""


class FakeNvml(ModuleType):
    """`pynvml` on a machine with two GPUs; the second one has no power meter."""

    NVMLError = NVMLError
    nvmlMemory_v2 = 2

    def __init__(self, *, driver: bool = True) -> None:
        super().__init__("pynvml")
        self.driver, self.opened, self.threads = driver, 0, set[str]()
        self.millijoules = 5_000_000

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        self.threads.add(threading.current_thread().name)
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, gpu: int) -> str:
        return (ONE, TWO)[gpu]

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:
        return SimpleNamespace(gpu=25, memory=10)

    def nvmlDeviceGetMemoryInfo(self, gpu: int, version: int = 1) -> Any:
        kept = 0 if version == self.nvmlMemory_v2 else 600 << 20  # by the driver, for itself
        return SimpleNamespace(total=80 << 30, used=(gpu << 30) + kept, free=0)

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        return self.metered(gpu, 61_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: int) -> int:
        return self.metered(gpu, 700_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: int) -> int:
        self.millijoules += 1_500
        return self.metered(gpu, self.millijoules)

    def metered(self, gpu: int, value: int) -> int:
        if gpu:
            raise NVMLError("Not Supported")
        return value


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "one/1").mkdir(parents=True)
    (tmp_path / "one/config.pbtxt").write_text(IDENTITY)
    return tmp_path


def test_each_gpu_has_its_series_in_tritons_units(repository: Path, nvml: FakeNvml) -> None:
    with serve(repository, metrics_interval_ms=10) as server:
        page = page_of(server)
        told = samples(page)
        for name, values in {
            "nv_gpu_utilization": (0.25, 0.25),
            "nv_gpu_memory_total_bytes": (80 << 30, 80 << 30),
            "nv_gpu_memory_used_bytes": (0, 1 << 30),
            "nv_gpu_power_usage": (61.5, None),
            "nv_gpu_power_limit": (700, None),
        }.items():
            assert f"# TYPE {name} gauge\n" in page
            for uuid, value in zip((ONE, TWO), values, strict=True):
                assert told.get(f'{name}{{gpu_uuid="{uuid}"}}') == value, name
        # What the driver counted before the server started is not the server's.
        assert "# TYPE nv_energy_consumption counter\n" in page
        energy = f'nv_energy_consumption{{gpu_uuid="{ONE}"}}'
        first = told[energy]
        assert 0 <= first < 5_000
        while samples(page_of(server))[energy] <= first:
            pass  # it is read every 10 ms, and rises each time
        assert f'nv_energy_consumption{{gpu_uuid="{TWO}"}}' not in told
        # Whoever starts the server reads once; afterwards only a thread that serves nobody does.
        assert "nerite-gpu" in nvml.threads
        assert len(nvml.threads) == 2
    assert nvml.opened == 0


def test_nothing_is_asked_where_nothing_is_to_be_told(
    repository: Path, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(**options: Any) -> bool:
        with serve(repository, **options) as server:
            page = page_of(server) if options.get("allow_metrics", True) else ""
        return "nv_gpu" not in page and not nvml.threads

    assert silent(allow_gpu_metrics=False)
    assert silent(allow_metrics=False)
    monkeypatch.setenv("TRITON_SERVER_CPU_ONLY", "1")
    assert silent()


def test_the_flag_is_obeyed() -> None:
    assert server_options(["m"], choose({})).allow_gpu_metrics
    given = choose({"--allow-gpu-metrics": "false"})
    assert not server_options(["m"], given).allow_gpu_metrics
    assert given.warnings == ()


def test_without_a_driver_there_is_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(driver=False))
    with serve(repository) as server:
        assert "nv_gpu" not in page_of(server)


def test_a_driver_without_the_package_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with caplog.at_level(logging.WARNING):
        assert open_nvml(tmp_path / "version") is None
        assert caplog.messages == []
        (tmp_path / "version").write_text("NVRM version: 1")
        assert open_nvml(tmp_path / "version") is None
    assert [message.partition(", or give")[0] for message in caplog.messages] == [
        "telling metrics of GPUs needs the package 'nvidia-ml-py', which is not installed; "
        "run: pip install 'nerite[gpu]'"
    ]
