"""gRPC through the gateway: unary calls, streams in both directions, trailers, failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from tests.kserve.stubs import refusing

from nerite.kserve.gateway import Component, Gateway, Replica, Revision, RouteTable, Service
from nerite.kserve.graphs import graph_of
from nerite.testing import serve

MODEL = """backend: "identity" max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [-1] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [-1] } ]
"""


class Echo(grpc.GenericRpcHandler):
    """`/Echo/Talk` echoes a stream, with metadata; `/Echo/Fail` fails with trailers."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.cancelled = threading.Event()

    def service(self, details: Any) -> Any:
        self.seen.append(dict(details.invocation_metadata))
        method = details.method.rsplit("/", 1)[1]
        return grpc.stream_stream_rpc_method_handler(getattr(self, method.lower()))

    def talk(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.send_initial_metadata([("x-begin", "1")])
        for message in messages:
            yield message.upper()
        context.set_trailing_metadata([("x-end", "2")])

    def fail(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield next(messages)
        context.set_trailing_metadata([("x-why", "so")])
        context.abort(grpc.StatusCode.DATA_LOSS, "l\u00f6st")

    def hold(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        yield b"begun"
        self.cancelled.wait(10)


@contextmanager
def echoing() -> Iterator[tuple[Echo, str]]:
    handler = Echo()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def service(name: str, *replicas: Replica, **more: Any) -> Service:
    return Service(name, components=[Component("predictor", [Revision(replicas)], **more)])


@contextmanager
def channel(gate: Gateway, authority: str) -> Iterator[Any]:
    options = [("grpc.default_authority", authority)]
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}", options) as made:
        yield made


def call(made: Any, method: str, messages: Any, **more: Any) -> Any:
    return made.stream_stream(f"/Echo/{method}")(messages, timeout=10, **more)


def test_tritonclient_reaches_each_service_by_its_authority(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name / name / "1").mkdir(parents=True)
        (tmp_path / name / name / "config.pbtxt").write_text(MODEL)
    with serve(tmp_path / "left") as left, serve(tmp_path / "right") as right:
        made = {"left": left, "right": right}
        table = RouteTable([service(name, Replica(grpc=s.grpc_url)) for name, s in made.items()])
        with Gateway(table) as gate:
            for name in made:
                options = [("grpc.default_authority", f"{name}-default.example.com")]
                with tritonclient.grpc.InferenceServerClient(
                    f"127.0.0.1:{gate.port}", channel_args=options
                ) as client:
                    x = np.random.default_rng(1).random((4, 100_000), np.float32)
                    sent = tritonclient.grpc.InferInput("X", x.shape, "FP32")
                    sent.set_data_from_numpy(x)
                    np.testing.assert_array_equal(client.infer(name, [sent]).as_numpy("Y"), x)
                    with pytest.raises(Exception, match="unknown model"):
                        client.infer("nobody", [sent])
            assert gate.counters()["component_connections"] == 2


def test_streams_pass_message_by_message_with_metadata_at_both_ends() -> None:
    with echoing() as (handler, address):
        with (
            Gateway(RouteTable([service("echo", Replica(grpc=address))])) as gate,
            channel(gate, "echo.default") as made,
        ):
            answered = threading.Semaphore(1)

            def messages() -> Iterator[bytes]:
                for word in (b"one", b"two", b"three"):
                    # The next is sent only once the answer to the last has come.
                    assert answered.acquire(timeout=10)
                    yield word

            stream = call(made, "Talk", messages(), metadata=[("x-mine", "yes")])
            words = []
            for word in stream:
                words.append(word)
                answered.release()
            assert words == [b"ONE", b"TWO", b"THREE"]
            assert ("x-begin", "1") in stream.initial_metadata()
            assert ("x-end", "2") in stream.trailing_metadata()
        assert handler.seen[0]["x-mine"] == "yes"
        assert handler.seen[0]["x-forwarded-host"] == "echo.default"


def test_a_failure_keeps_its_code_text_and_trailers() -> None:
    with (
        echoing() as (_, address),
        Gateway(RouteTable([service("echo", Replica(grpc=address))])) as gate,
        channel(gate, "echo.default") as made,
    ):
        stream = call(made, "Fail", iter([b"one"]))
        assert next(stream) == b"one"
        with pytest.raises(grpc.RpcError):
            next(stream)
        assert (stream.code(), stream.details()) == (grpc.StatusCode.DATA_LOSS, "löst")
        assert ("x-why", "so") in stream.trailing_metadata()


def test_a_client_that_cancels_ends_the_call_of_the_component() -> None:
    with (
        echoing() as (handler, address),
        Gateway(RouteTable([service("echo", Replica(grpc=address))])) as gate,
        channel(gate, "echo.default") as made,
    ):
        stream = call(made, "Hold", iter([b"one"]))
        assert next(stream) == b"begun"
        stream.cancel()
        assert handler.cancelled.wait(10)


def test_failures_of_the_gateway_are_told_in_grpc() -> None:
    with refusing() as dead:
        services = [
            service("dead", Replica(grpc=dead)),
            service("mute", Replica(http=dead)),
        ]
        with Gateway(RouteTable(services)) as gate:
            for name, code, told in [
                ("dead", grpc.StatusCode.UNAVAILABLE, "cannot connect to"),
                ("mute", grpc.StatusCode.UNIMPLEMENTED, "'predictor': it has no gRPC port"),
                ("nobody", grpc.StatusCode.NOT_FOUND, "dead-default.example.com"),
            ]:
                with channel(gate, name) as made, pytest.raises(grpc.RpcError) as caught:
                    list(call(made, "Talk", iter([b"one"])))
                assert caught.value.code() == code
                assert told in caught.value.details()


def test_a_graph_is_not_asked_over_grpc_and_says_what_to_do() -> None:
    steps = [{"serviceUrl": "http://127.0.0.1:1/"}]
    graph = Component(
        "graph", graph=graph_of({"nodes": {"root": {"routerType": "Sequence", "steps": steps}}})
    )
    with (
        Gateway(RouteTable([Service("sums", components=[graph])])) as gate,
        channel(gate, "sums") as made,
        pytest.raises(grpc.RpcError) as refused,
    ):
        list(call(made, "Talk", iter([b"one"])))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == (
        "service 'default/sums', component 'graph': it is made of the answers of others and asked "
        "over HTTP only: send it JSON with POST, or call the services of its steps over gRPC"
    )


def test_a_port_for_one_host_leads_there_over_grpc_too() -> None:
    with echoing() as (handler, address):
        echo = service("echo", Replica(grpc=address))
        with Gateway(RouteTable([echo, service("other")])) as gate:
            port = gate.listen(host="echo-predictor.default")
            with grpc.insecure_channel(f"127.0.0.1:{port}") as made:
                assert list(call(made, "Talk", iter([b"a", b"b"]))) == [b"A", b"B"]
            assert len(handler.seen) == 1
