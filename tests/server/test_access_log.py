# SPDX-License-Identifier: Apache-2.0
"""The access log of streams: one line each, once it has ended, with how it did."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import grpc
import pytest
import tritonclient.grpc
from tests.server.streaming import asking, eventually, number
from tests.server.streaming_models import CONFIG, IDENTITY, MODEL
from tritonclient.grpc import service_pb2

from nerite.server.server import Server
from nerite.testing import serve


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("logged")
    for path, text in {
        "single/config.pbtxt": CONFIG,
        "single/1/model.py": MODEL,
        "one/config.pbtxt": IDENTITY,
        "one/1/.keep": "",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


class Log:
    """A server, and the lines of its access log."""

    def __init__(self, server: Server, file: Path) -> None:
        self.server, self.file = server, file

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def next(self) -> dict[str, Any]:
        """The one line that comes."""
        eventually(lambda: bool(self.lines()))
        (line,) = self.lines()
        return line


@pytest.fixture
def log(repository: Path, tmp_path: Path) -> Iterator[Log]:
    file = tmp_path / "access.log"
    with serve(repository, access_log=str(file), log_format="json") as server:
        yield Log(server, file)


def stream(
    log: Log,
    *requests: tuple[str, list[Any]],
    answers: int,
    ends: bool = False,
    **options: Any,
) -> None:
    """Sends these requests over one stream and waits for so many answers."""
    came: list[Any] = []
    with tritonclient.grpc.InferenceServerClient(log.server.grpc_url) as client:
        client.start_stream(lambda result, error: came.append(error or result), **options)
        for model, inputs in requests:
            client.async_stream_infer(model, inputs)
        eventually(lambda: len(came) >= answers)
        assert ends or not log.lines()  # it goes on
        client.stop_stream()


def test_a_stream_has_its_line_when_it_ends(log: Log) -> None:
    stream(log, ("single", asking("count", 3)), ("one", number(7)), answers=4)
    line = log.next()
    assert line["path"] == "/inference.GRPCInferenceService/ModelStreamInfer"
    assert (line["status"], line["grpc_status"], line["responses"]) == (200, 0, 4)
    assert line["bytes"] > 4 * 20
    assert 0 < line["seconds"] < 30


def test_a_stream_that_ends_with_an_error_says_which(log: Log) -> None:
    stream(
        log,
        ("single", asking("forget")),
        answers=2,
        headers={"triton_grpc_error": "true"},
        ends=True,
    )
    line = log.next()
    assert (line["grpc_status"], line["responses"]) == (13, 1)


def test_a_stream_that_its_client_leaves_is_cancelled(log: Log) -> None:
    with grpc.insecure_channel(log.server.grpc_url) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        request = service_pb2.ModelInferRequest(model_name="single")
        tensor = request.inputs.add(name="HOW", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"watch")
        answers = call(iter([request.SerializeToString()]))
        next(answers)
        answers.cancel()
    line = log.next()
    assert (line["grpc_status"], line["responses"]) == (1, 1)


def generate(log: Log, how: str, n: int) -> Request:
    body = json.dumps({"HOW": how, "N": n, "id": "r1"}).encode()
    return Request(f"{log.server.http_url}/v2/models/single/generate_stream", body)


def test_events_are_counted(log: Log) -> None:
    with urlopen(generate(log, "count", 3)) as answer:
        body = answer.read()
    line = log.next()
    assert (line["status"], line["responses"], line["bytes"]) == (200, 3, len(body))
    assert (line["request_id"], line["grpc_status"]) == ("r1", None)


def test_events_that_nobody_waits_for_are_499(log: Log) -> None:
    host, port = log.server.http_url.removeprefix("http://").split(":")
    asked = generate(log, "watch", 1)
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        head = f"POST {asked.selector} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(asked.data)}"  # type: ignore[arg-type]
        raw.sendall(head.encode() + b"\r\n\r\n" + asked.data)  # type: ignore[operator]
        assert raw.recv(4096).startswith(b"HTTP/1.1 200")
    line = log.next()
    assert (line["status"], line["responses"]) == (499, 1)


def test_a_line_of_text_ends_with_the_count(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with serve(repository, access_log=str(file)) as server:
        log = Log(server, file)
        with urlopen(generate(log, "count", 2)) as answer:
            answer.read()
    line = file.read_text()
    assert re.search(r'"POST /v2/models/single/generate_stream" 200 \d+ \S+ r1 - 2\n$', line)


def test_streams_that_the_server_ends_have_their_line(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with serve(repository, access_log=str(file), log_format="json") as server:
        log = Log(server, file)
        client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
        came: list[Any] = []
        client.start_stream(lambda result, error: came.append(error or result))
        client.async_stream_infer("one", number(7))
        eventually(lambda: bool(came))
    client.stop_stream()
    client.close()
    line = log.next()
    assert (line["grpc_status"], line["responses"]) == (14, 1)
