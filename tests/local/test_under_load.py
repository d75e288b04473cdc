"""A chain, a canary and a graph of four nodes at the same time under load, and what a kill does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.local.daemons import Up, condition, up
from tests.local.load import load, v1, v2
from tests.local.manifests import FLOWERS, four_nodes, graph, isvc, write

pytestmark = pytest.mark.timeout(240)
DOUBLING = str(Path(__file__).parents[2] / "examples/kserve/transformer/doubling.py")
SETOSA = FLOWERS[[0]].tolist()
TWO = [[1.0, 2.0]]
NODES = four_nodes(
    "canary",
    "chained",
    {"serviceName": "double", "weight": 60},
    {"serviceName": "again", "weight": 40},
)
AT = "/serving/default"
#: What is asked, and the answers that are right.
QUESTIONS = {
    "chain": v2(f"{AT}/chained/v2/models/chained/infer", "x", TWO),
    "canary-v1": v1(f"{AT}/canary/v1/models/canary:predict", SETOSA),
    "canary-v2": v2(f"{AT}/canary/v2/models/canary/infer", "input-0", SETOSA),
    "graph": v2(f"{AT}/choice", "x", TWO),
    "graph-canary": v2(f"{AT}/choice", "input-0", SETOSA),
}
RIGHT = {
    "chain": {4.0},
    "canary-v1": {0, 2},
    "canary-v2": {0, 2},
    "graph": {json.dumps({"split": 2.0, "twice": 4.0})},
    "graph-canary": {0, 2},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("load")
    transformer = {"containers": [{"command": ["python", DOUBLING]}]}
    model = {
        "modelFormat": {"name": "sklearn"},
        "protocolVersion": "v2",
        "storageUri": str(models / "opposites"),
    }
    canary = [{"trafficPercent": 25, "predictor": {"name": "next", "model": model}}]
    files = write(
        folder / "all.yaml",
        graph("choice", NODES),
        isvc("canary", "sklearn", models / "irises", canary=canary),
        isvc("double", "onnx", models / "double"),
        isvc("again", "onnx", models / "double"),
        isvc("chained", "onnx", models / "double", transformer=transformer),
    )
    with up(folder / "home", "-f", files, "--trust") as daemon:
        for name in ("canary", "double", "again", "chained"):
            daemon.ready(name)
        daemon.watch(
            "canary", lambda v: condition(v, "CanaryPredictorReady").get("status") == "True"
        )
        assert daemon.run("wait", "ig/choice", "--for=condition=Ready").returncode == 0
        yield daemon


def test_all_answer_rightly_and_the_canary_gets_exactly_its_share(running: Up) -> None:
    with load(running.http, QUESTIONS) as seen:
        seen.until_each_was_answered(100)
    assert seen.broken == []
    assert {name: set(answers) for name, answers in seen.answers.items()} == RIGHT
    assert all(failures.total() == 0 for failures in seen.failures.values())
    shared = [seen.answers[name] for name in ("canary-v1", "canary-v2", "graph-canary")]
    old, new = (sum(answers[kind] for answers in shared) for kind in (0, 2))
    assert abs(new - (old + new) / 4) < 1


def test_a_step_that_is_killed_fails_nobody_elses_requests(running: Up) -> None:
    """`double` gets 60 % of the splitter; it is killed while all five questions are asked."""
    (victim,) = running.processes("double")
    with load(running.http, QUESTIONS) as seen:
        seen.until_each_was_answered(20)
        assert all(failures.total() == 0 for failures in seen.failures.values())
        os.kill(victim, signal.SIGKILL)
        seen.until(lambda load: load.failures["graph"].total() > 0)
        running.watch("double", lambda v: condition(v, "Ready")["status"] == "False")
        running.ready("double")
        failed = {name for name, failures in seen.failures.items() if failures}
        assert failed == {"graph"}
        # KServe's router answers 500 when a step cannot be asked; the step's own 503 passes.
        assert seen.failures["graph"].keys() <= {500, 502, 503}
        seen.begin_again()
        seen.until_each_was_answered(50)
        assert all(failures.total() == 0 for failures in seen.failures.values())
    assert seen.broken == []
    assert running.processes("double") != [victim]
    assert {name: set(answers) for name, answers in seen.answers.items()} == RIGHT


def test_a_canary_that_is_killed_fails_its_own_share_at_most(running: Up) -> None:
    components = running.client.details("default", "canary")["components"]
    (victim,) = next(c["pids"] for c in components if "next" in c["name"])
    asked = {name: QUESTIONS[name] for name in ("canary-v1", "canary-v2", "chain")}
    with load(running.http, asked) as seen:
        seen.until_each_was_answered(20)
        os.kill(victim, signal.SIGKILL)
        running.watch("canary", lambda v: condition(v, "CanaryPredictorReady")["status"] == "False")
        running.watch("canary", lambda v: condition(v, "CanaryPredictorReady")["status"] == "True")
        failed, answered = (
            sum(by[name].total() for name in ("canary-v1", "canary-v2"))
            for by in (seen.failures, seen.answers)
        )
        assert failed <= (failed + answered) / 4 + 1
        assert not seen.failures["chain"]
        seen.begin_again()
        seen.until(lambda load: load.answers["canary-v1"][2] > 0 < load.answers["canary-v2"][2])
        assert not any(seen.failures.values())
    assert seen.broken == []
