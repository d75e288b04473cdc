"""The gateway between real clients and real servers."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from tests.kserve.stubs import Call, Handler, Stubs, refusing, stubs

from nerite.errors import InvalidArgument
from nerite.kserve.gateway import (
    Component,
    Gateway,
    GatewayOptions,
    Replica,
    Revision,
    RouteTable,
    Service,
)
from nerite.server.server import Server
from nerite.testing import serve

MODEL = """backend: "identity" max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [-1] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [-1] } ]
"""
ECHO = {"*": {"echo": True}}


def replicas(*servers: Server | Stubs | str) -> list[Replica]:
    made = []
    for one in servers:
        if isinstance(one, Server):
            made.append(Replica(one.http_url.removeprefix("http://"), one.grpc_url))
        else:
            made.append(Replica(one if isinstance(one, str) else one.address))
    return made


def component(name: str, *servers: Server | Stubs | str, **more: Any) -> Component:
    return Component(name, [Revision(replicas(*servers))], **more)


def predictor(*servers: Server | Stubs | str, name: str = "iris", **more: Any) -> Service:
    return Service(name, components=[component("predictor", *servers, **more)])


@contextmanager
def gateway(*services: Service, **options: Any) -> Iterator[Gateway]:
    with Gateway(RouteTable(services), GatewayOptions(drain_secs=5, **options)) as made:
        yield made


def ask(
    gate: Gateway,
    path: str = "/",
    host: str = "iris.default",
    method: str = "POST",
    body: Any = b"{}",
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": host, **named})
        answer = connection.getresponse()
        told = {key.lower(): value for key, value in answer.getheaders()}
        return answer.status, told, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Two servers, each with a model of its own name."""
    with serve_one(tmp_path_factory, "left") as left, serve_one(tmp_path_factory, "right") as right:
        yield {"left": left, "right": right}


@contextmanager
def serve_one(tmp: pytest.TempPathFactory, name: str) -> Iterator[Server]:
    folder: Path = tmp.mktemp(name)
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(MODEL)
    with serve(folder) as server:
        yield server


@pytest.fixture(scope="module")
def gate(models: dict[str, Server]) -> Iterator[Gateway]:
    services = [predictor(server, name=name) for name, server in models.items()]
    with gateway(*services) as made:
        yield made


@pytest.mark.parametrize("name", ["left", "right"])
@pytest.mark.parametrize(
    "host",
    [
        "{}-default.example.com",
        "{}.default.example.com",
        "{}.default",
        "{}.default.svc",
        "{}.default.svc.cluster.local",
        "{}",
        "{}-predictor.default",
        "{}-predictor.default.svc.cluster.local",
        "{}-predictor",
    ],
)
def test_every_host_of_a_service_leads_to_its_model(name: str, host: str, gate: Gateway) -> None:
    status, _, body = ask(gate, f"/v2/models/{name}", host.format(name), "GET", None)
    assert (status, json.loads(body)["name"]) == (200, name)


def test_tritonclient_reaches_a_service_by_its_path(gate: Gateway) -> None:
    for name in ("left", "right"):
        url = f"127.0.0.1:{gate.port}/serving/default/{name}"
        with tritonclient.http.InferenceServerClient(url) as client:
            x = np.arange(8, dtype=np.float32).reshape(2, 4)
            sent = tritonclient.http.InferInput("X", x.shape, "FP32")
            sent.set_data_from_numpy(x)
            answer = client.infer(name, [sent])
            np.testing.assert_array_equal(answer.as_numpy("Y"), x)


def test_an_unknown_host_and_path_are_told_what_there_is(gate: Gateway) -> None:
    status, headers, body = ask(gate, "/v2", host="nobody.default")
    assert (status, headers["content-type"]) == (404, "application/json")
    text = json.loads(body)["error"]
    assert "'nobody.default'" in text
    assert "left-default.example.com" in text
    status, _, body = ask(gate, "/serving/prod/left/v2")
    assert status == 404
    assert "'/serving/prod/left'" in json.loads(body)["error"]


def test_the_only_service_answers_to_any_host(models: dict[str, Server]) -> None:
    with gateway(predictor(models["left"], name="left")) as gate:
        assert ask(gate, "/v2/models/left", f"127.0.0.1:{gate.port}", "GET", None)[0] == 200


def test_a_service_is_entered_by_its_transformer_and_explained_by_its_explainer() -> None:
    with stubs(ECHO) as one, stubs(ECHO) as two, stubs(ECHO) as three:
        parts = [
            component("predictor", one),
            component("transformer", two),
            component("explainer", three),
        ]
        with gateway(Service("iris", components=parts)) as gate:
            ask(gate, "/v1/models/iris:predict")
            ask(gate, "/v1/models/iris:explain")
            ask(gate, "/v1/models/iris:predict", host="iris-predictor.default")
            ask(gate, "/serving/default/iris/v1/models/iris:explain")
        paths = [[call.path for call in made.calls] for made in (one, two, three)]
        predict, explain = "/v1/models/iris:predict", "/v1/models/iris:explain"
        assert paths == [[predict], [predict], [explain, explain]]


def test_shares_of_a_canary_come_out_exactly() -> None:
    with stubs({"*": {"body": "old"}}) as old, stubs({"*": {"body": "new"}}) as new:
        split = [Revision(replicas(old), 90), Revision(replicas(new), 10)]
        with gateway(Service("iris", components=[Component("predictor", split)])) as gate:
            for _ in range(2):
                answers = Counter(ask(gate)[2] for _ in range(100))
                assert answers == {b"old": 90, b"new": 10}


def test_heads_lose_what_means_one_hop_and_tell_where_they_come_from() -> None:
    def reply(handler: Handler, _: Call) -> None:
        handler.reply(
            207,
            {"X-Mine": "1", "Keep-Alive": "timeout=9", "Connection": "X-Hop", "X-Hop": "1"},
            b"",
        )

    with stubs({"*": reply}) as made, gateway(predictor(made)) as gate:
        status, headers, _ = ask(
            gate,
            "/serving/default/iris/a?b=c%20d",
            X_Request_Id="r1",
            Traceparent="00-a-b-01",
            Connection="X-Private",
            X_Private="secret",
            X_Forwarded_For="10.0.0.9",
        )
        assert (status, headers["x-mine"]) == (207, "1")
        assert not {"x-hop", "keep-alive"} & set(headers)
        call = made.calls[0]
        assert call.path == "/a?b=c%20d"
        assert {"x-private", "connection"}.isdisjoint(call.headers)
        assert call.headers["host"] == "iris.default"
        assert call.told() == {
            "x-request-id": "r1",
            "traceparent": "00-a-b-01",
            "x-forwarded-for": "10.0.0.9, 127.0.0.1",
            "x-forwarded-host": "iris.default",
            "x-forwarded-proto": "http",
            "x-forwarded-prefix": "/serving/default/iris",
        }


def test_an_answer_reaches_the_client_piece_by_piece() -> None:
    first_was_read = threading.Event()

    def reply(handler: Handler, _: Call) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nfirst\r\n")
        assert first_was_read.wait(10)
        handler.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")

    with stubs({"*": reply}) as made, gateway(predictor(made)) as gate:
        connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
        connection.request("GET", "/", headers={"Host": "iris"})
        answer = connection.getresponse()
        assert answer.read1(100) == b"first"
        first_was_read.set()
        assert answer.read() == b"second"
        connection.close()


def test_a_body_reaches_the_component_piece_by_piece_and_large_ones_in_full() -> None:
    with stubs(ECHO) as made, gateway(predictor(made)) as gate:
        piece = bytes(range(256)) * 4096
        answer = ask(gate, body=(piece for _ in range(20)))
        assert answer[0] == 200
        assert answer[2] == piece * 20


def test_a_body_above_the_limit_is_refused_whether_announced_or_not() -> None:
    with stubs(ECHO) as made, gateway(predictor(made), max_request_bytes=1000) as gate:
        for body in (b"x" * 1001, iter([b"x" * 600] * 2)):
            status, _, text = ask(gate, body=body)
            assert status == 413, text
            assert "component 'predictor'" in json.loads(text)["error"]
        assert ask(gate, body=b"x" * 1000)[0] == 200


def test_a_body_with_broken_framing_is_the_clients_mistake() -> None:
    with stubs(ECHO) as made, gateway(predictor(made)) as gate:
        status, _, text = ask(gate, body=b"not a chunk", Transfer_Encoding="chunked")
        assert status == 400
        assert "request body broke off" in json.loads(text)["error"]


def test_a_replica_that_is_gone_is_passed_over_and_none_is_503_at_once() -> None:
    with stubs(ECHO) as made, refusing() as dead:
        with gateway(predictor(dead, made)) as gate:
            assert [ask(gate)[0] for _ in range(6)] == [200] * 6
        with gateway(predictor(dead)) as gate:
            status, _, body = ask(gate)
            text = json.loads(body)["error"]
            assert status == 503
            assert dead in text
            assert "service 'default/iris', component 'predictor'" in text


def test_a_component_without_replicas_says_why() -> None:
    waiting = Component("predictor", absent="its model is still loading")
    with gateway(Service("iris", components=[waiting])) as gate:
        status, _, body = ask(gate)
        assert status == 503
        assert json.loads(body)["error"].endswith("'predictor': its model is still loading")


def test_a_request_that_may_have_been_worked_on_is_not_sent_again() -> None:
    with stubs({"*": {"close": True}}) as made, gateway(predictor(made, made)) as gate:
        status, _, body = ask(gate)
        assert status == 502
        assert made.address in json.loads(body)["error"]
        assert len(made.calls) == 1


def test_an_answer_that_takes_too_long_is_504() -> None:
    let_go = threading.Event()

    def reply(handler: Handler, _: Call) -> None:
        let_go.wait(10)

    with stubs({"*": reply}) as made, gateway(predictor(made, timeout=0.1)) as gate:
        status, _, body = ask(gate)
        let_go.set()
        assert status == 504
        assert "no answer within 0.1 s" in json.loads(body)["error"]


def test_a_client_that_goes_away_takes_its_request_back() -> None:
    asked, gone = threading.Event(), threading.Event()

    def reply(handler: Handler, _: Call) -> None:
        asked.set()
        handler.connection.settimeout(10)
        assert handler.connection.recv(1) == b""
        gone.set()

    with stubs({"*": reply}) as made, gateway(predictor(made)) as gate:
        client = socket.create_connection(("127.0.0.1", gate.port))
        client.sendall(b"POST / HTTP/1.1\r\nHost: iris\r\nContent-Length: 2\r\n\r\n{}")
        assert asked.wait(10)
        client.close()
        assert gone.wait(10)


def test_connections_to_components_are_used_again() -> None:
    with stubs(ECHO) as made, gateway(predictor(made)) as gate:
        for _ in range(50):
            assert ask(gate)[0] == 200
        assert made.connections == gate.counters()["component_connections"] == 1


def test_a_connection_that_the_component_has_closed_costs_no_request() -> None:
    def reply(handler: Handler, call: Call) -> None:
        handler.reply(200, {}, call.body)
        handler.close_connection = True  # without saying so

    with stubs({"*": reply}) as made, gateway(predictor(made)) as gate:
        for number in range(20):
            while made.closed < number:
                pass
            assert ask(gate, body=str(number))[2] == str(number).encode()


def test_routes_are_replaced_while_requests_are_under_way() -> None:
    asked, let_go = threading.Event(), threading.Event()

    def reply(handler: Handler, _: Call) -> None:
        asked.set()
        assert let_go.wait(10)
        handler.reply(200, {}, b"old")

    with (
        stubs({"*": reply}) as old,
        stubs({"*": {"body": "new"}}) as new,
        gateway(predictor(old)) as gate,
    ):
        answers: list[bytes] = []
        waiting = threading.Thread(target=lambda: answers.append(ask(gate)[2]))
        waiting.start()
        assert asked.wait(10)
        gate.update(RouteTable([predictor(new)]))
        assert ask(gate)[2] == b"new"
        let_go.set()
        waiting.join()
        assert answers == [b"old"]
        with pytest.raises(InvalidArgument, match="is twice in the route table"):
            gate.update(RouteTable([predictor(new), predictor(new)]))
        assert ask(gate)[2] == b"new"


def test_closing_lets_requests_finish() -> None:
    asked, let_go = threading.Event(), threading.Event()

    def reply(handler: Handler, _: Call) -> None:
        asked.set()
        assert let_go.wait(10)
        handler.reply(200, {}, b"done")

    with stubs({"*": reply}) as made:
        gate = Gateway(RouteTable([predictor(made)]))
        answers: list[bytes] = []
        waiting = threading.Thread(target=lambda: answers.append(ask(gate)[2]))
        waiting.start()
        assert asked.wait(10)
        drained: list[bool] = []
        closing = threading.Thread(target=lambda: drained.append(gate.close(10)))
        closing.start()
        while is_open(gate.port):
            pass
        let_go.set()
        closing.join()
        waiting.join()
        assert (drained, answers) == ([True], [b"done"])


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        return True  # it closed just now, with this connection in its queue
    return True


def test_a_port_for_one_host_leads_there_whatever_is_asked_for(gate: Gateway) -> None:
    port = gate.listen(host="right-predictor.default")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for host in ("left-default.example.com", "nobody", f"127.0.0.1:{port}"):
        connection.request("GET", "/v2/models/right", headers={"Host": host})
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["name"]) == (200, "right")
    connection.close()
    assert ask(gate, "/v2/models/left", "left.default", "GET", None)[0] == 200


def test_a_host_that_two_would_have_leads_to_the_first() -> None:
    with stubs({"*": {"echo": True}}) as one, stubs({"*": {"echo": True}}) as other:
        first = Service("b", "c-d", [component("predictor", one)])
        second = Service("b-c", "d", [component("predictor", other)])
        with gateway(first, second) as gate:
            assert ask(gate, "/x", "b-c-d.example.com")[0] == 200
            assert (len(one.calls), len(other.calls)) == (1, 0)
            for host in ("b-c.d.svc", "b-c.d.example.com"):
                assert ask(gate, "/x", host)[0] == 200
            assert ask(gate, "/serving/d/b-c/x")[0] == 200
            assert (len(one.calls), len(other.calls)) == (1, 3)
