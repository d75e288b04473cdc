# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document and its page: what it says is so, as schemathesis finds it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import schemathesis
import skops.io
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.keyed import asked, bearer, keyed_server

from nerite.server.server import Server
from nerite.testing import serve

CONFIGS = {
    "floats": ("FP32", "[ -1 ]", 8),
    "texts": ("STRING", "[ 2 ]", 0),
    "numbers": ("INT64", "[ 1, 2 ]", 4),
    "halves": ("FP16", "[ 4 ]", 4),
    "truths": ("BOOL", "[ -1, -1 ]", 0),
}
POSITIVE = schemathesis.GenerationMode.POSITIVE
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("openapi")
    for name, (kind, dims, batch) in CONFIGS.items():
        (root / name / "1").mkdir(parents=True)
        tensor = f"data_type: TYPE_{kind} dims: {dims}"
        (root / name / "config.pbtxt").write_text(
            f'backend: "identity" max_batch_size: {batch}\n'
            f'input {{ name: "IN" {tensor} }}\noutput {{ name: "OUT" {tensor} }}\n'
        )
    (root / "iris/1").mkdir(parents=True)
    model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    skops.io.dump(model, root / "iris/1/model.skops")
    with serve(root) as running:
        yield running


def document(server: Server) -> Any:
    status, text = asked(server.http_url, "GET", "/openapi.json")
    assert status == 200
    return json.loads(text)


def operations(told: Any) -> list[tuple[str, str]]:
    """Those of the protocols: what manages a server is tried in a test of its own."""
    return [
        (path, method)
        for path, each in told["paths"].items()
        for method in each
        if not is_apart(path, each[method])
    ]


def is_apart(path: str, operation: Any) -> bool:
    return operation["tags"] == ["management"] or "/generate" in path


def test_every_example_can_be_sent_as_it_is(server: Server) -> None:
    told = document(server)
    sent = []
    for path, method in operations(told):
        operation = told["paths"][path][method]
        body = None
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["example"]
            sent.append(path)
        status, text = asked(server.http_url, method.upper(), path, None, body)
        assert status == 200, (path, text)
    models = (*CONFIGS, "iris")
    expected = [f"/v2/models/{name}/infer" for name in models]
    expected += [f"/v1/models/{name}:predict" for name in models]
    assert sorted(sent) == sorted(expected)


def is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.timeout(120)
def test_schemathesis_finds_no_answer_that_the_document_does_not_promise(server: Server) -> None:
    """A few generated requests, right and wrong, for every operation."""
    told = schemathesis.openapi.from_dict(document(server))
    told.config.update(base_url=server.http_url)
    seen: set[int] = set()
    found = 0
    for result in told.get_all_operations():
        operation = result.ok()
        if is_apart(operation.path, operation.definition.raw):
            continue
        found += 1

        @settings(
            max_examples=15,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def hunt(case: Any) -> None:
            answer = case.call()
            seen.add(answer.status_code)
            if "b64" in str(case.body) and not is_text(answer.content):
                # As Triton's, JSON has bytes that are no text as they are (`ib_json_out_bytes`).
                return
            case.validate_response(answer, checks=list(CHECKS))

        # There is nothing to get wrong in a request without a body.
        modes = list(schemathesis.GenerationMode) if operation.body else [POSITIVE]
        for mode in modes:
            given(case=operation.as_strategy(generation_mode=mode))(hunt)()
    assert found == len(operations(document(server)))
    assert {200, 400} <= seen


def test_what_manages_the_server_is_there_as_the_document_says(tmp_path: Path) -> None:
    """Every path leads somewhere, and every example is taken."""
    config = 'backend: "identity" input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }'
    config += ' output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }'
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/config.pbtxt").write_text(config)
    options = {"model_control_mode": "explicit", "load_models": ("*",)}
    with serve(tmp_path, allow_client_shm=True, **options) as server:
        told = document(server)
        apart = [
            (path, method, operation)
            for path, each in told["paths"].items()
            for method, operation in each.items()
            if operation["tags"] == ["management"]
        ]
        for path, method, operation in sorted(apart, key=lambda one: "unload" in one[0]):
            body = None
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["example"]
            status, text = asked(server.http_url, method.upper(), path, None, body)
            # Nobody has made the region REGION.
            of_region = {"/v2/systemsharedmemory/region/REGION/register": 500}
            of_region["/v2/systemsharedmemory/region/REGION/status"] = 404
            expected = 201 if method == "put" else of_region.get(path, 200)
            assert status == expected, (path, text)
    assert len(apart) == 19


def test_graphs_are_where_the_document_says(server: Server) -> None:
    before = document(server)["paths"]
    step = {"serviceUrl": "/v2/models/floats/infer"}
    graph = {"nodes": {"root": {"routerType": "Sequence", "steps": [step]}}}
    server.engine.put_graph("team", "g", json.dumps(graph))
    paths = document(server)["paths"]
    assert paths.keys() - before.keys() == {"/graphs/team/g", "/graphs/team/g/readyz"}
    example = paths["/v2/models/floats/infer"]["post"]["requestBody"]["content"]
    body = example["application/json"]["example"]
    assert asked(server.http_url, "POST", "/graphs/team/g", None, body)[0] == 200
    assert asked(server.http_url, "GET", "/graphs/team/g/readyz")[0] == 200
    server.engine.remove_graph("team", "g")
    assert document(server)["paths"] == before


def test_generate_is_where_the_document_says(server: Server) -> None:
    for path in document(server)["paths"]:
        if "/generate" in path:
            status, text = asked(server.http_url, "POST", path, None, {})
            assert status != 404, (path, text)


def test_the_document_follows_the_models_and_is_kept_until_they_change(server: Server) -> None:
    from nerite.server.openapi import _document

    first = document(server)
    before = _document.cache_info()
    assert document(server) == first
    after = _document.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    server.engine.forget("texts")
    left = document(server)
    assert {path for path in first["paths"] if path not in left["paths"]} == {
        path for path in first["paths"] if "/texts" in path
    }


def test_a_key_sees_its_models_only(tmp_path: Path) -> None:
    with keyed_server(tmp_path) as keyed:
        url = keyed.server.http_url
        assert asked(url, "GET", "/openapi.json")[0] == 401
        status, text = asked(url, "GET", "/openapi.json", bearer(keyed.keys["own"]))
        assert status == 200
        assert "own-a" in text
        assert "other" not in json.loads(text)["paths"]["/v2"]["get"].get("tags", [])
        assert not [path for path in json.loads(text)["paths"] if "/other" in path]
        # The page is the same for everybody and tells nothing of this server.
        status, page = asked(url, "GET", "/docs")
        assert (status, "own-a" in page) == (200, False)


def test_the_page_takes_nothing_from_the_network(server: Server) -> None:
    with urlopen(f"{server.http_url}/docs") as answer:
        page = answer.read().decode()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert "http://" not in page
    assert "https://" not in page
