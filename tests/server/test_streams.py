"""Streams: ModelStreamInfer, decoupled models and the generate extension, by unmodified clients."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc.aio
from tests.server.streaming import (
    Stream,
    asking,
    eventually,
    is_last,
    number,
    page,
    seen,
    streaming_server,
)
from tritonclient.utils import InferenceServerException

from nerite import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with streaming_server(tmp_path) as running:
        yield running


def test_a_stream_answers_in_order_and_tells_which_answer_is_the_last(server: Server) -> None:
    with Stream(server) as stream:
        for i in range(500):
            stream.ask("one", number(i), f"r{i}")
        for i in range(500):
            result = stream.next()
            assert (result.get_response().id, result.as_numpy("Y").item()) == (f"r{i}", i)
            assert is_last(result)


def test_one_stream_carries_both_kinds_of_models_and_errors_do_not_end_it(server: Server) -> None:
    with Stream(server) as stream:
        stream.ask("streams", asking("count", 3), "d", enable_empty_final_response=True)
        came = [stream.next() for _ in range(4)]
        assert [r.as_numpy("OUT") for r in came[:3]] == [0, 1, 2]
        assert [is_last(r) for r in came] == [False, False, False, True]
        assert {r.get_response().id for r in came} == {"d"}
        assert came[3].as_numpy("OUT") is None
        stream.ask("nosuch", number(1), "u")
        with pytest.raises(InferenceServerException, match="unknown model: 'nosuch'"):
            stream.next()
        stream.ask("one", number(7), "o")
        assert stream.next().as_numpy("Y").item() == 7


def test_two_streams_at_once_get_their_own_responses(server: Server) -> None:
    with Stream(server) as one, Stream(server) as other:
        one.ask("streams", asking("count", 300), "one")
        other.ask("streams", asking("later", 300), "other")
        for stream, name in ((one, "one"), (other, "other")):
            came = [stream.next() for _ in range(300)]
            assert [result.as_numpy("OUT").item() for result in came] == list(range(300))
            assert {result.get_response().id for result in came} == {name}


def test_the_aio_client_streams(server: Server) -> None:
    async def main() -> list[int]:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": "streams", "inputs": asking("later", 5)}
            yield {"model_name": "one", "inputs": number(100)}

        got = []
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc_url) as client:
            async for result, error in client.stream_infer(requests()):
                assert error is None
                name = "OUT" if result.as_numpy("Y") is None else "Y"
                got.append(int(result.as_numpy(name).item()))
        return got

    assert sorted(asyncio.run(main())) == [0, 1, 2, 3, 4, 100]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("forget", "model 'streams' let go of the response sender of this request before the last"),
        ("ignore", "model 'streams' let go of the response sender of this request before the last"),
        ("nothing", "AttributeError: 'TritonPythonModel' object has no attribute 'nothing'"),
    ],
)
def test_a_request_that_its_model_forgets_ends_with_an_error(
    how: str, text: str, server: Server
) -> None:
    with Stream(server) as stream:
        stream.ask("streams", asking(how))
        if how == "forget":
            assert not is_last(stream.next())
        with pytest.raises(InferenceServerException, match=text):
            stream.next()
    assert 'nv_inference_request_failure{model="streams",version="1",reason="BACKEND"} 1' in page(
        server
    )


def test_a_sender_refuses_what_tritons_refuses(server: Server) -> None:
    with Stream(server) as stream:
        stream.ask("streams", asking("misuse"))
        assert is_last(stream.next())
    eventually(lambda: len(seen(server)) == 5)
    unsupported, missing, kind, *closed = seen(server)
    assert unsupported == (
        "TritonModelException: Unable to send response. Unsupported flag provided."
    )
    assert missing == (
        "TritonModelException: Inference Response object must be provided when the response flag "
        "is set to zero."
    )
    assert kind.startswith("TypeError: send() takes a pb_utils.InferenceResponse")
    text = "TritonModelException: Unable to send response. Response sender has been closed."
    assert closed == [text, text]


def test_coroutines_of_a_decoupled_model_run_side_by_side(server: Server) -> None:
    with Stream(server) as stream:
        stream.ask("coroutines", asking("wait"))
        stream.ask("coroutines", asking("wake"))
        assert sorted(stream.next().as_numpy("TEXT").item() for _ in "12") == [b"wait", b"wake"]
        stream.ask("coroutines", asking("fail"))
        with pytest.raises(InferenceServerException, match="message: ValueError: it broke\n\nAt:"):
            stream.next()
        stream.ask("coroutines", asking("leave"))
        with pytest.raises(InferenceServerException, match="message: SystemExit: 3"):
            stream.next()
        stream.ask("coroutines", asking("wait"))
        stream.ask("coroutines", asking("wake"))
        assert sorted(stream.next().as_numpy("TEXT").item() for _ in "12") == [b"wait", b"wake"]


def test_the_first_response_is_timed_when_it_comes(server: Server) -> None:
    counted = 'nv_inference_first_response_histogram_ms_count{model="streams",version="1"} '
    with Stream(server) as stream:
        assert counted + "0" in page(server)
        stream.ask("streams", asking("watch", 4))
        stream.next()
        assert counted + "1" in page(server)
        stream.client.stop_stream(cancel_requests=True)


def test_curl_gets_one_object_or_events(server: Server) -> None:
    def curl(path: str, body: str) -> tuple[str, str]:
        url = f"{server.http_url}/v2/models/{path}"
        words = ["curl", "-sN", "-w", "\n%{http_code} %{content_type}", "-d", body, url]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        text, _, status = shown.rpartition("\n")
        return status, text

    flat = '"model_name":"streams","model_version":"1"'
    assert curl("streams/generate", '{"HOW": "count", "N": 1, "id": "a"}') == (
        "200 application/json",
        '{"OUT":0,"id":"a",' + flat + "}",
    )
    assert curl("streams/generate", '{"HOW": "count", "N": 2}') == (
        "400 application/json",
        '{"error":"generate expects model to produce exactly 1 response, use generate stream for '
        'model that generates various number of responses"}',
    )
    status, events = curl("streams/versions/1/generate_stream", '{"HOW": "later", "N": 3}')
    assert status == "200 text/event-stream; charset=utf-8"
    assert events == "".join(f'data: {{"OUT":{i},{flat}}}\n\n' for i in range(3))
    status, events = curl("streams/generate_stream", '{"HOW": "forget"}')
    assert status.startswith("200")
    assert events.split("\n\n")[1].startswith('data: {"error":"model \'streams\' let go')
    assert curl("one/generate_stream", '{"X": 5}')[1].startswith('data: {"Y":5,"model_name":"one"')
