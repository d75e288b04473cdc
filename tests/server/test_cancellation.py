"""What becomes of streams whose client leaves or dawdles, or whose server stops."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from tests.server.streaming import (
    Stream,
    asking,
    eventually,
    number,
    page,
    seen,
    streaming_server,
)
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from nerite import Server
from nerite.testing import serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with streaming_server(tmp_path) as running:
        yield running


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
from tests.server.streaming import asking
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


def test_a_server_that_stops_ends_idle_streams_with_a_sentence(server: Server) -> None:
    stream = Stream(server)
    stream.ask("one", number(1))
    stream.next()
    assert server.stop(10)
    with pytest.raises(InferenceServerException) as told:
        stream.next()
    sentence = "GRPC server is shutting down and has stopped accepting new requests."
    assert sentence in str(told.value)


WAITS = """backend: "identity" max_batch_size: 2
dynamic_batching { max_queue_delay_microseconds: 600000000 }
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_request_that_was_given_up_does_not_hold_up_a_stop(tmp_path: Path, protocol: str) -> None:
    """Its instance waited for company for it until the server gave up, 30 s later."""
    (tmp_path / "waits/1").mkdir(parents=True)
    (tmp_path / "waits/config.pbtxt").write_text(WAITS)
    with serve(tmp_path) as server:
        if protocol == "grpc":
            tensor = tritonclient.grpc.InferInput("X", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
            with (
                tritonclient.grpc.InferenceServerClient(server.grpc_url) as client,
                pytest.raises(InferenceServerException, match="Deadline"),
            ):
                client.infer("waits", [tensor], client_timeout=0.05)
        else:
            left = http.client.HTTPConnection(*server.ports["http"])
            tensor = {"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [1]}
            left.request("POST", "/v2/models/waits/infer", json.dumps({"inputs": [tensor]}))
            pending = 'nv_inference_pending_request_count{model="waits",version="1"} 1'
            eventually(lambda: pending in page(server))
            left.close()
        eventually(lambda: server.engine.counters()["in_flight"] == 0)
        assert server.stop(5)
