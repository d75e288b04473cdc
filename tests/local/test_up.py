"""`nerite up` with real models: started, asked, broken, repaired, changed, restarted, deleted."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from tests.local.daemons import NERITE, Up, condition, is_alive, up, wait_gone
from tests.local.manifests import FLOWERS, infer, isvc, url_of, write

from nerite.cli.app import main
from nerite.errors import ConfigError
from nerite.local.client import DaemonClient
from nerite.local.settings import socket_path

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
    shown = yaml.safe_load(daemon.run("get", "isvc", "double", "-o", "yaml").stdout)
    listed = json.loads(daemon.run("get", "isvc", "-o", "json").stdout)
    assert listed["items"] == [shown]
    assert shown["metadata"]["generation"] == 1
    assert daemon.run("get", "isvc", "-o", "name").stdout == f"{name}\n"
    described = daemon.run("describe", "isvc", "double").stdout
    assert "InferenceService [double] is Ready" in described
    assert str(daemon.processes("double")[0]) in described
    logs = daemon.run("logs", "double", "--tail", "4").stdout
    assert f"try: curl {url}" in logs
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
        return bool(url_of(value) != url_of(before))

    after = daemon.watch("irises", moved)
    assert infer(url_of(after), "irises", "input-0", FLOWERS[[0, 149]]) == [2, 0]
    assert after["metadata"]["generation"] == 2
    component = after["status"]["components"]["predictor"]
    assert component["latestReadyRevision"] == "irises-predictor-00002"
    wait_gone(old)


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


def test_a_killed_daemon_leaves_no_process_and_restores_everything(
    tmp_path: Path, models: Path
) -> None:
    file = write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double"))
    with up(tmp_path / "home", "-f", file) as daemon:
        before = daemon.ready("double")
        (pid,) = daemon.processes("double")
        daemon.process.kill()
        wait_gone(pid)
    with up(tmp_path / "home") as daemon:
        after = daemon.ready("double")
        assert url_of(after) == url_of(before)
        assert after["metadata"] == before["metadata"]
        assert infer(url_of(after), "double", "x", [[3, 4]]) == [6, 8]


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


def test_what_cannot_run_here_says_what_it_would_take(daemon: Up, tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", isvc("scores", "mlflow", "/nowhere"))
    daemon.run("apply", "-f", file)
    value = daemon.service("scores")
    ready = condition(value, "PredictorReady")
    assert ready["status"] == "False"
    assert "in the place of mlserver Nerite serves" in ready["message"]
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


def test_one_folder_has_one_daemon(daemon: Up) -> None:
    ran = daemon.run("up")
    assert ran.returncode == 1
    assert f"another daemon runs already (process {daemon.process.pid}" in ran.stderr


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


ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "nerite", *sys.argv[1:]])
"""


def test_on_a_terminal_the_table_is_live_and_ctrl_c_ends_everything(
    tmp_path: Path, models: Path
) -> None:
    file = write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double"))
    home = tmp_path / "home"
    environment = {**os.environ, "NERITE_HOME": str(home), "COLUMNS": "120", "TERM": "xterm"}
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, "up", "-f", str(file)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        shown = b""
        while not re.search(rb"True.*http://127\.0\.0\.1:\d+", shown):
            shown += os.read(screen, 65536)
        assert b"default/double" in shown
        assert b"predictor" in shown
        (pid,) = [
            pid
            for component in DaemonClient(socket_path(home)).details("default", "double")[
                "components"
            ]
            for pid in component["pids"]
        ]
        os.write(screen, b"\x03")
        with suppress(OSError):  # what Linux says at the end of a terminal's output
            while os.read(screen, 65536):
                continue
        assert process.wait(60) == 0
    os.close(screen)
    assert not is_alive(pid)


def test_a_second_ctrl_c_does_not_wait_for_a_stubborn_process(tmp_path: Path) -> None:
    stubborn = (
        "import signal, sys, time, http.server as h\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
        "print('up', flush=True)\n"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.SimpleHTTPRequestHandler).serve_forever()"
    )
    value = isvc("stubborn", "onnx", "/")
    container = {"command": ["python", "-c", stubborn, "8080"]}
    value["spec"]["predictor"] = {"containers": [container]}
    with up(tmp_path / "home", "-f", write(tmp_path / "a.yaml", value)) as daemon:
        daemon.ready("stubborn")
        (pid,) = daemon.processes("stubborn")
        with subprocess.Popen(
            [*NERITE, "logs", "stubborn", "-f"], env=daemon.environment, stdout=subprocess.PIPE
        ) as log:
            assert log.stdout is not None
            assert log.stdout.readline() == b"up\n"  # the log is open and is followed
            daemon.process.send_signal(signal.SIGINT)
            while b"no" not in (line := log.stdout.readline()):
                assert line, "the process was not asked to end"
            # Half a second has to pass, or the second one counts as an echo of the first.
            while daemon.process.poll() is None:
                daemon.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    daemon.process.wait(0.6)
            log.terminate()
        assert daemon.process.returncode == 1
        wait_gone(pid)


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
    refused = daemon.run("get", "isvc", "double", "-o", "jsonpath={.items[*].status}")
    assert "use -o json for the rest" in refused.stderr
    late = daemon.run("wait", "isvc/double", "--for=condition=Stopped", "--timeout", "0.1s")
    assert late.returncode == 1
    assert late.stderr == f"error: timed out waiting for the condition on {name}\n"
    daemon.run("delete", "isvc", "double")
    assert daemon.run("wait", "isvc/double", "--for=delete").returncode == 0
    gone = daemon.run("wait", "isvc/double")
    assert gone.returncode == 1
    assert "not found" in gone.stderr


def test_what_nothing_runs_for_is_kept_with_a_warning(daemon: Up, tmp_path: Path) -> None:
    graph = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": {"name": "chain"},
        "spec": {
            "nodes": {
                "root": {"routerType": "Sequence", "steps": [{"serviceName": "irises"}]},
            }
        },
    }
    ran = daemon.run("apply", "-f", write(tmp_path / "a.yaml", graph))
    assert "nothing runs for it: InferenceGraph is not offered yet" in ran.stderr
    assert ran.stdout == "inferencegraph.serving.kserve.io/chain created\n"
    assert daemon.run("get", "ig").stdout.splitlines()[1].split()[0] == "chain"
