# SPDX-License-Identifier: Apache-2.0
"""HTTP as the vectors write it: requests to the byte, answers decompressed and de-chunked."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import zlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 15.0
KEPT = (
    "content-type",
    "inference-header-content-length",
    "content-encoding",
    "accept-encoding",
    "transfer-encoding",
    "allow",
)


def ask(urls: Mapping[str, str], request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a recorded request, in the form that answers were recorded in."""
    parts = urlsplit(urls[request.get("port", "http")])
    assert parts.hostname is not None
    address = (parts.hostname, parts.port or 80)
    if "raw_b64" in request:
        return _raw(address, base64.b64decode(request["raw_b64"]), request.get("method", "GET"))
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
    try:
        _send(connection, request)
        return _answer(connection.getresponse())
    except (http.client.BadStatusLine, ConnectionError):
        return {"failed": "connection closed"}
    except TimeoutError:
        return {"failed": "no answer"}
    finally:
        connection.close()


def _send(connection: http.client.HTTPConnection, request: Mapping[str, Any]) -> None:
    body = base64.b64decode(request["body_b64"]) if "body_b64" in request else None
    if "body" in request:
        body = request["body"].encode()
    method = request["method"]
    connection.putrequest(method, request["path"], skip_accept_encoding=True)
    given = request.get("headers", {})
    pairs = given.items() if isinstance(given, Mapping) else given
    names = set()
    for name, value in pairs:
        names.add(name.lower())
        for each in value if isinstance(value, list) else [value]:
            connection.putheader(name, each)
    size = request.get("chunks")
    if size:
        connection.putheader("Transfer-Encoding", "chunked")
    elif (body is not None or method in ("POST", "PUT", "PATCH")) and "content-length" not in names:
        connection.putheader("Content-Length", str(len(body or b"")))
    connection.endheaders()
    if size:
        for chunk in _chunks(body or b"", size):
            connection.send(chunk)
    elif body:
        connection.send(body)


def _chunks(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        part = body[start : start + size]
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def _raw(address: tuple[str, int], data: bytes, method: str) -> dict[str, Any]:
    with socket.create_connection(address, timeout=TIMEOUT) as peer:
        peer.sendall(data)
        response = http.client.HTTPResponse(peer, method=method)
        try:
            response.begin()
            return _answer(response)
        except (http.client.BadStatusLine, ConnectionError):
            return {"failed": "connection closed"}
        except TimeoutError:
            return {"failed": "no answer"}


def _answer(response: http.client.HTTPResponse) -> dict[str, Any]:
    body = response.read()
    headers = {name: value for name, value in response.headers.items() if name.lower() in KEPT}
    headers = {name.lower(): value for name, value in headers.items()}
    encoding = headers.get("content-encoding", "")
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    answer: dict[str, Any] = {"status": response.status, "headers": headers}
    length = headers.get("inference-header-content-length")
    if length is not None:
        answer["json"] = json.loads(body[: int(length)])
        answer["tail_b64"] = base64.b64encode(body[int(length) :]).decode()
        return answer
    try:
        answer["body"] = body.decode()
    except UnicodeDecodeError:
        answer["body_b64"] = base64.b64encode(body).decode()
    return answer
