# SPDX-License-Identifier: Apache-2.0
"""Ask a server the request of a case once, and say what is wrong with its answer.

A server that answers fast but wrongly must not appear in the table, so every case is asked
before it is measured and after. The size of a right answer is handed on: the load generators
count bytes, and what they counted must fit it, which shows errors that travel with status 200.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass

import numpy as np

from benches.load import payload
from benches.load.cases import Protocol

LOOPBACK = "127.0.0.1"
TIMEOUT_SECONDS = 10.0


class WrongAnswer(Exception):
    """The server answered, but not with what was asked for."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole HTTP response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(protocol: Protocol, port: int, model: str) -> int:
    """How many bytes a right answer takes: all of it over HTTP, the message frame over gRPC.

    Raises:
        WrongAnswer: the status, the form or the floats are not what they should be.
        OSError: no connection, or no answer in time.
    """
    if protocol is Protocol.GRPC:
        return _ask_grpc(port, model)
    return _ask_http(protocol, port, model)


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET on the loopback interface."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def request_bytes(protocol: Protocol, model: str, values: payload.Floats = payload.VALUES) -> bytes:
    """The whole HTTP/1.1 request as it goes over the wire."""
    message = payload.http_request(protocol, values)
    lines = [f"POST {payload.http_path(model)} HTTP/1.1", f"Host: {LOOPBACK}"]
    lines += [f"{name}: {value}" for name, value in message.headers.items()]
    lines += [f"Content-Length: {len(message.body)}", "", ""]
    return "\r\n".join(lines).encode() + message.body


def parse_answer(received: bytes) -> HttpAnswer | None:
    """The answer that these bytes hold, or None while some of it has yet to arrive.

    Raises:
        WrongAnswer: it does not say how long it is.
    """
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    status_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if "content-length" not in headers:
        raise WrongAnswer(f"an answer without a Content-Length header: {status_line!r}")
    if len(body) < int(headers["content-length"]):
        return None
    return HttpAnswer(int(status_line.split(" ", 2)[1]), headers, body)


def check_http(
    protocol: Protocol, answer: HttpAnswer, values: payload.Floats = payload.VALUES
) -> None:
    """Raise WrongAnswer unless this is a 200 that carries the floats that were sent."""
    if answer.status != 200:
        raise WrongAnswer(f"status {answer.status}: {answer.body[:300]!r}")
    try:
        found = _floats(protocol, answer)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        text = f"an answer that cannot be read ({error!r}): {answer.body[:300]!r}"
        raise WrongAnswer(text) from error
    if not np.array_equal(found, values.ravel()):
        raise WrongAnswer(f"other floats came back: {found.tolist()}")


def _floats(protocol: Protocol, answer: HttpAnswer) -> payload.Floats:
    if protocol is Protocol.HTTP_JSON:
        tensor = json.loads(answer.body)["outputs"][0]
        return np.asarray(tensor["data"], dtype=np.float32).ravel()
    length = int(answer.headers[payload.JSON_LENGTH_HEADER.lower()])
    text, data = answer.body[:length], answer.body[length:]
    tensor = json.loads(text)["outputs"][0]
    if tensor["parameters"]["binary_data_size"] != len(data):
        raise ValueError(f"{len(data)} bytes follow the JSON")
    return np.frombuffer(data, dtype=np.float32)


def _ask_http(protocol: Protocol, port: int, model: str) -> int:
    """Over a bare socket, because http.client does not tell how many bytes the headers took."""
    with socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(request_bytes(protocol, model))
        received = b""
        while (answer := parse_answer(received)) is None:
            data = connection.recv(65536)
            if not data:
                raise WrongAnswer("the connection was closed in the middle of an answer")
            received += data
    check_http(protocol, answer)
    return len(received)


def _ask_grpc(port: int, model: str) -> int:
    from tritonclient import grpc  # slow to import; not needed by the other protocols

    with grpc.InferenceServerClient(f"{LOOPBACK}:{port}") as client:
        tensor = grpc.InferInput(payload.INPUT, payload.SHAPE, "FP32")
        tensor.set_data_from_numpy(payload.VALUES)
        try:
            result = client.infer(model, [tensor], client_timeout=TIMEOUT_SECONDS)
        except grpc.InferenceServerException as error:
            raise WrongAnswer(f"gRPC status {error.status()}: {error.message()}") from error
    found = result.as_numpy(payload.OUTPUT)
    if found is None or not np.array_equal(found, payload.VALUES):
        raise WrongAnswer(f"other floats came back: {found}")
    return len(payload.framed(result.get_response().SerializeToString()))
