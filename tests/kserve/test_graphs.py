"""Graphs of services that the gateway serves itself, of real models, and in time."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import trustme
from tests.kserve.stubs import Call, Handler, refusing, stubs
from tests.kserve.test_gateway import ask, gateway, predictor
from tests.server.graphs import sequence

from nerite.errors import ConfigError, InvalidArgument
from nerite.kserve.admission import Cluster, admit_all
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import read_documents
from nerite.kserve.gateway import Component, Graph, Service
from nerite.kserve.graphs import graph_of, path_in, serve_graph, v2_path
from nerite.testing import serve

GRAPH = """
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: pipeline, namespace: prod}
spec:
  nodes:
    root:
      routerType: Sequence
      steps:
      - {name: first, serviceName: first}
      - {name: second, serviceName: second, data: $response}
"""


def test_steps_that_name_services_reach_their_replicas_and_not_the_front(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text(GRAPH)
    with stubs({"*": {"echo": True}}) as first, stubs({"*": {"body": '{"b": 2}'}}) as second:
        parts = [
            Service(name, "prod", predictor(made).components)
            for name, made in (("first", first), ("second", second))
        ]
        with serve_graph(tmp_path / "graph.yaml", parts) as gate:
            status, headers, body = ask(gate, host="pipeline-prod.example.com", body=b'{"a": 1}')
            assert (status, headers["content-type"], body) == (200, "application/json", b'{"b": 2}')
            assert gate.counters()["requests"] == 1
        calls = [
            (call.path, call.headers["host"], call.body) for call in first.calls + second.calls
        ]
        assert calls == [
            (f"/v1/models/{name}:predict", f"{name}.prod.svc.cluster.local", b'{"a": 1}')
            for name in ("first", "second")
        ]


def test_a_graph_that_kserve_would_refuse_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH.replace("root:", "begin:"))
    with pytest.raises(ConfigError, match="root node not found"), serve_graph(file):
        pass
    file.write_text("")
    with pytest.raises(InvalidArgument, match="has 0 InferenceGraphs"), serve_graph(file):
        pass


IDENTITY = """backend: "identity" max_batch_size: 8
input [ {{ name: "{0}" data_type: TYPE_FP32 dims: [-1] }} ]
output [ {{ name: "{1}" data_type: TYPE_FP32 dims: [-1] }} ]
"""


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_of_a_v2_step_are_the_inputs_of_the_next(tmp_path: Path, binary: bool) -> None:
    for name, tensors in (("first", ("A", "B")), ("second", ("B", "C"))):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(IDENTITY.format(*tensors))
    with serve(tmp_path) as server:
        address = server.http_url.removeprefix("http://")
        parts = [predictor(address, name=name) for name in ("first", "second")]
        spec = sequence({"serviceName": "first"}, {"serviceName": "second", "data": "$response"})
        with (
            serve_graph(spec, parts, path_of=v2_path) as gate,
            tritonclient.http.InferenceServerClient(f"127.0.0.1:{gate.port}") as client,
        ):
            x = np.arange(6, dtype=np.float32).reshape(2, 3)
            sent = tritonclient.http.InferInput("A", x.shape, "FP32")
            sent.set_data_from_numpy(x, binary_data=binary)
            asked = [tritonclient.http.InferRequestedOutput("B", binary_data=binary)]
            answer = client.infer("any", [sent], outputs=asked, request_id="r7")
            np.testing.assert_array_equal(answer.as_numpy("C"), x)
            assert answer.get_response()["id"] == "r7"


def test_a_graph_may_be_a_step_of_a_graph_but_not_of_itself() -> None:
    inner = Service("inner", components=[graph(sequence({"serviceName": "leaf"}))])
    with stubs({"*": {"echo": True}}) as made:
        leaf = predictor(made, name="leaf")
        with serve_graph(sequence({"serviceName": "inner"}), [inner, leaf]) as gate:
            assert ask(gate, host="graph", body=b'{"a": 1}')[2] == b'{"a": 1}'
            assert ask(gate, host="inner", body=b'{"b": 1}')[2] == b'{"b": 1}'
    circle = sequence({"serviceName": "inner"})
    with serve_graph(circle, [Service("inner", components=[graph(circle)])]) as gate:
        status, _, body = ask(gate, host="graph")
        assert status == 500
        assert "a circle" in json.loads(body)["cause"]


def graph(spec: dict[str, Any]) -> Component:
    return Component("graph", graph=graph_of(spec))


def test_a_step_and_a_graph_that_take_too_long_end() -> None:
    let_go = threading.Event()

    def hang(handler: Handler, _: Call) -> None:
        let_go.wait(10)

    with stubs({"*": hang}) as made:
        nodes = sequence({"serviceUrl": f"{made.url}/a"})["nodes"]
        steps = Service("steps", components=[Component("graph", graph=Graph(nodes, None, 0.05))])
        whole = Service("whole", components=[Component("graph", graph=Graph(nodes, 0.05))])
        with gateway(steps, whole) as gate:
            status, _, body = ask(gate, host="steps")
            assert status == 500
            assert "no answer within 0.05 s" in json.loads(body)["cause"]
            status, _, body = ask(gate, host="whole")
            assert status == 504
            assert "longer than 0.05 s" in json.loads(body)["error"]
        let_go.set()


def test_a_client_that_goes_away_takes_all_steps_back() -> None:
    asked, gone = threading.Semaphore(0), threading.Semaphore(0)

    def wait(handler: Handler, _: Call) -> None:
        asked.release()
        handler.connection.settimeout(10)
        if handler.connection.recv(1) == b"":
            gone.release()

    with stubs({"*": wait}) as made:
        steps = [{"serviceUrl": f"{made.url}/{name}"} for name in "abc"]
        spec = {"nodes": {"root": {"routerType": "Ensemble", "steps": steps}}}
        with serve_graph(spec) as gate:
            client = socket.create_connection(("127.0.0.1", gate.port))
            client.sendall(b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}")
            assert all(asked.acquire(timeout=10) for _ in steps)
            client.close()
            assert all(gone.acquire(timeout=10) for _ in steps)


def test_a_service_without_replicas_is_named_in_the_cause() -> None:
    waiting = Service("late", components=[Component("predictor", absent="it is loading")])
    with serve_graph(sequence({"serviceName": "late"}), [waiting]) as gate:
        status, _, body = ask(gate, host="graph")
        told = "service 'default/late', component 'predictor': it is loading"
        assert (status, json.loads(body)["cause"]) == (500, told)


def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_steps_over_tls_reach_whom_the_machine_trusts_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, stranger = trustme.CA(), trustme.CA()
    trusted.cert_pem.write_to_path(str(tmp_path / "roots.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    plus = {"body": '{"instances": [2]}'}
    with (
        stubs({"first": plus, "second": {"echo": True}}, certified(trusted)) as there,
        stubs({"*": {"echo": True}}, certified(stranger)) as elsewhere,
    ):
        steps = [
            {"serviceUrl": f"{there.url}/first"},
            {"serviceUrl": f"{there.url}/second", "data": "$response"},
        ]
        with serve_graph(sequence(*steps)) as gate:
            for _ in range(3):
                status, _, body = ask(gate)
                assert (status, json.loads(body)) == (200, {"instances": [2]})
        assert there.connections == 1
        with serve_graph(sequence({"serviceUrl": f"{elsewhere.url}/x"})) as gate:
            status, _, body = ask(gate)
        assert status == 500
        assert "TLS: invalid peer certificate" in json.loads(body)["cause"]
    with serve_graph(sequence({"serviceUrl": "ftp://elsewhere/x"})) as gate:
        assert "write http:// or https://" in json.loads(ask(gate)[2])["cause"]


def test_trace_context_and_request_id_reach_every_step() -> None:
    with stubs({"*": {"echo": True}}) as made, refusing():
        steps = [{"serviceUrl": f"{made.url}/{name}"} for name in "ab"]
        with serve_graph(sequence(*steps)) as gate:
            ask(gate, Traceparent="00-a-b-01", X_Request_Id="r1", X_Else="no")
        for call in made.calls:
            assert call.told() == {
                "content-type": "application/json",
                "traceparent": "00-a-b-01",
                "x-request-id": "r1",
            }


SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: %s, namespace: prod}
spec:
  predictor:
    model: {modelFormat: {name: sklearn}, storageUri: "gs://a/b"%s}
%s"""
TRANSFORMER = """  transformer:
    containers:
    - {image: mine, env: [{name: PROTOCOL, value: v2}]}
"""


def test_services_are_asked_by_the_protocol_that_each_speaks() -> None:
    texts = [
        SERVICE % ("plain", "", ""),
        SERVICE % ("said", ", protocolVersion: v2", ""),
        SERVICE % ("runtime", ", runtime: kserve-mlserver, protocolVersion: v2", ""),
        SERVICE % ("both", ", runtime: kserve-sklearnserver", ""),
        SERVICE % ("shaped", "", TRANSFORMER),
    ]
    cluster: Cluster = admit_all(read_documents("---".join(texts)), builtin_cluster())
    path_of = path_in(cluster, "prod")
    v2 = {name: path_of(name).startswith("/v2/") for name in ("plain", "said", "runtime", "both")}
    assert v2 == {"plain": False, "said": True, "runtime": True, "both": False}
    assert path_of("shaped") == "/v2/models/shaped/infer"
    assert path_of("unknown") == "/v1/models/unknown:predict"
