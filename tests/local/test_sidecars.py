"""What `nerite up` does of batcher, logger, timeout, concurrency, copies, explainer and probes."""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from tests.kserve.stubs import Call, Handler, Stubs, stubs
from tests.local.daemons import Up, condition, up, wait_gone
from tests.local.manifests import FLOWERS, KINDS, isvc, url_of, write

pytestmark = pytest.mark.timeout(180)
EXAMPLES = Path(__file__).parents[2] / "examples/kserve"
ODD = str(Path(__file__).with_name("odd_server.py"))
LATENCY_MS = 400


def odd(name: str, container: dict[str, Any] | None = None, **predictor: Any) -> dict[str, Any]:
    """A service of `odd_server`."""
    value = isvc(name, "none", "")
    ready = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    value["spec"]["predictor"] = {
        "containers": [
            {
                "name": "kserve-container",
                "command": [sys.executable, ODD, "--port=8080"],
                "readinessProbe": ready,
                **(container or {}),
            }
        ],
        **predictor,
    }
    return value


def v1(name: str, uri: Path, **predictor: Any) -> dict[str, Any]:
    """A scikit-learn service as the first page of KServe's documentation has it: over V1."""
    value = isvc(name, "sklearn", uri, predictor=predictor)
    del value["spec"]["predictor"]["model"]["protocolVersion"]
    return value


@pytest.fixture(scope="module")
def told() -> queue.Queue[Call]:
    return queue.Queue()


@pytest.fixture(scope="module")
def sink(told: queue.Queue[Call]) -> Iterator[Stubs]:
    def hear(handler: Handler, call: Call) -> None:
        told.put(call)
        handler.reply(200, {}, b"")

    with stubs({"*": hear}) as there:
        yield there


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, models: Path, sink: Stubs) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("sidecars")
    batcher = {"maxBatchSize": 8, "maxLatency": LATENCY_MS}
    logger = {"url": f"{sink.url}/heard", "mode": "all", "metadataHeaders": ["X-Team"]}
    explainer = {"containers": [{"command": ["python", str(EXAMPLES / "explainer/occlusion.py")]}]}
    liveness = {
        "httpGet": {"path": "/", "port": 8080},
        "periodSeconds": 1,
        "failureThreshold": 2,
        "terminationGracePeriodSeconds": 1,
    }
    explained = v1("explained", models / "irises")
    explained["spec"]["explainer"] = explainer
    files = write(
        folder / "all.yaml",
        v1("joined", models / "irises", batcher=batcher, logger=logger),
        explained,
        odd("slow", timeout=1),
        odd("few", containerConcurrency=2, minReplicas=2),
        odd("hanging", {"livenessProbe": liveness}),
        odd("never", minReplicas=0, maxReplicas=3),
    )
    with up(folder / "home", "-f", files, "--trust") as daemon:
        for name in ("joined", "explained", "slow", "few", "hanging", "never"):
            daemon.ready(name)
        yield daemon


def post(url: str, value: object, **headers: str) -> Any:
    request = Request(url, json.dumps(value).encode(), headers)
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def predict(running: Up, name: str, rows: Any, verb: str = "predict", **headers: str) -> Any:
    url = f"{url_of(running.service(name))}/v1/models/{name}:{verb}"
    return post(url, {"instances": rows}, **headers)


def test_predictions_of_many_callers_are_joined(running: Up) -> None:
    """24 callers at once in batches of 8: each gets its own, and those of a batch its id."""
    url = f"{url_of(running.service('joined'))}/v1/models/joined:predict"
    chosen = [(number * 6) % 150 for number in range(24)]
    with ThreadPoolExecutor(24) as pool:
        begun = time.monotonic()
        answers = list(pool.map(lambda i: post(url, {"instances": [FLOWERS[i].tolist()]}), chosen))
        took = time.monotonic() - begun
    assert [answer["predictions"] for answer in answers] == [[int(KINDS[i])] for i in chosen]
    sizes = Counter(answer["batchId"] for answer in answers)
    assert max(sizes.values()) <= 8
    assert len(sizes) <= 12
    assert any(size > 1 for size in sizes.values())
    assert took < 24 * LATENCY_MS / 1000


def test_a_batch_that_does_not_fill_goes_after_its_latency(running: Up) -> None:
    begun = time.monotonic()
    answer = predict(running, "joined", FLOWERS[[0, 149]].tolist())
    took = time.monotonic() - begun
    assert answer["predictions"] == [0, 2]
    assert answer["message"] == ""
    assert LATENCY_MS / 1000 <= took < 30
    # A full one does not wait.
    full = predict(running, "joined", FLOWERS[:8].tolist())
    assert full["predictions"] == [0] * 8
    assert full["batchId"] != answer["batchId"]


def test_the_sink_hears_each_caller(running: Up, told: queue.Queue[Call]) -> None:
    rows = FLOWERS[[149] * 8].tolist()
    headers = {"Ce-Id": "mine", "X-Team": "botany", "Content-Type": "application/json"}
    predict(running, "joined", rows, **headers)
    heard: dict[str, Call] = {}
    while len(heard) < 2:
        # What is told of other tests' calls comes when it comes.
        if (call := told.get(timeout=30)).headers["ce-id"] == "mine":
            heard[call.headers["ce-type"]] = call
    request = heard["org.kubeflow.serving.inference.request"]
    response = heard["org.kubeflow.serving.inference.response"]
    assert json.loads(request.body) == {"instances": rows}
    assert json.loads(response.body)["predictions"] == [2] * 8
    assert request.path == "/heard"
    for call in heard.values():
        assert call.headers["ce-id"] == "mine"
        assert call.headers["ce-specversion"] == "1.0"
        assert call.headers["ce-inferenceservicename"] == "joined"
        assert call.headers["ce-namespace"] == "default"
        assert call.headers["ce-component"] == "predictor"
        assert call.headers["content-type"] == "application/json"
        assert json.loads(call.headers["ce-metadata"]) == {"X-Team": ["botany"]}


def test_explanations_come_from_the_explainer_and_predictions_do_not(running: Up) -> None:
    row = FLOWERS[149].tolist()
    assert predict(running, "explained", [row])["predictions"] == [2]
    (explained,) = predict(running, "explained", [row], "explain")["explanations"]
    assert explained["prediction"] == 2
    without = [[*row[:i], 0.0, *row[i + 1 :]] for i in range(4)]
    assert explained["without_feature"] == predict(running, "explained", without)["predictions"]
    ready = condition(running.service("explained"), "ExplainerReady")
    assert ready["status"] == "True"


def test_an_answer_that_takes_longer_than_the_timeout_is_given_up(running: Up) -> None:
    url = url_of(running.service("slow"))
    assert post(url, {"secs": 0})["most"] == 1
    begun = time.monotonic()
    with pytest.raises(HTTPError) as late:
        post(url, {"secs": 20})
    assert (late.value.code, time.monotonic() - begun < 15) == (504, True)
    assert "no answer within 1 s" in late.value.read().decode()


def test_each_of_two_copies_works_on_two_requests_at_a_time(running: Up) -> None:
    url = url_of(running.service("few"))
    assert len(running.processes("few")) == 2
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(url, {"secs": 0.2}), range(16)))
    assert {answer["pid"] for answer in answers} == set(running.processes("few"))
    assert max(answer["most"] for answer in answers) == 2


def test_more_than_ten_times_as_many_are_turned_away(running: Up) -> None:
    url = url_of(running.service("few"))

    def answer(_: int) -> tuple[int, bool]:
        try:
            post(url, {"secs": 1})
        except HTTPError as refused:
            return refused.code, "containerConcurrency" in refused.read().decode()
        return 200, False

    with ThreadPoolExecutor(60) as pool:
        answers = Counter(pool.map(answer, range(60)))
    assert answers.keys() == {(200, False), (503, True)}
    assert answers[503, True] <= 60 - 4 - 40


def test_one_of_two_copies_that_is_killed_leaves_the_other(running: Up) -> None:
    url = url_of(running.service("few"))
    first, second = running.processes("few")
    os.kill(first, signal.SIGKILL)
    wait_gone(first)
    for _ in range(20):
        assert post(url, {"secs": 0})["pid"] != first
    assert second in running.processes_when("few", lambda now: len({*now} - {first}) == 2)


def test_a_change_of_min_replicas_starts_and_ends_copies(running: Up, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    kept = running.processes("never")
    for count in (3, 1):
        write(file, odd("never", minReplicas=count))
        assert running.run("apply", "-f", file).returncode == 0
        now = running.processes_when("never", lambda now, count=count: len(now) == count)
        assert set(kept) <= set(now)
    assert running.service("never")["status"]["modelStatus"]["copies"]["totalCopies"] == 1


def test_a_process_that_hangs_is_ended_and_started_anew(running: Up) -> None:
    url = url_of(running.service("hanging"))
    (before,) = running.processes("hanging")
    post(url, {"hang": True})
    running.processes_when("hanging", lambda now: before not in now)
    value = running.ready("hanging")
    assert post(url, {})["pid"] != before
    failure = value["status"]["modelStatus"]["lastFailureInfo"]
    assert failure["exitCode"] == 137
    assert "its liveness probe (GET /) failed 2 times in a row" in failure["message"]


def test_what_is_not_scaled_here_is_said(running: Up) -> None:
    described = running.run("describe", "isvc", "few").stdout
    assert "nothing is scaled" not in described
    described = running.run("describe", "isvc", "never").stdout
    assert "minReplicas: 0: nothing is scaled to zero here; one copy runs all the time" in described
    assert "maxReplicas: 3: nothing is scaled here; 1 copy runs" in described


def test_a_websocket_is_told_that_it_cannot_pass(running: Up) -> None:
    host, port = running.http.split(":")
    key = base64.b64encode(b"0123456789abcdef").decode()
    head = (
        "GET /serving/default/slow/chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(head.encode())
        with connection.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"501"
            length = 0
            while line := answer.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split()[1])
            assert b"WebSocket connections do not pass the gateway" in answer.read(length)
