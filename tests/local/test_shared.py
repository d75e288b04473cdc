"""`nerite up --shared`: several services in one process, over the real wire."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tritonclient.grpc
from tests.local.daemons import Up, condition, is_ready, up, wait_gone
from tests.local.manifests import adding, infer, isvc, url_of, write

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def adders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that differ."""
    folder = tmp_path_factory.mktemp("adders")
    for name, amount in (("one", 1), ("ten", 10)):
        adding(amount, folder / name / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, models: Path, adders: Path) -> Iterator[Up]:
    """Four services: two share, a third says no, a fourth cannot."""
    folder = tmp_path_factory.mktemp("shared")
    alone = isvc("alone", "onnx", models / "double")
    alone["metadata"]["annotations"] = {"nerite.dev/shared": "false"}
    several = isvc("several", "onnx", models / "double", predictor={"containerConcurrency": 2})
    files = write(
        folder / "all.yaml",
        isvc("adds", "onnx", adders / "one"),
        isvc("double", "onnx", models / "double"),
        alone,
        several,
    )
    with up(folder / "home", "--shared", "--trust", "-f", files) as daemon:
        for name in ("adds", "double", "alone", "several"):
            daemon.ready(name)
        yield daemon


def process_of(daemon: Up, name: str) -> tuple[list[int], list[str]]:
    """The ids and the names of the processes that a service's copies are in."""
    components = daemon.client.details("default", name)["components"]
    pids = [pid for component in components for pid in component["pids"]]
    return pids, [component["process"] for component in components]


def test_two_models_answer_from_one_process_over_every_protocol(shared: Up) -> None:
    pids, named = process_of(shared, "adds")
    assert (pids, named) == process_of(shared, "double")
    assert named == ["shared-1"]
    for name, tensor, rows, expected in (
        ("adds", "x", np.array([[1, 2]]), [2, 3]),
        ("double", "x", np.array([[1, 2]]), [2, 4]),
    ):
        value = shared.service(name)
        assert infer(url_of(value), name, tensor, rows) == expected
        asked = json.dumps({"instances": rows.tolist()}).encode()
        with urlopen(Request(f"{url_of(value)}/v1/models/{name}:predict", asked)) as answer:
            assert np.ravel(json.load(answer)["predictions"]).tolist() == expected
        host = [("grpc.default_authority", f"{name}-default.example.com")]
        with tritonclient.grpc.InferenceServerClient(shared.grpc, channel_args=host) as client:
            given = tritonclient.grpc.InferInput(tensor, rows.shape, "FP32")
            given.set_data_from_numpy(rows.astype(np.float32))
            found = client.infer(name, [given])
            output = found.get_response().outputs[0].name
            assert np.ravel(found.as_numpy(output)).tolist() == expected


def test_who_cannot_or_will_not_share_has_a_process_of_its_own(shared: Up) -> None:
    assert process_of(shared, "alone")[1] == [""]
    assert process_of(shared, "several")[1] == [""]
    assert "shared" not in shared.run("describe", "isvc", "alone").stdout.split("Processes:")[1]
    told = shared.run("describe", "isvc", "several").stdout
    assert "it has a process of its own: containerConcurrency is 2" in told


def test_the_process_is_shown_and_its_log_found(shared: Up) -> None:
    (pid,), _ = process_of(shared, "adds")
    assert f"{pid} (shared-1)" in shared.run("describe", "isvc", "adds").stdout
    head, *rows = shared.run("get", "isvc", "-o", "wide").stdout.splitlines()
    at = head.index("PROCESS")
    shown = {row.split()[0]: row[at:].split()[0] for row in rows}
    assert shown["adds"] == shown["double"] == "shared-1"
    assert shown["alone"] == shown["several"] == "own"
    assert "successfully loaded 'adds'" in shared.run("logs", "adds").stdout
    assert "successfully loaded 'double'" in shared.run("logs", "adds").stdout


def test_a_killed_process_comes_back_with_all_its_models(shared: Up) -> None:
    (pid,), _ = process_of(shared, "adds")
    os.kill(pid, signal.SIGKILL)
    shared.watch("adds", lambda value: not is_ready(value))
    for name, expected in (("adds", [2, 3]), ("double", [2, 4])):
        value = shared.ready(name)
        assert infer(url_of(value), name, "x", [[1, 2]]) == expected
        failure = value["status"]["modelStatus"]["lastFailureInfo"]
        assert (failure["exitCode"], failure["reason"]) == (137, "RuntimeUnhealthy")
    assert process_of(shared, "adds") == process_of(shared, "double")
    assert process_of(shared, "adds")[0] != [pid]


@contextmanager
def asking(url: str, model: str) -> Iterator[list[Any]]:
    """Asks a few hundred times a second meanwhile; what was answered, failures too."""
    answers: list[Any] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.003):
            try:
                answers.append(infer(url, model, "x", [[1, 2]]))
            except HTTPError as error:
                answers.append((error.code, error.read()))
            except OSError as error:
                answers.append(repr(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def test_a_change_rolls_out_without_a_gap_and_a_failing_one_is_told(
    shared: Up, tmp_path: Path, adders: Path
) -> None:
    url = url_of(shared.ready("adds"))
    file = write(tmp_path / "a.yaml", isvc("adds", "onnx", adders / "ten"))
    with asking(url, "adds") as answers:
        before, _ = process_of(shared, "adds")
        shared.run("apply", "-f", file)

        def is_new(value: dict[str, Any]) -> bool:
            component = value["status"]["components"]["predictor"]
            return bool(component["latestReadyRevision"] == "adds-predictor-00002")

        shared.watch("adds", is_new)
        assert set(process_of(shared, "adds")[0]) == set(before)
        assert infer(url, "adds", "x", [[1, 2]]) == [11, 12]
    assert [answer for answer in answers if answer not in ([2, 3], [11, 12])] == []
    assert answers[0] == [2, 3]

    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/model.onnx").write_bytes(b"no model")
    shared.run("apply", "-f", write(file, isvc("adds", "onnx", tmp_path / "broken")))

    def is_blocked(value: dict[str, Any]) -> bool:
        status = value["status"]["modelStatus"]
        return bool(status["transitionStatus"] == "BlockedByFailedLoad")

    value = shared.watch("adds", is_blocked)
    status = value["status"]["modelStatus"]
    assert status["states"] == {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"}
    assert status["lastFailureInfo"]["reason"] == "ModelLoadFailed"
    assert "failed to load 'adds' version 1: " in status["lastFailureInfo"]["message"]
    assert condition(value, "Ready")["status"] == "True"
    assert infer(url, "adds", "x", [[1, 2]]) == [11, 12]
    shared.run("apply", "-f", write(file, isvc("adds", "onnx", adders / "one")))


def test_a_canary_shares_the_traffic_and_the_process_ends_with_its_models(
    shared: Up, tmp_path: Path, adders: Path
) -> None:
    file = tmp_path / "b.yaml"
    shared.run("apply", "-f", write(file, isvc("flowers", "onnx", adders / "one")))
    shared.ready("flowers")
    part = {"canaryTrafficPercent": 25}
    changed = isvc("flowers", "onnx", adders / "ten", predictor=part)
    shared.run("apply", "-f", write(file, changed))

    def is_shared(value: dict[str, Any]) -> bool:
        traffic = value["status"]["components"]["predictor"].get("traffic", [])
        return [target["percent"] for target in traffic] == [25, 75]

    url = url_of(shared.watch("flowers", is_shared))
    assert sorted(process_of(shared, "flowers")[1]) == ["shared-1", "shared-2"]
    found = [infer(url, "flowers", "x", [[1, 2]])[0] for _ in range(40)]
    assert found.count(11) == 10
    pids, _ = process_of(shared, "flowers")
    for name in ("flowers", "double", "adds"):
        assert "deleted" in shared.run("delete", "isvc", name).stdout
    for pid in pids:
        wait_gone(pid)


def test_a_repository_keeps_its_names_in_a_process_of_its_own(
    shared: Up, tmp_path: Path, models: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / "repository" / name / "1").mkdir(parents=True)
        file = tmp_path / "repository" / name / "1/model.onnx"
        file.write_bytes((models / "double/model.onnx").read_bytes())
    value = isvc("street", "triton", tmp_path / "repository")
    shared.run("apply", "-f", write(tmp_path / "c.yaml", value))
    url = url_of(shared.ready("street"))
    assert infer(url, "two", "x", [[1, 2]]) == [2, 4]
    assert process_of(shared, "street")[1] == [""]
    assert "'repository' has names of its own" in shared.run("describe", "isvc", "street").stdout
