"""apply, get, describe, wait, logs and delete against a real daemon, in kubectl's words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from tests.local.daemons import NERITE, Up, is_alive
from tests.local.manifests import infer, isvc, url_of, write

from nerite.cli.app import main
from nerite.errors import ConfigError

pytestmark = pytest.mark.timeout(180)


def test_the_verbs_speak_as_kubectl_does(daemon: Up, tmp_path: Path, models: Path) -> None:
    file = write(tmp_path / "double.yaml", isvc("double", "onnx", models / "double"))
    name = "inferenceservice.serving.kserve.io/double"
    assert daemon.run("apply", "-f", file).stdout == f"{name} created\n"
    assert daemon.run("apply", "-f", file).stdout == f"{name} unchanged\n"
    url = url_of(daemon.ready("double"))
    head, row = daemon.run("get", "isvc").stdout.splitlines()
    assert head.split() == [
        "NAME", "URL", "READY", "PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION",
        "AGE",
    ]  # fmt: skip
    assert row.split()[:5] == ["double", url, "True", "100", "double-predictor-00001"]
    wide = daemon.run("get", "isvc/double", "-o", "wide").stdout
    assert "kserve-tritonserver" in wide
    assert "double-default.example.com" in wide
    assert url == f"http://{daemon.http}/serving/default/double"
    shown = yaml.safe_load(daemon.run("get", "isvc", "double", "-o", "yaml").stdout)
    listed = json.loads(daemon.run("get", "isvc", "-o", "json").stdout)
    assert listed["items"] == [shown]
    assert shown["metadata"]["generation"] == 1
    assert daemon.run("get", "isvc", "-o", "name").stdout == f"{name}\n"
    described = daemon.run("describe", "isvc", "double").stdout
    assert "InferenceService [double] is Ready" in described
    assert str(daemon.processes("double")[0]) in described
    logs = daemon.run("logs", "double", "--tail", "4").stdout
    own = daemon.service("double")["status"]["components"]["predictor"]["url"]
    assert f"try: curl {own}" in logs
    missing = daemon.run("get", "isvc", "triple")
    assert missing.returncode == 1
    assert missing.stderr == (
        'Error from server (NotFound): inferenceservices.serving.kserve.io "triple" not found\n'
    )
    elsewhere = daemon.run("get", "isvc", "-n", "lab")
    assert elsewhere.stderr == "No resources found in lab namespace.\n"
    (pid,) = daemon.processes("double")
    deleted = daemon.run("delete", "isvc", "double")
    assert deleted.stdout == 'inferenceservice.serving.kserve.io "double" deleted\n'
    assert not is_alive(pid)
    assert daemon.run("delete", "-f", file, "--ignore-not-found").returncode == 0
    assert not list((tmp_path / "home/logs").rglob("*.log"))


def test_applies_at_once_do_not_tear_each_other(daemon: Up, tmp_path: Path) -> None:
    """Twelve at once, each with two services that must say the same; whichever is last is whole."""
    missing = tmp_path / "nowhere"
    texts = [
        yaml.safe_dump_all(
            [
                isvc(name, "onnx", missing, predictor={"labels": {"turn": str(turn)}})
                for name in ("left", "right")
            ]
        )
        for turn in range(12)
    ]

    def apply(text: str) -> list[dict[str, str]]:
        return daemon.client.apply([("a.yaml", str(tmp_path / "a.yaml"), text)])

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(apply, texts))
    assert [len(result) for result in results] == [2] * 12
    left, right = daemon.service("left"), daemon.service("right")
    assert left["spec"] == right["spec"]
    assert left["metadata"]["generation"] == right["metadata"]["generation"] == 12
    assert sorted(r[0]["outcome"] for r in results) == ["configured"] * 11 + ["created"]


def test_a_refused_file_changes_nothing(daemon: Up, tmp_path: Path) -> None:
    good = isvc("good", "onnx", "/nowhere")
    bad = isvc("bad", "onnx", "/nowhere", predictor={"modle": 1})
    file = write(tmp_path / "a.yaml", good, bad)
    ran = daemon.run("apply", "-f", file)
    assert ran.returncode == 1
    assert f"error: {file}:" in ran.stderr
    assert 'unknown field "modle"' in ran.stderr
    assert 'did you mean "model"?' in ran.stderr
    assert daemon.client.objects("InferenceService") == []
    with pytest.raises(ConfigError, match="not YAML"):
        daemon.client.apply([("b.yaml", "/b.yaml", "a: [")])


def test_logs_and_changes_are_followed(daemon: Up, tmp_path: Path, models: Path) -> None:
    file = write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double"))
    daemon.run("apply", "-f", file)
    daemon.ready("double")

    def follow(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*NERITE, *more], env=daemon.environment, stdout=subprocess.PIPE, text=True
        )

    with follow("logs", "double", "-f", "--tail", "1") as log, follow("get", "isvc", "-w") as rows:
        assert log.stdout is not None
        assert rows.stdout is not None
        assert log.stdout.readline()
        assert rows.stdout.readline().startswith("NAME ")
        assert " True " in rows.stdout.readline()
        os.kill(daemon.processes("double")[0], signal.SIGKILL)
        while "successfully loaded" not in (line := log.stdout.readline()):
            assert line
        while " True " not in (line := rows.stdout.readline()):
            assert line
        assert daemon.stop() == 0
        # Both end by themselves with the daemon.
        log.stdout.read()
        rows.stdout.read()
        assert log.wait(30) == 0
        assert rows.wait(30) == 0


def test_without_a_daemon_the_verbs_say_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NERITE_HOME", str(tmp_path))
    assert main(["get", "isvc"]) == 1
    assert capsys.readouterr().err == "error: no daemon runs; start one with: nerite up\n"


def test_scripts_wait_and_pick_single_values(daemon: Up, tmp_path: Path, models: Path) -> None:
    file = write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double"))
    daemon.run("apply", "-f", file)
    name = "inferenceservice.serving.kserve.io/double"
    assert daemon.run("wait", "isvc/double", "--timeout", "1m").stdout == f"{name} condition met\n"
    url = daemon.run("get", "isvc", "double", "-o", "jsonpath={.status.url}").stdout
    assert infer(url, "double", "x", [[1, 2]]) == [2, 4]
    path = "jsonpath={.status.components.predictor.traffic[0].percent}"
    assert daemon.run("get", "isvc", "double", "-o", path).stdout == "100"
    assert daemon.run("get", "isvc", "double", "-o", "jsonpath={.status.none}").stdout == ""
    refused = daemon.run("get", "isvc", "double", "-o", "jsonpath={.items..status}")
    assert "not understood at '..status'" in refused.stderr
    late = daemon.run("wait", "isvc/double", "--for=condition=Stopped", "--timeout", "0.1s")
    assert late.returncode == 1
    assert late.stderr == f"error: timed out waiting for the condition on {name}\n"
    daemon.run("delete", "isvc", "double")
    assert daemon.run("wait", "isvc/double", "--for=delete").returncode == 0
    gone = daemon.run("wait", "isvc/double")
    assert gone.returncode == 1
    assert "not found" in gone.stderr
