# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's perf_analyzer, unmodified, measures a Nerite server over both protocols."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest

from nerite.testing import serve

TOOL = Path(__file__).parents[2] / ".tools/perf_analyzer/perf_analyzer"
CONFIG = """backend: "identity" max_batch_size: 8 dynamic_batching { }
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_measures_and_reads_our_statistics(tmp_path: Path, protocol: str) -> None:
    model = tmp_path / "repository/identity"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    table = tmp_path / "measured.csv"
    assert TOOL.exists(), "run the tests with `make test`, which gets perf_analyzer"
    with serve(tmp_path / "repository") as server:
        url = server.http_url.removeprefix("http://") if protocol == "http" else server.grpc_url
        options = ["--shape", "X:16", "--concurrency-range", "4", "-b", "2"]
        options += ["--measurement-mode", "count_windows", "--measurement-request-count", "200"]
        options += [
            "--stability-percentage",
            "999",
            "--collect-metrics",
            "--metrics-interval",
            "50",
        ]
        options += ["--metrics-url", server.metrics_url, "-f", str(table)]
        measured = subprocess.run(
            [TOOL, "-m", "identity", "-i", protocol, "-u", url, *options],
            env={**os.environ, "LD_LIBRARY_PATH": str(TOOL.parent / "lib")},
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
    assert measured.returncode == 0, measured.stdout + measured.stderr
    row = next(csv.DictReader(table.read_text().splitlines()))
    assert row["Concurrency"] == "4"
    assert float(row["Inferences/Second"]) > 0
    # From the statistics extension, not from the client's clock.
    assert float(row["Server Queue"]) >= 0
    assert float(row["Server Compute Infer"]) > 0
