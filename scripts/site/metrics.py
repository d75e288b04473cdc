# SPDX-License-Identifier: Apache-2.0
"""The page on metrics, from the page of a server that has all of them switched on."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from scripts.site.tables import NOTE, code, sentence, table

from nerite.testing import serve

_HEAD = f"""{NOTE}
# Metrics

What `http://HOST:8002/metrics` tells, in Prometheus' text form. Families that begin with `nv_`
are Triton's under Triton's names,
`nerite_` are Nerite's own; Python models add theirs. [How to scrape it](../guides/observation.md).

"""
_CONFIG = """
backend: "python" max_batch_size: 4 model_transaction_policy { decoupled: true }
input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }
model_metrics { metric_control {
  metric_identifier { family: "nv_inference_first_response_histogram_ms" }
  histogram_options { buckets: [ 1 ] } } }
"""
_MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        return None
"""
_ALL = {"summary_latencies": True, "first_response_histogram": True}


class Family(NamedTuple):
    """A family of the page."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


def families() -> list[Family]:
    """All families, of a server in this process."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "m"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(_CONFIG)
        (model / "1/model.py").write_text(_MODEL)
        with serve(folder, **_ALL) as server, urlopen(server.metrics_url) as answer:
            page = answer.read().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.M))
    return [Family(name, kinds[name], helps[name], _labels(name, page)) for name in kinds]


def _labels(name: str, page: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for labels in re.findall(rf"^{name}(?:_bucket)?\{{(.*)\}} ", page, re.M):
        found.update(dict.fromkeys(re.findall(r"(\w+)=\"", labels)))
    return tuple(found)


def page() -> str:
    """All families in the order of the page."""
    rows = [
        (code(f.name), f.kind, ", ".join(map(code, f.labels)), sentence(f.help)) for f in families()
    ]
    return _HEAD + table(("family", "kind", "labels", "what it counts"), rows)
