# SPDX-License-Identifier: Apache-2.0
"""Every error answer over HTTP says in a header what kind it is: a text may change, that not."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.keyed import INFER, bearer, keyed_server, write_models

from nerite.server.server import Server
from nerite.testing import serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = write_models(tmp_path_factory.mktemp("codes"))
    with serve(root, max_request_bytes=1000) as running:
        yield running


def code_of(
    server: Server, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, str | None]:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    if answer.status >= 400:
        assert list(json.loads(read)) == ["error"]
    return answer.status, answer.getheader("Nerite-Error-Code")


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/v2/models/nobody/infer", "{}", (404, "NOT_FOUND")),
        ("POST", "/v1/models/nobody:predict", "{}", (404, "NOT_FOUND")),
        ("GET", "/nowhere", None, (404, "NOT_FOUND")),
        ("PUT", "/v2", None, (405, "METHOD_NOT_ALLOWED")),
        ("POST", "/v2/models/other/infer", "{", (400, "INVALID_ARG")),
        ("POST", "/v1/models/other:predict", "{", (400, "INVALID_ARG")),
        ("POST", "/v2/models/other/generate", "{", (400, "INVALID_ARG")),
        ("POST", "/v1/models/other:explain", "{}", (501, "UNSUPPORTED")),
        ("POST", "/v2/models/other/infer", "x" * 1001, (413, "TOO_LARGE")),
        ("POST", "/v2/models/other/infer", json.dumps(INFER), (200, None)),
    ],
)
def test_a_failure_has_a_code(
    method: str, path: str, body: str | None, expected: tuple[int, str | None], server: Server
) -> None:
    assert code_of(server, method, path, body) == expected


def test_an_encoding_that_is_not_offered_has_one_too(server: Server) -> None:
    got = code_of(server, "POST", "/v2/models/other/infer", "x", Content_Encoding="br")
    assert got == (501, "UNSUPPORTED")


def test_whoever_may_not_is_told_in_a_header_too(tmp_path: Path) -> None:
    with keyed_server(tmp_path) as keyed:
        path = "/v2/models/other/infer"
        assert code_of(keyed.server, "POST", path, "{}") == (401, "UNAUTHENTICATED")
        own = bearer(keyed.keys["own"])
        got = code_of(keyed.server, "POST", path, "{}", **own)
        assert got == (403, "PERMISSION_DENIED")
