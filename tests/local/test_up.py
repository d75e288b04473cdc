"""`nerite up` with real models: started, asked, broken, repaired, changed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.local.daemons import Up, condition, is_alive, up, wait_gone
from tests.local.manifests import FLOWERS, infer, isvc, url_of, write

pytestmark = pytest.mark.timeout(180)


def test_from_yaml_to_an_answer_and_back_to_nothing(tmp_path: Path, models: Path) -> None:
    link = tmp_path / "irises"
    link.symlink_to(models / "irises")  # so that a relative path leads there
    files = write(
        tmp_path / "all.yaml",
        isvc("irises", "sklearn", "./irises"),
        isvc("double", "onnx", "pvc://numbers/double"),
    )
    with up(tmp_path / "home", "-f", files, "--trust", "--pvc", f"numbers={models}") as daemon:
        irises, double = daemon.ready("irises"), daemon.ready("double")
        assert infer(url_of(irises), "irises", "input-0", FLOWERS[[0, 149]]) == [0, 2]
        assert infer(url_of(double), "double", "x", [[1, 2]]) == [2, 4]
        assert irises["status"]["clusterServingRuntimeName"] == "kserve-mlserver"
        assert irises["status"]["modelStatus"]["transitionStatus"] == "UpToDate"
        component = irises["status"]["components"]["predictor"]
        assert component["latestReadyRevision"] == "irises-predictor-00001"
        shown = daemon.until(lambda line: "double  Ready=True" in line)
        assert url_of(double) in shown
        pids = daemon.processes("irises") + daemon.processes("double")
        assert len(pids) == 2
        assert daemon.stop(signal.SIGINT) == 0
        assert [pid for pid in pids if is_alive(pid)] == []
        assert not (tmp_path / "home/daemon.sock").exists()


def test_a_killed_process_is_repaired(daemon: Up, tmp_path: Path, models: Path) -> None:
    daemon.run("apply", "-f", write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double")))
    url = url_of(daemon.ready("double"))
    (first,) = daemon.processes("double")
    os.kill(first, signal.SIGKILL)
    broken = daemon.watch("double", lambda v: condition(v, "Ready")["status"] == "False")
    assert condition(broken, "PredictorReady")["reason"] == "MinimumReplicasUnavailable"
    again = daemon.ready("double")
    (second,) = daemon.processes("double")
    assert second != first
    assert url_of(again) == url
    assert infer(url, "double", "x", [[1, 2]]) == [2, 4]
    failure = again["status"]["modelStatus"]["lastFailureInfo"]
    assert (failure["exitCode"], failure["reason"]) == (137, "RuntimeUnhealthy")
    described = daemon.run("describe", "isvc", "double").stdout
    assert "double-predictor ended with exit code 137" in described


def test_a_change_rolls_out_without_a_gap(daemon: Up, tmp_path: Path, models: Path) -> None:
    file = write(tmp_path / "a.yaml", isvc("irises", "sklearn", models / "irises"))
    daemon.run("apply", "-f", file)
    before = daemon.ready("irises")
    (old,) = daemon.processes("irises")
    write(file, isvc("irises", "sklearn", models / "opposites"))
    assert "configured" in daemon.run("apply", "-f", file).stdout

    def moved(value: dict[str, Any]) -> bool:
        # Whichever copy the status names, it answers.
        assert condition(value, "Ready")["status"] == "True"
        return bool(predictor_of(value)["url"] != predictor_of(before)["url"])

    after = daemon.watch("irises", moved)
    assert url_of(after) == url_of(before)
    assert infer(url_of(after), "irises", "input-0", FLOWERS[[0, 149]]) == [2, 0]
    assert after["metadata"]["generation"] == 2
    component = after["status"]["components"]["predictor"]
    assert component["latestReadyRevision"] == "irises-predictor-00002"
    wait_gone(old)


def predictor_of(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["status"]["components"]["predictor"]
    return found


def test_a_change_that_fails_leaves_what_worked(daemon: Up, tmp_path: Path, models: Path) -> None:
    file = write(tmp_path / "a.yaml", isvc("irises", "sklearn", models / "irises"))
    daemon.run("apply", "-f", file)
    url = url_of(daemon.ready("irises"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.joblib").write_bytes(b"no pickle")
    daemon.run("apply", "-f", write(file, isvc("irises", "sklearn", broken)))

    def blocked(value: dict[str, Any]) -> bool:
        transition = value["status"]["modelStatus"]["transitionStatus"]
        return bool(transition == "BlockedByFailedLoad")

    value = daemon.watch("irises", blocked)
    status = value["status"]["modelStatus"]
    assert status["states"] == {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"}
    failure = status["lastFailureInfo"]
    assert failure["reason"] == "ModelLoadFailed"
    assert failure["exitCode"] == 1
    assert "failed to load 'irises' version 1" in failure["message"]
    assert failure["modelRevisionName"] == "irises-predictor-00002"
    assert condition(value, "Ready")["status"] == "True"
    assert infer(url, "irises", "input-0", FLOWERS[[0]]) == [0]


def test_without_trust_a_pickle_is_refused_and_the_status_says_how(
    tmp_path: Path, models: Path
) -> None:
    file = write(tmp_path / "a.yaml", isvc("irises", "sklearn", models / "irises"))
    with up(tmp_path / "home", "-f", file) as daemon:
        value = daemon.watch(
            "irises", lambda v: "lastFailureInfo" in v["status"].get("modelStatus", {})
        )
        message = value["status"]["modelStatus"]["lastFailureInfo"]["message"]
        assert "start the server with --trust" in message
        assert condition(value, "Ready")["status"] == "False"
        assert daemon.stop(signal.SIGTERM) == 0


def test_what_cannot_run_here_says_what_it_would_take(daemon: Up, tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", isvc("scores", "mlflow", "/nowhere"))
    daemon.run("apply", "-f", file)
    told = "in the place of mlserver Nerite serves"
    # The supervisor looks at it a moment after it was applied.
    value = daemon.watch(
        "scores", lambda v: told in condition(v, "PredictorReady").get("message", "")
    )
    assert condition(value, "PredictorReady")["status"] == "False"
    assert daemon.processes("scores") == []


def test_a_runtime_that_comes_later_is_taken(daemon: Up, tmp_path: Path) -> None:
    daemon.run("apply", "-f", write(tmp_path / "a.yaml", isvc("late", "homemade", "/nowhere")))
    status = daemon.service("late")["status"]
    assert status["modelStatus"] == {
        "lastFailureInfo": {
            "reason": "NoSupportingRuntime",
            "message": "No runtime found to support specified framework/version",
        },
        "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
        "transitionStatus": "InvalidSpec",
    }
    assert [c["status"] for c in status["conditions"]] == ["Unknown"] * 3
    runtime = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "house"},
        "spec": {
            "supportedModelFormats": [{"name": "homemade", "autoSelect": True}],
            "containers": [
                {
                    "name": "kserve-container",
                    "command": ["python3", "-m", "http.server", "--bind", "127.0.0.1", "8080"],
                }
            ],
        },
    }
    daemon.run("apply", "-f", write(tmp_path / "b.yaml", runtime))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/hello.txt").write_text("hello")
    value = isvc("late", "homemade", tmp_path / "files", predictor={})
    value["spec"]["predictor"]["model"]["workingDir"] = "/mnt/models"
    daemon.run("apply", "-f", write(tmp_path / "a.yaml", value))
    found = daemon.ready("late")
    assert found["status"]["servingRuntimeName"] == "house"
    with urlopen(f"{url_of(found)}/hello.txt", timeout=10) as answer:
        assert answer.read() == b"hello"
