"""Canaries and transformers behind the gateway, with real models."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.local.daemons import Up, condition, up, wait_gone
from tests.local.manifests import FLOWERS, infer, isvc, url_of, write

pytestmark = pytest.mark.timeout(180)

SETOSA = FLOWERS[[0]].tolist()


def through(daemon: Up, host: str, model: str, rows: Any, name: str = "input-0") -> Any:
    """An answer of the gateway by a host."""
    tensor = {"name": name, "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": rows}
    body = json.dumps({"inputs": [tensor]}).encode()
    url = f"http://{daemon.http}/v2/models/{model}/infer"
    with urlopen(Request(url, body, {"Host": host}), timeout=30) as answer:
        return json.load(answer)["outputs"][0]["data"]


def predictor(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["status"].get("components", {}).get("predictor", {})
    return found


def shares(value: dict[str, Any]) -> list[tuple[str, int]]:
    traffic = predictor(value).get("traffic", [])
    return [(target["revisionName"][-1], target["percent"]) for target in traffic]


def test_a_canary_gets_its_share_then_everything(daemon: Up, tmp_path: Path, models: Path) -> None:
    file = tmp_path / "a.yaml"
    daemon.run("apply", "-f", write(file, isvc("irises", "sklearn", models / "irises")))
    daemon.ready("irises")
    (old,) = daemon.processes("irises")
    share = {"canaryTrafficPercent": 20}
    changed = isvc("irises", "sklearn", models / "opposites", predictor=share)
    daemon.run("apply", "-f", write(file, changed))
    value = daemon.watch("irises", lambda v: shares(v) == [("2", 20), ("1", 80)])
    assert predictor(value)["traffic"][1]["tag"] == "prev"
    assert old in daemon.processes("irises")
    assert daemon.run("get", "isvc", "irises").stdout.split()[-6:-1] == [
        "True", "80", "20", "irises-predictor-00001", "irises-predictor-00002",
    ]  # fmt: skip
    answers = Counter(
        through(daemon, "irises-default.example.com", "irises", SETOSA)[0] for _ in range(200)
    )
    assert answers == {0: 160, 2: 40}

    promoted = isvc("irises", "sklearn", models / "opposites")
    daemon.run("apply", "-f", write(file, promoted))
    value = daemon.watch("irises", lambda v: shares(v) == [("2", 100)])
    assert predictor(value)["latestRolledoutRevision"] == "irises-predictor-00002"
    wait_gone(old)
    assert infer(url_of(value), "irises", "input-0", SETOSA) == [2]


def test_both_revisions_come_back_with_the_daemon(tmp_path: Path, models: Path) -> None:
    file = write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double"))
    with up(tmp_path / "home", "-f", file) as daemon:
        daemon.ready("double")
        (tmp_path / "again").symlink_to(models / "double")
        share = {"canaryTrafficPercent": 30}
        changed = isvc("double", "onnx", tmp_path / "again", predictor=share)
        daemon.run("apply", "-f", write(file, changed))
        daemon.watch("double", lambda v: shares(v) == [("2", 30), ("1", 70)])
        pids = daemon.processes("double")
        daemon.process.kill()
        for pid in pids:
            wait_gone(pid)
    with up(tmp_path / "home") as daemon:
        value = daemon.watch("double", lambda v: shares(v) == [("2", 30), ("1", 70)])
        assert predictor(value)["latestRolledoutRevision"] == "double-predictor-00001"


def test_a_canary_that_cannot_load_gets_nothing_and_is_taken_back(
    daemon: Up, tmp_path: Path, models: Path
) -> None:
    file = tmp_path / "a.yaml"
    daemon.run("apply", "-f", write(file, isvc("double", "onnx", models / "double")))
    daemon.ready("double")
    (old,) = daemon.processes("double")
    broken = isvc("double", "onnx", tmp_path, predictor={"canaryTrafficPercent": 50})
    daemon.run("apply", "-f", write(file, broken))

    def blocked(value: dict[str, Any]) -> bool:
        return bool(value["status"]["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad")

    value = daemon.watch("double", blocked)
    assert condition(value, "Ready")["status"] == "True"
    (route,) = daemon.client.routes()["services"]
    assert len(route["components"][0]["revisions"]) == 1
    daemon.run("apply", "-f", write(file, isvc("double", "onnx", models / "double")))
    daemon.watch("double", lambda v: v["status"]["modelStatus"]["transitionStatus"] == "UpToDate")
    assert daemon.processes("double") == [old]


def test_the_newer_form_of_canaries_runs_them_side_by_side(
    daemon: Up, tmp_path: Path, models: Path
) -> None:
    model = {
        "modelFormat": {"name": "sklearn"},
        "protocolVersion": "v2",
        "storageUri": str(models / "opposites"),
    }
    canary = [{"trafficPercent": 25, "predictor": {"name": "next", "model": model}}]
    value = isvc("irises", "sklearn", models / "irises", canary=canary)
    daemon.run("apply", "-f", write(tmp_path / "a.yaml", value))
    daemon.watch("irises", lambda v: condition(v, "CanaryPredictorReady").get("status") == "True")
    daemon.ready("irises")
    answers = Counter(
        through(daemon, "irises-default.localhost", "irises", SETOSA)[0] for _ in range(20)
    )
    assert answers == {0: 15, 2: 5}


def test_a_transformer_stands_in_front_and_follows_its_predictor(
    daemon: Up, tmp_path: Path, models: Path
) -> None:
    script = str(Path(__file__).parents[2] / "examples/kserve/transformer/doubling.py")
    transformer = {"containers": [{"command": ["python", script]}]}
    value = isvc("double", "onnx", models / "double", transformer=transformer)
    file = write(tmp_path / "a.yaml", value)
    daemon.run("apply", "-f", file)
    found = daemon.ready("double")
    assert condition(found, "TransformerReady")["status"] == "True"
    components = found["status"]["components"]
    assert components["transformer"]["url"] != components["predictor"]["url"]
    assert infer(url_of(found), "double", "x", [[1, 2]]) == [4, 8]
    assert through(daemon, "double-default.example.com", "double", [[1, 2]], "x") == [4, 8]
    assert through(daemon, "double-predictor.default", "double", [[1, 2]], "x") == [2, 4]
    logs = daemon.run("logs", "double", "--component", "transformer").stdout
    assert logs.startswith("doubling\n")

    # Another predictor has another port; the transformer asks the gateway, and stays.
    (tmp_path / "again").symlink_to(models / "double")
    value["spec"]["predictor"]["model"]["storageUri"] = str(tmp_path / "again")
    before = pids_of(daemon, "double")
    daemon.run("apply", "-f", write(file, value))

    def moved(value: dict[str, Any]) -> bool:
        url = value["status"]["components"]["predictor"]["url"]
        return bool(url != components["predictor"]["url"])

    daemon.watch("double", moved)
    assert infer(url_of(found), "double", "x", [[1, 2]]) == [4, 8]
    wait_gone(before["double-predictor"])
    after = pids_of(daemon, "double")
    assert after["double-transformer"] == before["double-transformer"]
    assert after["double-predictor"] != before["double-predictor"]


def pids_of(daemon: Up, name: str) -> dict[str, int]:
    """The process of each component."""
    components = daemon.client.details("default", name)["components"]
    return {component["name"]: component["pids"][0] for component in components}


def test_a_stopped_service_runs_nothing_and_comes_back(
    daemon: Up, tmp_path: Path, models: Path
) -> None:
    value = isvc("double", "onnx", models / "double")
    file = write(tmp_path / "a.yaml", value)
    daemon.run("apply", "-f", file)
    daemon.ready("double")
    (pid,) = daemon.processes("double")
    value["metadata"]["annotations"] = {"serving.kserve.io/stop": "true"}
    daemon.run("apply", "-f", write(file, value))
    stopped = daemon.watch("double", lambda v: condition(v, "Stopped")["status"] == "True")
    assert [(c["type"], c["status"], c.get("reason")) for c in stopped["status"]["conditions"]] == [
        ("PredictorReady", "False", "Stopped"),
        ("Ready", "False", "Stopped"),
        ("Stopped", "True", None),
    ]
    wait_gone(pid)
    del value["metadata"]["annotations"]
    daemon.run("apply", "-f", write(file, value))
    assert infer(url_of(daemon.ready("double")), "double", "x", [[1, 2]]) == [2, 4]
