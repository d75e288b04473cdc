# SPDX-License-Identifier: Apache-2.0
"""Requests that are sent, answers that are believed, and runs that are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benches.load import answers, measure, nginx, payload
from benches.load.answers import HttpAnswer, WrongAnswer
from benches.load.cases import Case, Protocol
from benches.load.sample import Load

OVER_HTTP = [Protocol.HTTP_BINARY, Protocol.HTTP_JSON]


def right_answer(protocol: Protocol) -> HttpAnswer:
    """What a faultless server says."""
    message = payload.http_response(protocol, "identity")
    headers = {name.lower(): value for name, value in message.headers.items()}
    return HttpAnswer(200, headers, message.body)


@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_a_right_answer_is_believed(protocol: Protocol) -> None:
    answers.check_http(protocol, right_answer(protocol))


@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_a_status_other_than_200_is_wrong(protocol: Protocol) -> None:
    right = right_answer(protocol)
    with pytest.raises(WrongAnswer, match="status 503"):
        answers.check_http(protocol, HttpAnswer(503, right.headers, right.body))


@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_floats_of_another_request_are_wrong(protocol: Protocol) -> None:
    with pytest.raises(WrongAnswer, match="other floats"):
        answers.check_http(protocol, right_answer(protocol), payload.VALUES + np.float32(1))


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"outputs":[]}', b'{"outputs":[{"data":"x"}]}', b"\xff", b'{"outputs":5}'],
)
@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_an_unreadable_answer_is_wrong(protocol: Protocol, body: bytes) -> None:
    headers = {"inference-header-content-length": str(len(body))}
    with pytest.raises(WrongAnswer):
        answers.check_http(protocol, HttpAnswer(200, headers, body))


def test_binary_data_shorter_than_announced_is_wrong() -> None:
    right = right_answer(Protocol.HTTP_BINARY)
    short = HttpAnswer(200, right.headers, right.body[:-4])
    with pytest.raises(WrongAnswer, match="60 bytes follow"):
        answers.check_http(Protocol.HTTP_BINARY, short)


def test_an_answer_is_whole_only_with_its_last_byte() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Y:  z \r\n\r\nabc"
    assert [answers.parse_answer(whole[:end]) for end in range(len(whole))] == [None] * len(whole)
    found = answers.parse_answer(whole)
    assert found == HttpAnswer(200, {"content-length": "3", "x-y": "z"}, b"abc")


def test_an_answer_of_unknown_length_is_wrong() -> None:
    with pytest.raises(WrongAnswer, match="Content-Length"):
        answers.parse_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_the_binary_request_is_json_and_then_the_tensor() -> None:
    request = answers.request_bytes(Protocol.HTTP_BINARY, "m")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    document = json.loads(body[:-64])
    assert f"Inference-Header-Content-Length: {len(body) - 64}".encode() in head.split(b"\r\n")
    assert document["inputs"][0]["parameters"] == {"binary_data_size": 64}
    assert np.frombuffer(body[-64:], np.float32).tolist() == payload.VALUES.ravel().tolist()


def test_a_frame_carries_its_length_in_five_bytes() -> None:
    assert payload.framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


@pytest.mark.parametrize("body", [b"a$b", b"it's", b"back\\slash"])
def test_nginx_is_not_given_a_body_that_it_would_change(body: bytes) -> None:
    with pytest.raises(ValueError, match="cannot return a body"):
        nginx.quotable(body)


@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_the_floor_can_return_a_right_answer(protocol: Protocol) -> None:
    body = payload.http_response(protocol, nginx.MODELS[protocol]).body
    assert nginx.quotable(body) == body


CASE = Case(Protocol.GRPC, 8)


def load(requests: int = 1000, received: int = 100_000, failed: int = 0) -> Load:
    """A run whose right answers have 100 bytes."""
    return Load(requests, 1.0, received, failed, 0.0, 0.0)


@pytest.mark.parametrize("surplus", [0, 799, -800])
def test_a_run_with_answers_cut_off_by_its_end_counts(surplus: int) -> None:
    measure.check(load(received=100_000 + surplus), CASE, 100)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (load(requests=0, received=0), "not one request"),
        (load(failed=1), "1 of 1000 requests failed"),
        (load(received=0), "0.0 bytes on average, a right one has 100"),
        (load(received=98_000), "98.0 bytes on average"),
    ],
)
def test_a_run_with_missing_or_other_answers_does_not_count(bad: Load, reason: str) -> None:
    with pytest.raises(measure.BadRun, match=reason):
        measure.check(bad, CASE, 100)


def test_failures_are_summed_without_those_that_hung_up() -> None:
    metrics = """\
# HELP nv_inference_request_failure Number of failed inference requests
nv_inference_request_failure{model="m",reason="OTHER",version="1"} 2
nv_inference_request_failure{model="m",reason="BACKEND",version="1"} 3
nv_inference_request_failure{model="m",reason="CANCELED",version="1"} 64
nv_inference_request_success{model="m",version="1"} 1000
"""
    assert measure.failures_counted(metrics) == 5
    assert measure.failures_counted("") == 0
