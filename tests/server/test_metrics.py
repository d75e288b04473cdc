"""The metrics page of a real server: Triton's families, what was asked for, and models' own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from nerite.cli.options import metrics_settings
from nerite.errors import InvalidArgument
from nerite.server.host_metrics import HostReader
from nerite.server.server import Server
from nerite.testing import serve

VECTORS = json.loads((Path(__file__).parent / "vectors/metric_families.json").read_text())
IDENTITY = """backend: "identity" max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
TAGGED = """metric_tags { key: "team" value: "x" }
model_metrics { metric_control {
  metric_identifier { family: "nv_inference_first_response_histogram_ms" }
  histogram_options { buckets: [ 1000, 20000 ] }
} }
"""
CUSTOM = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [1]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [1]})
        return config

    def initialize(self, args):
        family = pb_utils.MetricFamily
        self.families = [
            family("seen_total", "requests seen", family.COUNTER),
            family("last", "last number", kind=family.GAUGE),
            family(name="sizes", description="numbers by size", kind=family.HISTOGRAM),
        ]
        self.seen = self.families[0].Metric(labels={"model": args["model_name"]})
        self.last = self.families[1].Metric()
        self.sizes = self.families[2].Metric(labels={}, buckets=[1, 10])

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            self.seen.increment(1)
            self.last.set(float(x[0]))
            self.sizes.observe(float(x[0]))
            y = np.array([self.seen.value()], np.float32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", y)]))
        return responses
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name, more in {"plain": "", "tagged": TAGGED}.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(IDENTITY + more)
    (root / "custom/1").mkdir(parents=True)
    (root / "custom/1/model.py").write_text(CUSTOM)
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(
        repository,
        summary_latencies=True,
        summary_quantiles=((0.5, 0.05), (0.9, 0.01)),
        first_response_histogram=True,
    ) as running:
        yield running


def infer(server: Server, model: str, name: str, shape: list[int], data: list[float]) -> None:
    tensor = {"name": name, "datatype": "FP32", "shape": shape, "data": data}
    body = json.dumps({"inputs": [tensor]}).encode()
    urlopen(Request(f"{server.http_url}/v2/models/{model}/infer", body)).read()


def samples(page: str) -> dict[str, float]:
    """Series with its labels -> value."""
    lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def page_of(server: Server) -> str:
    return str(urlopen(server.metrics_url).read().decode())


def test_every_family_that_triton_has_on_a_cpu_is_there_with_its_type_and_text(
    server: Server,
) -> None:
    page = page_of(server)
    for name, family in VECTORS.items():
        assert f"# HELP {name} {family['help']}\n# TYPE {name} {family['type']}\n" in page, name


def test_summaries_and_the_first_response_count_what_succeeded(server: Server) -> None:
    before = samples(page_of(server))
    infer(server, "tagged", "INPUT0", [2, 1], [1, 2])
    with pytest.raises(HTTPError) as caught:
        infer(server, "tagged", "INPUT0", [9, 1], [1] * 9)
    caught.value.close()
    after = samples(page_of(server))
    labels = 'model="tagged",version="1",_team="x"'
    for name in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        count = f"nv_inference_{name}_summary_us_count{{{labels}}}"
        assert after[count] == before[count] + 1, name
    median = after[f'nv_inference_request_summary_us{{{labels},quantile="0.5"}}']
    assert median > 0
    first = "nv_inference_first_response_histogram_ms"
    assert after[f'{first}_bucket{{{labels},le="20000"}}'] == after[f"{first}_count{{{labels}}}"]
    assert f'{first}_bucket{{{labels},le="5000"}}' not in after
    refused = f'nv_inference_request_failure{{{labels},reason="OTHER"}}'
    assert after[refused] == before[refused] + 1


def test_a_load_has_a_duration(server: Server) -> None:
    assert samples(page_of(server))['nv_model_load_duration_secs{model="plain",version="1"}'] > 0


def test_a_model_has_metrics_of_its_own_until_it_is_gone(server: Server, repository: Path) -> None:
    for number in (0.5, 20.0):
        infer(server, "custom", "X", [1], [number])
    page = page_of(server)
    assert "# HELP seen_total requests seen\n# TYPE seen_total counter\n" in page
    values = samples(page)
    assert values['seen_total{model="custom"}'] == 2
    assert values["last"] == 20
    assert values['sizes_bucket{le="1"}'] == 1
    assert values['sizes_bucket{le="10"}'] == 1
    assert values['sizes_bucket{le="+Inf"}'] == values["sizes_count"] == 2
    assert values["sizes_sum"] == 20.5


def test_what_was_not_asked_for_is_not_told(repository: Path) -> None:
    with serve(repository / "plain", counter_latencies=False, latency_histograms=False) as server:
        infer(server, "plain", "INPUT0", [1, 1], [1])
        page = page_of(server)
    for absent in ("duration_us", "_summary_us", "histogram_ms", "nerite_request_duration"):
        assert absent not in page, absent
    # Unlike Triton's, the counts go on.
    assert samples(page)['nv_inference_count{model="plain",version="1"}'] == 1


def test_the_host_is_read_from_the_kernels_counters(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  10 0 10 60 20 0 0 0 0 0\ncpu0 1 2\n")
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 40 kB\nHugePages: 0\n")
    reader = HostReader(tmp_path)
    assert reader.read() == {
        "nv_cpu_utilization": pytest.approx(0.2),
        "nv_cpu_memory_total_bytes": 102400.0,
        "nv_cpu_memory_used_bytes": 61440.0,
    }
    (tmp_path / "stat").write_text("cpu  40 0 10 70 20 0 0 0 0 0\n")
    assert reader.read()["nv_cpu_utilization"] == pytest.approx(0.75)
    assert HostReader(tmp_path / "nowhere").read() == {}


def test_metrics_config_is_read_as_triton_writes_it() -> None:
    words = ["summary_latencies=true", "summary_quantiles=0.5:0.05,0.9:0.01"]
    assert metrics_settings(words) == {
        "summary_latencies": True,
        "summary_quantiles": ((0.5, 0.05), (0.9, 0.01)),
    }
    for word in ("color=true", "summary_quantiles=0.5", "counter_latencies=maybe"):
        with pytest.raises(InvalidArgument, match=re.escape("--metrics-config")):
            metrics_settings([word])
