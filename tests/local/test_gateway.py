"""The gateway of `nerite up`: by host and path, over gRPC, graphs, failures under load."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tritonclient.grpc
from tests.kserve.stubs import Call, Handler, stubs
from tests.local.daemons import NERITE, Up, condition, up
from tests.local.load import load, v2
from tests.local.manifests import FLOWERS, four_nodes, graph, infer, isvc, node, url_of, write

from nerite.kserve.documents import Object

pytestmark = pytest.mark.timeout(180)
FREE = {"--http-port": "0", "--grpc-port": "0"}
DOUBLING = str(Path(__file__).parents[2] / "examples/kserve/transformer/doubling.py")
SERVICES = {
    "irises": ("input-0", FLOWERS[[149]].tolist(), [2]),
    "double": ("x", [[1.0, 2.0]], [2, 4]),
    "custom": ("x", [[1.0, 2.0]], [2, 4]),
    "chained": ("x", [[1.0, 2.0]], [4, 8]),
}


def custom(models: Path) -> Object:
    """A container with a command of its own, here `nerite serve` as anybody would type it."""
    words = [sys.executable, "-m", "nerite", "serve", str(models / "double/model.onnx")]
    ports = [{"containerPort": 8080, "name": "http1"}, {"containerPort": 9000, "name": "grpc"}]
    container = {
        "name": "kserve-container",
        "command": words,
        "args": ["--http-port=8080", "--grpc-port=9000", "--metrics-port=0"],
        "ports": ports,
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}},
    }
    value = isvc("custom", "onnx", "")
    value["spec"]["predictor"] = {"containers": [container]}
    return value


NODES = four_nodes(
    "irises",
    "chained",
    {"serviceName": "double", "weight": 50},
    {
        "serviceUrl": "http://double.default.svc.cluster.local/v2/models/double/infer",
        "weight": 50,
    },
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("gateway")
    transformer = {"containers": [{"command": ["python", DOUBLING]}]}
    chained = isvc("chained", "onnx", models / "double", transformer=transformer)
    files = write(
        folder / "all.yaml",
        graph("choice", NODES),
        isvc("irises", "sklearn", models / "irises"),
        isvc("double", "onnx", models / "double"),
        custom(models),
        chained,
    )
    with up(folder / "home", "-f", files, "--trust") as daemon:
        for name in SERVICES:
            daemon.ready(name)
        yield daemon


def model_of(name: str) -> str:
    return "model" if name == "custom" else name


def body_of(name: str) -> bytes:
    tensor, rows, _ = SERVICES[name]
    entry = {"name": tensor, "shape": np.shape(rows), "datatype": "FP32", "data": rows}
    return json.dumps({"inputs": [entry]}).encode()


def post(url: str, body: bytes, **headers: str) -> Any:
    with urlopen(Request(url, body, headers), timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize("name", SERVICES)
def test_rest_by_host_and_by_path(running: Up, name: str) -> None:
    path = f"/v2/models/{model_of(name)}/infer"
    expected = SERVICES[name][2]
    assert url_of(running.service(name)) == f"http://{running.http}/serving/default/{name}"
    for port in (running.http, running.grpc):
        for url, host in (
            (f"http://{port}{path}", f"{name}-default.example.com"),
            (f"http://{port}{path}", f"{name}-default.localhost"),
            (f"http://{port}{path}", f"{name}.default.svc.cluster.local"),
            (f"http://{port}/serving/default/{name}{path}", "anything"),
        ):
            found = post(url, body_of(name), Host=host)
            assert found["outputs"][0]["data"] == expected, (url, host)


@pytest.mark.parametrize("name", ["irises", "double", "custom"])
def test_grpc_by_authority(running: Up, name: str) -> None:
    tensor, rows, expected = SERVICES[name]
    for host in (f"{name}-default.example.com", f"{name}-predictor.default.svc.cluster.local"):
        arguments = [("grpc.default_authority", host)]
        with tritonclient.grpc.InferenceServerClient(
            running.grpc, channel_args=arguments
        ) as client:
            given = tritonclient.grpc.InferInput(tensor, np.shape(rows), "FP32")
            given.set_data_from_numpy(np.array(rows, np.float32))
            answer = client.infer(model_of(name), [given])
            output = answer.get_response().outputs[0].name
            assert answer.as_numpy(output).ravel().tolist() == expected


def test_a_graph_of_four_nodes(running: Up) -> None:
    assert running.run("wait", "ig/choice", "--for=condition=Ready").returncode == 0
    head, row = running.run("get", "inferencegraph", "choice").stdout.splitlines()
    assert head.split() == ["NAME", "URL", "READY", "AGE"]
    _, url, ready, _ = row.split()
    assert ready == "True"
    found = post(url, body_of("double"))
    assert found["split"]["outputs"][0]["data"] == [2, 4]
    assert found["twice"]["outputs"][0]["data"] == [4, 8]
    found = post(f"http://{running.http}/", body_of("irises"), Host="choice-default.example.com")
    assert found["outputs"][0]["data"] == [2]
    assert any(line.startswith("default/choice  Ready=True") for line in running.lines) or (
        "choice" in running.until(lambda line: line.startswith("default/choice  Ready=True"))
    )


def test_a_graph_waits_for_its_services(daemon: Up, tmp_path: Path, models: Path) -> None:
    value = graph("chain", {"root": node("Sequence", {"serviceName": "double"})})
    daemon.run("apply", "-f", write(tmp_path / "g.yaml", value))

    def ready() -> Object:
        (found,) = daemon.client.objects("InferenceGraph", "default", "chain")
        assert ("url" in found["status"]) == (condition(found, "Ready")["status"] == "True")
        return condition(found, "Ready")

    assert ready()["message"] == 'inferenceservices.serving.kserve.io "double" not found'
    daemon.run("apply", "-f", write(tmp_path / "a.yaml", isvc("double", "onnx", tmp_path)))
    assert ready()["message"] == 'the InferenceService "double" is not ready'
    with pytest.raises(HTTPError) as refused:
        post(f"http://{daemon.http}/serving/default/double/v2/models/double/infer", b"{}")
    assert refused.value.code == 503
    refused.value.close()
    daemon.run("apply", "-f", write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double")))
    daemon.ready("double")
    assert ready()["status"] == "True"
    value["metadata"]["name"] = "double"
    daemon.run("apply", "-f", write(tmp_path / "g2.yaml", value))
    (taken,) = daemon.client.objects("InferenceGraph", "default", "double")
    assert condition(taken, "Ready")["reason"] == "NameTaken"
    assert infer(url_of(daemon.service("double")), "double", "x", [[1, 2]]) == [2, 4]


def test_a_graph_of_urls_runs_alone(tmp_path: Path) -> None:
    with stubs({"first": {"body": '{"step": 1}'}, "second": {"body": '{"step": 2}'}}) as there:
        steps = [
            {"serviceUrl": f"http://{there.address}/first"},
            {"serviceUrl": f"http://{there.address}/second", "data": "$response"},
        ]
        file = write(tmp_path / "g.yaml", graph("urls", {"root": node("Sequence", *steps)}))
        with up(tmp_path / "home", "-f", file) as daemon:
            daemon.until(lambda line: line.startswith("default/urls  Ready=True"))
            assert post(f"http://{daemon.http}/serving/default/urls", b'{"step": 0}') == {"step": 2}


def test_what_cannot_be_routed_says_why_and_harms_no_other(running: Up, tmp_path: Path) -> None:
    late = isvc("late", "onnx", "/nowhere", predictor={"timeout": 2**40})
    running.run("apply", "-f", write(tmp_path / "late.yaml", late))
    with pytest.raises(HTTPError) as refused:
        post(f"http://{running.http}/serving/default/late/v2", b"{}")
    assert refused.value.code == 503
    assert "timeout_secs is 1099511627776" in refused.value.read().decode()
    assert infer(url_of(running.service("double")), "double", "x", [[1, 2]]) == [2, 4]
    assert running.run("delete", "-f", tmp_path / "late.yaml").returncode == 0


def test_a_logger_tells_its_sink(daemon: Up, tmp_path: Path, models: Path) -> None:
    told: queue.Queue[Call] = queue.Queue()

    def hear(handler: Handler, call: Call) -> None:
        told.put(call)
        handler.reply(200, {}, b"")

    with stubs({"*": hear}) as sink:
        value = isvc("double", "onnx", models / "double")
        value["spec"]["predictor"]["logger"] = {"url": f"{sink.url}/heard", "mode": "all"}
        daemon.run("apply", "-f", write(tmp_path / "a.yaml", value))
        assert infer(url_of(daemon.ready("double")), "double", "x", [[1, 2]]) == [2, 4]
        heard = {
            call.headers["ce-type"]: json.loads(call.body)
            for call in (told.get(timeout=30), told.get(timeout=30))
        }
    assert heard["org.kubeflow.serving.inference.request"]["inputs"][0]["data"] == [[1, 2]]
    assert heard["org.kubeflow.serving.inference.response"]["outputs"][0]["data"] == [2, 4]


def test_what_is_killed_under_load_is_repaired_and_no_other_is_touched(running: Up) -> None:
    """Four clients ask each service all the time; one service's process is killed twice."""
    path = "/serving/default/{0}/v2/models/{1}/infer"
    asked = {
        name: v2(path.format(name, model_of(name)), *SERVICES[name][:2])
        for name in ("irises", "double", "custom")
    }
    with load(running.http, asked, clients=4) as seen:
        for _ in range(2):
            (pid,) = running.processes("double")
            os.kill(pid, signal.SIGKILL)
            running.watch("double", lambda v: condition(v, "Ready")["status"] == "False")
            running.ready("double")
        seen.until_each_was_answered(20)
    assert seen.broken == []
    assert {name: set(answers) for name, answers in seen.answers.items()} == {
        name: {SERVICES[name][2][0]} for name in asked
    }
    assert not seen.failures["irises"]
    assert not seen.failures["custom"]
    assert seen.failures["double"].keys() <= {502, 503}
    assert seen.failures["double"][503] > 0
    assert infer(url_of(running.service("double")), "double", "x", [[1, 2]]) == [2, 4]


def test_a_port_that_is_taken_is_told_with_its_flag(running: Up, tmp_path: Path) -> None:
    for flag, port in (("--http-port", running.http), ("--grpc-port", running.grpc)):
        number = port.rpartition(":")[2]
        words = (f"{key}={value}" for key, value in {**FREE, flag: number}.items())
        environment = {**os.environ, "NERITE_HOME": str(tmp_path / "other")}
        command = [*NERITE, "up", *words]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ran.returncode == 1
        assert f"choose another {flag}" in ran.stderr


def test_everything_is_there_again_after_a_restart(
    tmp_path: Path, models: Path, free_ports: tuple[int, int]
) -> None:
    words = [f"--http-port={free_ports[0]}", f"--grpc-port={free_ports[1]}"]
    value = graph("chain", {"root": node("Sequence", {"serviceName": "double"})})
    transformer = {"containers": [{"command": ["python", DOUBLING]}]}
    service = isvc("double", "onnx", models / "double", transformer=transformer)
    url = f"http://127.0.0.1:{free_ports[0]}/serving/default"
    file = write(tmp_path / "a.yaml", service, value)
    for more in (["-f", file], []):
        with up(tmp_path / "home", *more, *words) as daemon:
            assert url_of(daemon.ready("double")) == f"{url}/double"
            found = post(f"{url}/chain", body_of("double"))
            assert found["outputs"][0]["data"] == [4, 8]
            assert daemon.stop() == 0
