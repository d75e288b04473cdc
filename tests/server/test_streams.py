"""Streams: ModelStreamInfer, decoupled models and the generate extension, by unmodified clients."""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from nerite import Server
from nerite.testing import serve

MODEL = """
import asyncio
import threading

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SEEN = []  # of both instances


def words(*texts):
    array = np.array([text.encode() for text in texts], dtype=object)
    return pb_utils.InferenceResponse([pb_utils.Tensor("TEXT", array)])


def number(i, size=1):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.full(size, i, np.int32))])


def told(send, *arguments, **options):
    try:
        send(*arguments, **options)
    except Exception as why:
        SEEN.append(f"{type(why).__name__}: {why}")


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            how = pb_utils.get_input_tensor_by_name(request, "HOW").as_numpy().item().decode()
            n = pb_utils.get_input_tensor_by_name(request, "N")
            getattr(self, how)(request, 1 if n is None else int(n.as_numpy().item()))

    def count(self, request, n):
        sender = request.get_response_sender()
        for i in range(n):
            sender.send(number(i))
        sender.send(flags=FINAL)

    def later(self, request, n):
        threading.Thread(target=self.count, args=(request, n)).start()

    def report(self, request, n):
        request.get_response_sender().send(words(*SEEN), FINAL)

    def forget(self, request, n):
        request.get_response_sender().send(number(0))

    def ignore(self, request, n):
        pass

    def misuse(self, request, n):
        sender = request.get_response_sender()
        told(sender.send, number(0), 7)
        told(sender.send)
        told(sender.send, [1])
        sender.send(number(0), FINAL)
        told(sender.send, number(1))
        told(sender.send, flags=FINAL)

    def watch(self, request, n):
        sender = request.get_response_sender()
        sender.send(number(0))

        def wait():
            while not (sender.is_cancelled() and request.is_cancelled()):
                threading.Event().wait(0.005)
            sender.send(number(1))
            sender.send(flags=FINAL)
            SEEN.append(f"cancelled {n}")

        threading.Thread(target=wait, daemon=True).start()

    def large(self, request, n):
        sender = request.get_response_sender()

        def send():
            for i in range(n):
                sender.send(number(i, 1 << 18))
                SEEN.append(f"large {i}")
            sender.send(flags=FINAL)

        threading.Thread(target=send, daemon=True).start()

    def hold(self, request, n):
        SEEN.append(f"hold {n}")
        self.watch(request, n)
        while f"cancelled {n}" not in SEEN:
            threading.Event().wait(0.005)
"""
COROUTINES = """
import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils

WAITING = []


class TritonPythonModel:
    async def execute(self, requests):
        for request in requests:
            how = pb_utils.get_input_tensor_by_name(request, "HOW").as_numpy().item().decode()
            sender = request.get_response_sender()
            if how == "fail":
                raise ValueError("it broke")
            if how == "wait":
                event = asyncio.Event()
                WAITING.append(event)
                await event.wait()
            else:
                while not WAITING:
                    await asyncio.sleep(0.005)
                WAITING.pop().set()
            array = np.array([how.encode()], dtype=object)
            response = pb_utils.InferenceResponse([pb_utils.Tensor("TEXT", array)])
            sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
CONFIG = """backend: "python"
input [ { name: "HOW" data_type: TYPE_STRING dims: [ 1 ] } ]
input [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] optional: true } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] } ]
model_transaction_policy { decoupled: true }
"""
IDENTITY = """backend: "identity" max_batch_size: 8 dynamic_batching { }
input [ { name: "X" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    two = "instance_group [ { kind: KIND_CPU count: 2 } ]"
    for name, files in {
        "streams": {"config.pbtxt": CONFIG + two, "1/model.py": MODEL},
        "single": {"config.pbtxt": CONFIG, "1/model.py": MODEL},
        "coroutines": {"config.pbtxt": CONFIG, "1/model.py": COROUTINES},
        "one": {"config.pbtxt": IDENTITY, "1/.keep": ""},
    }.items():
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
    with serve(tmp_path, first_response_histogram=True) as running:
        yield running


def asking(how: str, n: int | None = None) -> list[Any]:
    """The inputs of a request to a streaming model."""
    inputs = [tritonclient.grpc.InferInput("HOW", [1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([how.encode()], dtype=object))
    if n is not None:
        inputs.append(tritonclient.grpc.InferInput("N", [1], "INT32"))
        inputs[1].set_data_from_numpy(np.array([n], np.int32))
    return inputs


def number(value: int) -> list[Any]:
    """The inputs of a request to the model that answers once."""
    one = tritonclient.grpc.InferInput("X", [1, 1], "INT32")
    one.set_data_from_numpy(np.array([[value]], np.int32))
    return [one]


class Stream:
    """A stream of the synchronous client; what comes is put into a queue."""

    def __init__(self, server: Server) -> None:
        self.client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
        self.came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.client.start_stream(lambda result, error: self.came.put(error or result))

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_stream()
        self.client.close()

    def ask(self, model: str, inputs: list[Any], request_id: str = "", **options: Any) -> None:
        self.client.async_stream_infer(model, inputs, request_id=request_id, **options)

    def next(self) -> Any:
        got = self.came.get(timeout=10)
        if isinstance(got, Exception):
            raise got
        return got


def is_last(result: Any) -> bool:
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


def seen(server: Server, model: str = "streams") -> list[str]:
    """What the model has noted."""
    with Stream(server) as stream:
        stream.ask(model, asking("report"))
        return [word.decode() for word in stream.next().as_numpy("TEXT")]


def eventually(holds: Callable[[], bool]) -> None:
    """Asks the server again until it has come to pass."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it never came to pass"


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


def page(server: Server) -> str:
    with urlopen(server.metrics_url) as answer:
        return str(answer.read().decode())


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


def test_a_cancelled_stream_is_noticed_by_the_model(server: Server) -> None:
    stream = Stream(server)
    stream.ask("streams", asking("watch", 1))
    stream.next()
    assert seen(server) == []
    stream.client.stop_stream(cancel_requests=True)
    eventually(lambda: seen(server) == ["cancelled 1"])
    failed = 'nv_inference_request_failure{model="streams",version="1",reason="CANCELED"} 1'
    assert failed in page(server)


KILLED = """
import sys

sys.path[:0] = sys.argv[2:]
from tests.server.test_streams import asking
import tritonclient.grpc

client = tritonclient.grpc.InferenceServerClient(sys.argv[1])
client.start_stream(lambda result, error: print("came", flush=True))
client.async_stream_infer("streams", asking("watch", 2))
sys.stdin.read()
"""


def test_a_client_that_is_killed_cancels_what_it_asked_for(server: Server) -> None:
    words = [sys.executable, "-c", KILLED, server.grpc_url, str(Path(__file__).parents[2])]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "came\n"
        client.kill()
    eventually(lambda: seen(server) == ["cancelled 2"])


def test_closing_an_event_stream_cancels_it(server: Server) -> None:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
    body = json.dumps({"HOW": "watch", "N": 3})
    connection.request("POST", "/v2/models/streams/generate_stream", body)
    with connection.getresponse() as answer:
        assert answer.readline().startswith(b'data: {"OUT":0,')
        connection.close()
    eventually(lambda: seen(server) == ["cancelled 3"])


def test_a_queued_request_of_a_client_that_left_is_dropped(server: Server) -> None:
    busy, queued = Stream(server), Stream(server)
    busy.ask("single", asking("hold", 1))
    busy.next()
    queued.ask("single", asking("hold", 2))
    pending = 'nv_inference_pending_request_count{model="single",version="1"} 1'
    eventually(lambda: pending in page(server))
    queued.client.stop_stream(cancel_requests=True)
    busy.client.stop_stream(cancel_requests=True)
    assert seen(server, "single") == ["hold 1", "cancelled 1"]
    failed = 'nv_inference_request_failure{model="single",version="1",reason="CANCELED"} 2'
    eventually(lambda: failed in page(server))


def test_a_slow_reader_makes_the_model_wait_and_misses_nothing(server: Server) -> None:
    request = service_pb2.ModelInferRequest(model_name="streams")
    for name, kind, data in (
        ("HOW", "BYTES", b"\5\0\0\0large"),
        ("N", "INT32", np.int32(64).tobytes()),
    ):
        request.inputs.add(name=name, datatype=kind, shape=[1])
        request.raw_input_contents.append(data)
    with grpc.insecure_channel(server.grpc_url) as channel:
        replies = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
            iter([request.SerializeToString()]), timeout=50
        )
        eventually(lambda: "large 3" in seen(server))
        # Each is a round trip; a model that did not wait would have sent all by then.
        assert all("large 63" not in seen(server) for _ in range(30))
        numbers = [
            set(np.frombuffer(parsed.infer_response.raw_output_contents[0], np.int32).tolist())
            for parsed in map(service_pb2.ModelStreamInferResponse.FromString, replies)
        ]
    assert numbers == [{i} for i in range(64)]
    assert seen(server) == [f"large {i}" for i in range(64)]


def test_coroutines_of_a_decoupled_model_run_side_by_side(server: Server) -> None:
    with Stream(server) as stream:
        stream.ask("coroutines", asking("wait"))
        stream.ask("coroutines", asking("wake"))
        assert sorted(stream.next().as_numpy("TEXT").item() for _ in "12") == [b"wait", b"wake"]
        stream.ask("coroutines", asking("fail"))
        with pytest.raises(InferenceServerException, match="message: ValueError: it broke\n\nAt:"):
            stream.next()


def test_the_first_response_is_timed_when_it_comes(server: Server) -> None:
    counted = 'nv_inference_first_response_histogram_ms_count{model="streams",version="1"} '
    with Stream(server) as stream:
        assert counted + "0" in page(server)
        stream.ask("streams", asking("watch", 4))
        stream.next()
        assert counted + "1" in page(server)
        stream.client.stop_stream(cancel_requests=True)


def test_a_server_that_stops_ends_idle_streams_with_a_sentence(server: Server) -> None:
    stream = Stream(server)
    stream.ask("one", number(1))
    stream.next()
    assert server.stop(10)
    with pytest.raises(InferenceServerException, match="GRPC server is shutting down and has stop"):
        stream.next()


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
