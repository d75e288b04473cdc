"""What KServe's agent does beside a model, done by the gateway: batches and payload logs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.kserve.stubs import Call, Handler, Stubs, refusing, stubs
from tests.kserve.test_gateway import ask, component, gateway, predictor

from nerite.errors import InvalidArgument
from nerite.kserve.gateway import Batcher, Gateway, Logger, RouteTable, Service

PREDICT = "/v1/models/iris:predict"


def doubling(handler: Handler, call: Call) -> None:
    asked = json.loads(call.body)
    answer = {"predictions": [2 * number for number in asked["instances"]]}
    handler.reply(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())


def instances(*numbers: int, **rest: Any) -> bytes:
    return json.dumps({"instances": numbers, **rest}).encode()


def at_once(gate: Gateway, bodies: list[bytes], path: str = PREDICT) -> list[Any]:
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: ask(gate, path, body=body), bodies))
    return [(status, json.loads(body)) for status, _, body in answers]


def test_callers_share_a_batch_and_each_gets_its_own() -> None:
    with stubs({"*": doubling}) as made:
        with gateway(predictor(made, batcher=Batcher(6, 60_000))) as gate:
            answers = at_once(gate, [instances(1), instances(2, 3), instances(4, 5, 6)])
        assert [answer["predictions"] for _, answer in answers] == [[2], [4, 6], [8, 10, 12]]
        assert len({answer["batchId"] for _, answer in answers}) == 1
        assert {(status, answer["message"]) for status, answer in answers} == {(200, "")}
        assert len(made.calls) == 1
        assert made.calls[0].path == PREDICT


def test_a_batch_that_does_not_fill_goes_when_its_time_is_over() -> None:
    with stubs({"*": doubling}) as made, gateway(predictor(made, batcher=Batcher(100, 50))) as gate:
        began = time.monotonic()
        assert at_once(gate, [instances(7)])[0][1]["predictions"] == [14]
        assert time.monotonic() - began >= 0.05
        assert gate.counters()["batches"] == 1


def test_models_are_not_mixed() -> None:
    with stubs({"*": doubling}) as made, gateway(predictor(made, batcher=Batcher(2, 50))) as gate:
        other = "/v1/models/other:predict"
        with ThreadPoolExecutor(2) as pool:
            paths = [PREDICT, other]
            answers = list(pool.map(lambda path: ask(gate, path, body=instances(1)), paths))
        assert [json.loads(body)["predictions"] for _, _, body in answers] == [[2], [2]]
        assert sorted(call.path for call in made.calls) == sorted(paths)


@pytest.mark.parametrize("rest", [{"signature_name": "s"}, {"parameters": {"k": 1}}, {"id": "7"}])
def test_a_request_that_says_more_than_instances_goes_at_once_as_it_is(
    rest: dict[str, Any],
) -> None:
    """KServe's agent drops what is beside them, and answers what the model did not say."""

    def reply(handler: Handler, call: Call) -> None:
        handler.reply(200, {"X-Model": "1"}, b'{"predictions": [2], "more": true}')

    slow = Batcher(100, 60_000)
    with stubs({"*": reply}) as made, gateway(predictor(made, batcher=slow)) as gate:
        sent = instances(1, **rest)
        path = f"/serving/default/iris{PREDICT}?q=1"
        status, headers, body = ask(gate, path, body=sent, X_Request_Id="r")
        assert (status, headers["x-model"]) == (200, "1")
        assert body == b'{"predictions": [2], "more": true}'
        [call] = made.calls
        assert (call.path, call.body) == (f"{PREDICT}?q=1", sent)
        assert call.headers["x-request-id"] == "r"
        assert gate.counters()["batches"] == 0


def test_what_is_no_prediction_passes_as_it_is() -> None:
    with (
        stubs({"*": {"echo": True}}) as made,
        gateway(predictor(made, batcher=Batcher(100, 60_000))) as gate,
    ):
        assert ask(gate, "/v2/models/iris/infer", body=b"any")[2] == b"any"
        assert ask(gate, "/v1/models/iris", method="GET", body=None)[0] == 200


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"nothing", "can't Unmarshal body"),
        (b'{"inputs": [1]}', "no instances in the request"),
        (b'{"instances": []}', "no instances in the request"),
    ],
)
def test_a_body_without_instances_is_refused(body: bytes, told: str) -> None:
    with stubs({}) as made, gateway(predictor(made, batcher=Batcher())) as gate:
        status, _, text = ask(gate, PREDICT, body=body)
        assert status == 400
        assert told in json.loads(text)["error"]
        assert not made.calls


def test_a_failure_of_a_batch_is_the_failure_of_its_callers() -> None:
    behaviours: dict[str, Any] = {"*": {"status": 422, "body": '{"error": "bad"}'}}
    with stubs(behaviours) as made, gateway(predictor(made, batcher=Batcher(2, 60_000))) as gate:
        assert at_once(gate, [instances(1), instances(2)]) == [(422, {"error": "bad"})] * 2
        behaviours["*"] = {"body": '{"predictions": [1]}'}
        for status, answer in at_once(gate, [instances(1), instances(2)]):
            assert status == 502
            assert "size of prediction is not equal to the size of instances" in answer["error"]
    with refusing() as dead, gateway(predictor(dead, batcher=Batcher(1))) as gate:
        assert ask(gate, PREDICT, body=instances(1))[0] == 503


class Sink:
    """Takes events, and tells when there are enough."""

    def __init__(self, status: int = 200) -> None:
        self.calls: list[Call] = []
        self.status = status
        self.came = threading.Condition()

    def __call__(self, handler: Handler, call: Call) -> None:
        with self.came:
            self.calls.append(call)
            self.came.notify_all()
        handler.reply(self.status, {}, b"")

    def wait(self, count: int) -> list[Call]:
        with self.came:
            assert self.came.wait_for(lambda: len(self.calls) >= count, 10)
            return sorted(self.calls, key=lambda call: call.headers["ce-type"])


@pytest.fixture
def sink() -> Iterator[tuple[Sink, Stubs]]:
    made = Sink()
    with stubs({"*": made}) as served:
        yield made, served


def logged(target: Stubs, sink: Stubs, **more: Any) -> Service:
    logger = Logger(f"{sink.url}/events?a=b", **more)
    return Service("iris", "prod", [component("predictor", target, logger=logger)])


def test_requests_and_answers_are_told_under_one_id(sink: tuple[Sink, Stubs]) -> None:
    taken, served = sink
    with stubs({"*": doubling}) as made:
        more = {"metadata_headers": ["X-Team"], "annotations": {"a": "b"}}
        with gateway(logged(made, served, **more)) as gate:
            ask(gate, PREDICT, "iris.prod", body=instances(1), X_Team="red", Ce_Id="mine")
            request, response = taken.wait(2)
    for call, kind, body in [
        (request, "request", instances(1)),
        (response, "response", b'{"predictions": [2]}'),
    ]:
        assert (call.path, call.body) == ("/events?a=b", body)
        told = {key: value for key, value in call.headers.items() if key.startswith("ce-")}
        assert told.pop("ce-time") == told.pop("ce-recordedtime")
        assert told == {
            "ce-id": "mine",
            "ce-type": f"org.kubeflow.serving.inference.{kind}",
            "ce-specversion": "1.0",
            "ce-source": "http://iris-prod.example.com/",
            "ce-inferenceservicename": "iris",
            "ce-namespace": "prod",
            "ce-component": "predictor",
            "ce-endpoint": "iris",
            "ce-metadata": '{"X-Team":["red"]}',
            "ce-annotations": '{"a": "b"}',
        }
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("mode", ["request", "response"])
def test_only_what_the_mode_says_is_told(mode: str, sink: tuple[Sink, Stubs]) -> None:
    taken, served = sink
    with stubs({"*": doubling}) as made, gateway(logged(made, served, mode=mode)) as gate:
        for number in range(3):
            ask(gate, PREDICT, body=instances(number))
        assert {call.headers["ce-type"].rsplit(".", 1)[1] for call in taken.wait(3)} == {mode}
        assert len({call.headers["ce-id"] for call in taken.calls}) == 3


def test_failures_and_questions_are_not_told_as_answers(sink: tuple[Sink, Stubs]) -> None:
    taken, served = sink
    behaviours = {"*": {"status": 500, "body": "no"}, "good": {"body": "yes"}}
    with stubs(behaviours) as made, gateway(logged(made, served, mode="response")) as gate:
        assert ask(gate, PREDICT)[0] == 500
        assert ask(gate, "/good", method="GET", body=None)[0] == 200
        assert ask(gate, "/good")[0] == 200
        assert [call.body for call in taken.wait(1)] == [b"yes"]
    assert len(taken.calls) == 1


def test_a_logger_sees_each_caller_of_a_batch(sink: tuple[Sink, Stubs]) -> None:
    taken, served = sink
    with stubs({"*": doubling}) as made:
        logger = Logger(served.url, mode="request")
        with gateway(predictor(made, batcher=Batcher(2, 60_000), logger=logger)) as gate:
            at_once(gate, [instances(1), instances(2)])
            assert sorted(call.body for call in taken.wait(2)) == [instances(1), instances(2)]
            assert len(made.calls) == 1


def test_a_sink_that_hangs_delays_nobody_and_what_does_not_fit_is_counted() -> None:
    let_go = threading.Event()

    def hang(handler: Handler, _: Call) -> None:
        let_go.wait(10)
        handler.reply(200, {}, b"")

    with (
        stubs({"*": hang}) as served,
        stubs({"*": {"body": "ok"}}) as made,
        gateway(logged(made, served, mode="request")) as gate,
    ):
        for _ in range(150):
            assert ask(gate, PREDICT)[0] == 200
        # 100 wait, 5 are on their way, and one more was taken out to be sent next.
        assert 44 <= gate.counters()["payloads_dropped"] <= 45
        let_go.set()


def test_a_sink_that_is_not_there_is_counted() -> None:
    with refusing() as dead, stubs({"*": {"body": "ok"}}) as made:
        logger = Logger(f"http://{dead}/", mode="request")
        with gateway(predictor(made, logger=logger)) as gate:
            assert ask(gate, PREDICT)[0] == 200
            while gate.counters()["payloads_dropped"] < 1:
                pass


@pytest.mark.parametrize("url", ["https://sink/", "sink:80", "http://", "http://a:b/"])
def test_a_sink_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"logger\.url"):
        RouteTable([predictor("127.0.0.1:1", logger=Logger(url))]).to_json()
