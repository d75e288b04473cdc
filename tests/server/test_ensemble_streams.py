"""Ensembles with decoupled steps: each answer of one starts its own requests to the next."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from tests.server.ensembles import (
    SHARED,
    asked,
    ensemble,
    grpc_inputs,
    infer,
    python,
    statistics,
    step,
    write,
)
from tests.server.streaming import Stream, eventually, is_last, page
from tritonclient.utils import InferenceServerException

from nerite import Server
from nerite.testing import serve

COUNT = """def answers(request):
    for i in range(get(request, 'N').item()):
        yield out(I=np.array([i], np.int32))
"""
#: Each answer of the one before becomes as many as it says.
SQUARE = "def answer(request): return out(Y=get(request, 'X') ** 2)"
#: The first waits for the last, so that answers are ready in another order than they are due.
LATE = """def answer(request):
    x = get(request, 'X')
    if x.item() == 0:
        SHARED["last"].wait(10)
    if x.item() == 3:
        SHARED["last"].set()
    return out(Y=x)
"""
#: Two answers to each.
TWO = """def answers(request):
    for i in range(2):
        yield out(Y=get(request, 'X') * 2 + i)
"""
#: More answers than may wait anywhere.
MANY = """def answers(request):
    for i in range(1000):
        yield out(Y=get(request, 'X') * 1000 + i)
"""
FAILS = """def answer(request):
    x = get(request, 'X')
    return fail('no twos') if x.item() == 2 else out(Y=x)
"""
ENDLESS = """def answers(request):
    i = 0
    while not request.is_cancelled():
        yield out(I=np.array([i], np.int32))
        i += 1
    SHARED["stopped"].set()
"""
#: Holds what it is asked until the test lets go, and notes how many it holds.
HELD = """def answer(request):
    SHARED["held"].release()
    SHARED["gate"].wait(10)
    return out(Y=get(request, 'X'))
"""
TOKENS = """def answers(request):
    for word in get(request, 'text_input').item().decode().split():
        yield out(WORD=np.array([word.encode()], dtype=object))
"""
LOUD = """def answer(request):
    word = get(request, 'WORD').item().decode().upper()
    return out(text_output=np.array([word.encode()], dtype=object))
"""
ONE = "X:INT32[1]"
FOUR = "instance_group [ { count: 4 } ]"
MODELS: dict[str, Any] = {
    "count": python("N:INT32[1]", "I:INT32[1]", COUNT, batch=0),
    "square": python(ONE, "Y:INT32[1]", SQUARE, batch=0),
    "late": python(ONE, "Y:INT32[1]", LATE, batch=0, more=FOUR),
    "fails": python(ONE, "Y:INT32[1]", FAILS, batch=0),
    "endless": python("N:INT32[1]", "I:INT32[1]", ENDLESS, batch=0),
    "held": python(ONE, "Y:INT32[1]", HELD, batch=0, more=FOUR),
    "two": python(ONE, "Y:INT32[1]", TWO, batch=0),
    "many": python(ONE, "Y:INT32[1]", MANY, batch=0),
    "tokens": python("text_input:STRING[1]", "WORD:STRING[1]", TOKENS, batch=0),
    "loud": python("WORD:STRING[1]", "text_output:STRING[1]", LOUD, batch=0),
    "say": ensemble(
        "text_input:STRING[1]",
        "text_output:STRING[1]",
        [
            step("tokens", "text_input=text_input", "WORD=w"),
            step("loud", "WORD=w", "text_output=text_output"),
        ],
        batch=0,
    ),
}


def over(source: str, worker: str, cap: int = 0) -> dict[str, Any]:
    steps = [step(source, "N=IN", "I=i"), step(worker, "X=i", "Y=OUT")]
    return ensemble("IN:INT32[1]", "OUT:INT32[1]", steps, batch=0, cap=cap)


MODELS |= {
    "squares": over("count", "square"),
    "lates": over("count", "late"),
    "failing": over("count", "fails"),
    "for_ever": over("endless", "square"),
    "holding": over("count", "held", cap=2),
    "doubled": over("count", "two"),
    "narrow": ensemble(
        "IN:INT32[1]",
        "OUT:INT32[1]",
        [
            step("count", "N=IN", "I=i"),
            step("two", "X=i", "Y=j"),
            step("two", "X=j", "Y=k"),
            step("square", "X=k", "Y=OUT"),
        ],
        batch=0,
        cap=1,
    ),
    "overtaken": ensemble(
        "IN:INT32[1]",
        "OUT:INT32[1]",
        [
            step("count", "N=IN", "I=i"),
            step("late", "X=i", "Y=j"),
            step("many", "X=j", "Y=OUT"),
        ],
        batch=0,
    ),
    "triangle": ensemble(
        "IN:INT32[1]",
        "OUT:INT32[1]",
        [step("squares", "IN=IN", "OUT=i"), step("squares", "IN=i", "OUT=OUT")],
        batch=0,
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(
        write(tmp_path_factory.mktemp("streams"), MODELS), first_response_histogram=True
    ) as s:
        yield s


def number(value: int) -> list[Any]:
    return grpc_inputs({"IN": np.array([value], np.int32)})


def came(stream: Stream) -> list[int]:
    """The answers up to the last one."""
    got = []
    while True:
        result = stream.next()
        value = result.as_numpy("OUT")
        if value is not None:
            got.append(int(value.item()))
        if is_last(result):
            return got


def test_each_answer_is_worked_on_by_itself(server: Server) -> None:
    _, config = asked(server, "/v2/models/squares/config")
    assert config["model_transaction_policy"] == {"decoupled": True}
    with Stream(server) as stream:
        for n in (5, 0, 1, 600):
            stream.ask("squares", number(n), enable_empty_final_response=True)
            assert came(stream) == [i * i for i in range(n)]


def test_answers_leave_in_the_order_of_those_that_they_came_of(server: Server) -> None:
    SHARED["last"] = threading.Event()
    with Stream(server) as stream:
        stream.ask("lates", number(4), enable_empty_final_response=True)
        assert came(stream) == [0, 1, 2, 3]


def test_decoupled_ensembles_within_one(server: Server) -> None:
    with Stream(server) as stream:
        stream.ask("triangle", number(4), enable_empty_final_response=True)
        # 0, 1, 4 and 9 answers, each of them squared.
        expect = [i * i for n in (0, 1, 4, 9) for i in range(n)]
        assert came(stream) == expect


def test_more_answers_than_may_be_under_way_go_through_two_decoupled_steps(server: Server) -> None:
    with Stream(server) as stream:
        stream.ask("doubled", number(400), enable_empty_final_response=True)
        assert came(stream) == list(range(800))


def test_requests_that_wait_for_room_at_different_steps_do_not_wait_for_each_other(
    server: Server,
) -> None:
    with Stream(server) as one, Stream(server) as other:
        for stream in (one, other):
            stream.ask("narrow", number(40), enable_empty_final_response=True)
        assert came(one) == came(other) == [i * i for i in range(160)]


def test_what_overtakes_does_not_keep_the_model_that_others_wait_for(server: Server) -> None:
    SHARED["last"] = threading.Event()
    with Stream(server) as stream:
        stream.ask("overtaken", number(4), enable_empty_final_response=True)
        assert came(stream) == list(range(4000))


def test_a_failure_on_the_way_ends_the_request(server: Server) -> None:
    before = statistics(server, "failing")["inference_stats"]["fail"]["count"]
    with Stream(server) as stream:
        stream.ask("failing", number(5))
        with pytest.raises(InferenceServerException, match="in ensemble 'failing', no twos"):
            came(stream)
    assert statistics(server, "failing")["inference_stats"]["fail"]["count"] == before + 1


def test_generate_stream_leads_through_an_ensemble(server: Server) -> None:
    body = json.dumps({"text_input": "what is said"}).encode()
    url = f"{server.http_url}/v2/models/say/generate_stream"
    with urlopen(Request(url, body)) as answer:
        events = [json.loads(line[6:]) for line in answer.read().splitlines() if line]
    assert [event["text_output"] for event in events] == ["WHAT", "IS", "SAID"]
    status, told = asked(server, "/v2/models/say/generate", {"text_input": "one"})
    assert (status, told["text_output"]) == (200, "ONE")
    status, told = asked(server, "/v2/models/say/generate", {"text_input": "one two"})
    assert (status, "exactly 1 response" in told["error"]) == (400, True)


def test_what_answers_more_than_once_is_asked_by_streams_only(server: Server) -> None:
    status, text = infer(server, "squares", {"IN": np.array([1], np.int32)})
    assert status >= 400
    assert "decoupled" in text


def test_a_client_that_leaves_stops_every_step(server: Server) -> None:
    SHARED["stopped"] = threading.Event()
    stream = Stream(server)
    stream.ask("for_ever", number(1))
    for _ in range(3):
        stream.next()
    stream.client.stop_stream(cancel_requests=True)
    assert SHARED["stopped"].wait(10)
    eventually(lambda: 'model="for_ever",version="1",reason="CANCELED"} 1' in page(server))
    eventually(lambda: server.engine.counters()["in_flight"] == 0)


def test_a_slow_reader_stops_the_source_and_not_the_server(server: Server) -> None:
    """What is not read stays unmade: no more than what the queues on the way hold."""
    SHARED["stopped"] = threading.Event()
    host, _, port = server.http_url.removeprefix("http://").partition(":")
    client = http.client.HTTPConnection(host, int(port), timeout=10)
    client.request("POST", "/v2/models/for_ever/generate_stream", '{"IN": 1}')
    answer = client.getresponse()
    assert answer.status == 200
    before = -1
    while (made := statistics(server, "square")["inference_count"]) != before:
        before = made
        threading.Event().wait(0.5)
    assert made < 200_000
    client.close()
    answer.close()
    assert SHARED["stopped"].wait(20)


def test_no_more_requests_to_a_step_are_under_way_than_there_may_be(server: Server) -> None:
    """The cap is on all requests of the ensemble together."""
    SHARED["held"], SHARED["gate"] = threading.Semaphore(0), threading.Event()
    with Stream(server) as one, Stream(server) as other:
        for stream in (one, other):
            stream.ask("holding", number(5), enable_empty_final_response=True)
        for _ in range(2):
            assert SHARED["held"].acquire(timeout=10)
        # Two are held by two of four instances; the others would take more, if more there were.
        assert not SHARED["held"].acquire(timeout=0.5)
        SHARED["gate"].set()
        assert came(one) == came(other) == [0, 1, 2, 3, 4]


def test_an_ensemble_counts_one_request_and_its_first_answer(server: Server) -> None:
    name = 'nv_inference_first_response_histogram_ms_count{model="squares",version="1"} '

    def first_answers() -> int:
        (line,) = [line for line in page(server).splitlines() if line.startswith(name)]
        return int(line.removeprefix(name))

    before, first = statistics(server, "squares")["inference_stats"], first_answers()
    with Stream(server) as stream:
        stream.ask("squares", number(3), enable_empty_final_response=True)
        came(stream)
    after = statistics(server, "squares")["inference_stats"]
    for key in ("success", "queue", "compute_infer"):
        assert after[key]["count"] == before[key]["count"] + 1
    assert after["compute_infer"]["ns"] > before["compute_infer"]["ns"]
    assert first_answers() == first + 1


def test_a_server_that_stops_ends_streams_through_ensembles(tmp_path: Path) -> None:
    SHARED["stopped"] = threading.Event()
    chosen = {name: MODELS[name] for name in ("endless", "square", "for_ever")}
    with serve(write(tmp_path, chosen)) as running:
        stream = Stream(running)
        stream.ask("for_ever", number(1))
        stream.next()
        running.stop(0.5)
    assert SHARED["stopped"].wait(10)
    stream.client.stop_stream(cancel_requests=True)
