# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's perf_analyzer, unmodified, measures a Nerite server over both protocols."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest
from benches.streams import __main__ as streams
from tests.server.ensembles import ensemble, statistics, step, write

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
    with serve(tmp_path / "repository") as server:
        url = server.http_url.removeprefix("http://") if protocol == "http" else server.grpc_url
        options = ["--shape", "X:16", "-b", "2", "--collect-metrics", "--metrics-interval", "50"]
        options += ["--metrics-url", server.metrics_url]
        row = measure("identity", protocol, url, table, options)
    assert float(row["Inferences/Second"]) > 0
    # From the statistics extension, not from the client's clock.
    assert float(row["Server Queue"]) >= 0
    assert float(row["Server Compute Infer"]) > 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_measures_through_shared_memory(tmp_path: Path, protocol: str) -> None:
    model = tmp_path / "repository/identity"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    with serve(tmp_path / "repository", allow_client_shm=True) as server:
        url = server.http_url.removeprefix("http://") if protocol == "http" else server.grpc_url
        options = ["--shape", "X:16", "-b", "2", "--shared-memory", "system"]
        options += ["--output-shared-memory-size", "1024"]
        row = measure("identity", protocol, url, tmp_path / "measured.csv", options)
    assert float(row["Inferences/Second"]) > 0


@pytest.mark.timeout(60)
def test_it_measures_a_decoupled_model_over_a_stream(tmp_path: Path) -> None:
    version = tmp_path / "repository/numbers/1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(streams.CONFIG)
    (version / "model.py").write_text(Path(streams.__file__).with_name("model.py").read_text())
    with serve(tmp_path / "repository") as server:
        data = tmp_path / "data.json"
        data.write_text('{"data": [{"N": [3]}]}')
        options = ["--streaming", "--input-data", str(data)]
        row = measure("numbers", "grpc", server.grpc_url, tmp_path / "measured.csv", options)
    assert float(row["Inferences/Second"]) > 0
    # It counts both: three responses of every request.
    assert float(row["Response Throughput"]) > 2 * float(row["Inferences/Second"])


@pytest.mark.timeout(60)
def test_it_finds_the_models_of_an_ensemble(tmp_path: Path) -> None:
    chain = [step("identity", "X=IN", "Y=t"), step("identity", "X=t", "Y=OUT")]
    models = {
        "identity": {"config.pbtxt": CONFIG, "1/": None},
        "chain": ensemble("IN", "OUT", chain),
    }
    with serve(write(tmp_path / "repository", models)) as server:
        options = ["--shape", "IN:16"]
        url = server.grpc_url
        row = measure("chain", "grpc", url, tmp_path / "measured.csv", options)
        counted = statistics(server, "identity")["inference_stats"]["success"]["count"]
        assert counted == 2 * statistics(server, "chain")["inference_stats"]["success"]["count"]
    assert float(row["Inferences/Second"]) > 0
    assert float(row["Server Compute Infer"]) > 0


def measure(model: str, protocol: str, url: str, table: Path, options: list[str]) -> dict[str, str]:
    """The row that perf_analyzer writes about a model at four requests at a time."""
    assert TOOL.exists(), "run the tests with `make test`, which gets perf_analyzer"
    fixed = ["--concurrency-range", "4", "--stability-percentage", "999", "-f", str(table)]
    fixed += ["--measurement-mode", "count_windows", "--measurement-request-count", "200"]
    measured = subprocess.run(
        [TOOL, "-m", model, "-i", protocol, "-u", url, *fixed, *options],
        env={**os.environ, "LD_LIBRARY_PATH": str(TOOL.parent / "lib")},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert measured.returncode == 0, measured.stdout + measured.stderr
    row = next(csv.DictReader(table.read_text().splitlines()))
    assert row["Concurrency"] == "4"
    return row
