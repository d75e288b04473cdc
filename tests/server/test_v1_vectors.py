# SPDX-License-Identifier: Apache-2.0
"""KServe's recorded V1 exchanges, played against Nerite.

Where a recording is marked as KServe's mistake, and where Nerite has another way, `BETTER` says
what is answered instead; a case listed there that agrees with the recording fails.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from nerite.server.server import Server
from nerite.testing import serve

FOLDER = Path(__file__).parents[1] / "wire/kserve"

TEXTS = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        out = [pb_utils.get_input_tensor_by_name(request, "IN") for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", t.as_numpy())]) for t in out]
"""
RAISES = """
import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        word = json.loads(requests[0].parameters())["raise"]
        raise {"value": ValueError("bad value"), "not_implemented": NotImplementedError("no")}[word]
"""
SLEEPING = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("not today")
"""
CONFIG = """backend: "python" max_batch_size: 8
input { name: "IN" data_type: TYPE_%s dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_%s dims: [ 1 ] }
"""

#: id -> status, and what is in the body.
BETTER: Final[Mapping[str, tuple[int, str]]] = {
    "v1/predict-dicts": (400, "'a' is no input"),
    "v1/predict-inputs-not-list": (400, 'Expected \\"inputs\\" to be a list'),
    "v1/predict-empty-object": (400, 'expected \\"instances\\" or \\"inputs\\"'),
    "v1/predict-ragged": (400, "rows of unequal lengths"),
    "v1/predict-null-body": (400, "is no JSON object"),
    # An explanation needs an explainer, and a number a model of numbers.
    "v1/explain": (501, "Could not find explainer_host."),
    "v1/explain-not-list": (501, "Could not find explainer_host."),
    "v1/predict-huge-int": (400, "a string is expected, got a number"),
    "v1/predict-duplicate-keys": (400, "a string is expected, got a number"),
    "v1/predict-other-verb": (405, "Method Not Allowed"),
    "v1/type-x-www-form-urlencoded": (200, '{"predictions":[0,2]}'),
    "v1/type-json-upper": (200, '{"predictions":[0,2]}'),
    "v1/gzip": (200, '{"predictions":[0,2]}'),
    "v1/ce-structured-no-time": (200, '"data":{"predictions":[0,2]}'),
    "v1/raises-value": (500, "bad value"),
    "v1/raises-not_implemented": (500, "no"),
    # The V2 protocol is Triton's: no body, and 400 for what is not ready.
    "health/v2-slash": (200, '"name":"nerite"'),
    "health/v2-live": (200, ""),
    "health/v2-ready": (400, ""),
    "health/v2-live-post": (405, "Method Not Allowed"),
    "health/v2-model-not-ready": (404, "has no available versions"),
    "health/v2-model-ready-unknown": (400, "Model version not ready"),
    "health/v2-version": (200, '"versions":["1"]'),
    "health/v2-stats": (200, "model_stats"),
    "health/docs": (200, "<title>Endpoints</title>"),
    # On a port of their own.
    "health/metrics": (404, "Not Found"),
}
#: Headers of the request as the result of a model: there is no model of tensors that could tell.
LEFT_OUT = {"v1/headers"}


def vectors() -> Iterator[dict[str, Any]]:
    for name in ("v1", "health"):
        yield from json.loads((FOLDER / f"{name}.json").read_text())["vectors"]


def write_iris(folder: Path) -> None:
    told = json.loads((FOLDER / "iris.json").read_text())
    model = LogisticRegression()
    model.classes_ = np.array(told["classes"])
    model.coef_ = np.array(told["coef"])
    model.intercept_ = np.array(told["intercept"])
    model.n_features_in_ = 4
    folder.mkdir(parents=True)
    skops.io.dump(model, folder / "model.skops")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("v1")
    write_iris(root / "iris/1")
    for name, code, kind in (
        ("echo", TEXTS, "STRING"),
        ("raises", RAISES, "INT32"),
        ("sleeping", SLEEPING, "INT32"),
    ):
        (root / name / "1").mkdir(parents=True)
        (root / name / "1/model.py").write_text(code)
        (root / name / "config.pbtxt").write_text(CONFIG % (kind, kind))
    with serve(root, wait=None) as running:
        assert running.wait_loaded(60)
        yield running


def play(server: Server, request: Mapping[str, Any]) -> tuple[int, str, str]:
    """Status, content type and body."""
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
    body = request.get("body")
    if "body_base64" in request:
        body = base64.b64decode(request["body_base64"])
    elif body is not None:
        body = body.encode()
    connection.request(request["method"], request["path"], body, request.get("headers", {}))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, (answer.getheader("Content-Type") or "").partition(";")[0], text


UUID = re.compile(r'"id":"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"')
TIME = re.compile(r'"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"')


def normal(body: str) -> str:
    return TIME.sub('"time":"TIME"', UUID.sub('"id":"UUID"', body)).replace(" ", "")


@pytest.mark.parametrize(
    "vector", [v for v in vectors() if v["id"] not in LEFT_OUT], ids=lambda vector: vector["id"]
)
def test_what_kserve_answered_is_answered_or_better(vector: dict[str, Any], server: Server) -> None:
    recorded = vector["response"]
    status, kind, body = play(server, vector["request"])
    wanted = recorded.get("headers", {}).get("content-type", "").partition(";")[0]
    told = recorded.get("body") or ""
    agrees = (status, normal(body)) == (recorded["status"], normal(told))
    if vector["id"] not in BETTER:
        assert agrees, body
        assert kind == wanted
        return
    better, part = BETTER[vector["id"]]
    assert not agrees, "this case agrees: take it out of BETTER"
    assert status == better, body
    assert part in body
