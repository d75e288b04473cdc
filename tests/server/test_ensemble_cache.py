# SPDX-License-Identifier: Apache-2.0
"""The steps of an ensemble are answered from the response cache, as any request to their models."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from tests.server.ensembles import ensemble, identity, infer, step, write

from nerite.server.server import Server
from nerite.testing import serve

CACHED = "response_cache { enable: true }"


def counts(server: Server, model: str) -> tuple[int, int, int]:
    """Executions, hits and misses of a model."""
    with urlopen(f"{server.http_url}/v2/models/{model}/stats") as answer:
        told = json.load(answer)["model_stats"][0]
    stats = told["inference_stats"]
    return told["execution_count"], stats["cache_hit"]["count"], stats["cache_miss"]["count"]


def test_a_step_is_not_executed_for_what_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = [step("kept", "INPUT0=IN", "OUTPUT0=t"), step("plain", "INPUT0=t", "OUTPUT0=OUT")]
    models = {
        "kept": identity(more=CACHED),
        "plain": identity(),
        "e": ensemble("IN", "OUT", steps, more=CACHED),
    }
    with serve(write(tmp_path, models), cache_bytes=1 << 20) as server:
        for value in (1, 1, 2, 1):
            asked = {"IN": np.full((1, 3), value, np.float32)}
            assert infer(server, "e", asked) == (200, {"OUT": [[value] * 3]})
        assert counts(server, "kept") == (2, 2, 2)
        assert counts(server, "plain")[0] == 4
    assert "model 'e': answers of an ensemble are not kept as a whole" in caplog.text
    assert "response_cache has no effect" not in caplog.text
