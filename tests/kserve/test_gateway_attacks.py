"""Requests to the gateway as no honest client sends them, to the byte."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest
from tests.dripping import drip
from tests.kserve.stubs import Stubs, stubs
from tests.kserve.test_gateway import gateway, predictor

from nerite.kserve.gateway import Batcher, Gateway, Service


@pytest.fixture
def made() -> Iterator[Stubs]:
    with stubs({"*": {"echo": True}}) as made:
        yield made


@pytest.fixture
def gate(made: Stubs) -> Iterator[Gateway]:
    """Two services, so that a request to none of them finds none."""
    batching = predictor(made, name="batching", batcher=Batcher())
    with gateway(predictor(made), predictor(made, name="rose"), batching) as gate:
        yield gate


def answer(gate: Gateway, *lines: str) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as raw:
        raw.sendall("\r\n".join((*lines, "", "")).encode("latin-1"))
        told = HTTPResponse(raw)
        told.begin()
        return told.status, told.read()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("Host: iris", "Host: rose"), "several Host headers"),
        (("Host: iris", "host: iris"), "several Host headers"),
        ((), "no Host header"),
        (("Host: ir\xedis",), "not the name of a host"),
    ],
)
@pytest.mark.parametrize("target", ["/", "/serving/default/iris/", "http://iris/"])
def test_a_request_for_no_host_or_for_two_is_for_nobody(
    gate: Gateway, made: Stubs, lines: tuple[str, ...], told: str, target: str
) -> None:
    status, body = answer(gate, f"GET {target} HTTP/1.1", *lines)
    assert status == 400
    assert told in json.loads(body)["error"]
    assert not made.calls


def test_what_the_target_names_counts_whatever_host_says(gate: Gateway, made: Stubs) -> None:
    assert answer(gate, "GET http://iris.default/a HTTP/1.1", "Host: nobody")[0] == 200
    [call] = made.calls
    assert (call.path, call.headers["host"]) == ("/a", "iris.default")
    assert call.headers["x-forwarded-host"] == "iris.default"
    assert answer(gate, "GET http://nobody/a HTTP/1.1", "Host: iris.default")[0] == 404


def test_http_1_0_may_leave_its_host_out(gate: Gateway, made: Stubs) -> None:
    assert answer(gate, "GET /serving/default/iris/a HTTP/1.0")[0] == 200
    assert answer(gate, "GET /a HTTP/1.0")[0] == 404
    assert [call.path for call in made.calls] == ["/a"]


def test_a_body_that_drips_is_not_collected_for_ever(made: Stubs) -> None:
    services: Service = predictor(made, batcher=Batcher())
    with (
        gateway(services, arrival_timeout_secs=1.0) as gate,
        socket.create_connection(("127.0.0.1", gate.port), timeout=10) as raw,
    ):
        raw.sendall(
            b"POST /v1/models/iris:predict HTTP/1.1\r\nHost: iris\r\nContent-Length: 9999\r\n\r\n"
        )
        sent, told = drip(raw)
    assert told.startswith(b"HTTP/1.1 408")
    assert sent > 2
    assert not made.calls
