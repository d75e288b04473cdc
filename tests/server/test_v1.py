# SPDX-License-Identifier: Apache-2.0
"""KServe's V1 protocol on models of every kind; its recordings are in `test_v1_vectors`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pytest
import skops.io
import xgboost
from onnx import TensorProto, helper
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from tests.keyed import asked, bearer, keyed_server

from nerite.server.server import Server
from nerite.testing import serve

ROWS, CLASSES = load_iris(return_X_y=True)
X = ROWS[::15]

TWO = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            a, b = (pb_utils.get_input_tensor_by_name(request, name) for name in "AB")
            b = b.as_numpy() if b else np.full((len(a.as_numpy()), 1), b"-", object)
            sums = a.as_numpy().sum(axis=1, keepdims=True)
            texts = np.array([text + b"!" for text in b.ravel()], object).reshape(b.shape)
            answers.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("SUM", sums), pb_utils.Tensor("TEXT", texts),
            ]))
        return answers
"""
TWO_CONFIG = """backend: "python" max_batch_size: 8 dynamic_batching {}
input [ { name: "A" data_type: TYPE_INT64 dims: [ 2 ] },
        { name: "B" data_type: TYPE_STRING dims: [ 1 ] optional: true } ]
output [ { name: "SUM" data_type: TYPE_INT64 dims: [ 1 ] },
         { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
TOLD = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        told = [json.dumps([r.request_id(), json.loads(r.parameters())]) for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([[t]], object))])
                for t in told]
"""


def identity(kind: str, dims: str, batch: int = 4) -> str:
    return (
        f'backend: "identity" max_batch_size: {batch}\n'
        f'input {{ name: "IN" data_type: TYPE_{kind} dims: {dims} }}\n'
        f'output {{ name: "OUT" data_type: TYPE_{kind} dims: {dims} }}\n'
    )


CONFIGS = {
    "single": identity("FP32", "[ 1 ]", 0),
    "cube": identity("FP64", "[ 2, -1 ]"),
    "wide": identity("FP32", "[ -1 ]"),
    "half": identity("FP16", "[ 1 ]"),
    **{
        kind.lower(): identity(kind, "[ 1 ]")
        for kind in ("UINT8", "INT8", "INT64", "UINT64", "FP32", "FP64", "BOOL", "STRING")
    },
}


def write_onnx(path: Path) -> None:
    """Y = X * 2 over rows of four."""
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("X", "Y")
    ]
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    node = helper.make_node("Mul", ["X", "two"], ["Y"])
    graph = helper.make_graph([node], "double", tensors[:1], tensors[1:], [two])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def write_tabular(root: Path) -> None:
    for name in ("sklearn", "regression", "xgboost", "lightgbm", "joblib"):
        (root / name / "1").mkdir(parents=True)
    classifier = LogisticRegression(max_iter=500).fit(ROWS, CLASSES)
    skops.io.dump(classifier, root / "sklearn/1/model.skops")
    joblib.dump(classifier, root / "joblib/1/model.joblib")
    skops.io.dump(
        LinearRegression().fit(*load_diabetes(return_X_y=True)), root / "regression/1/model.skops"
    )
    softprob = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    booster = xgboost.train(softprob, xgboost.DMatrix(ROWS, CLASSES), 5)
    booster.save_model(root / "xgboost/1/model.ubj")
    options = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    trees = lightgbm.train(options, lightgbm.Dataset(ROWS, CLASSES), 5)
    trees.save_model(root / "lightgbm/1/model.txt")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("v1")
    write_tabular(root)
    (root / "onnx/1").mkdir(parents=True)
    write_onnx(root / "onnx/1/model.onnx")
    for name, config in CONFIGS.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(config)
    told = identity("INT64", "[ 1 ]").replace("identity", "python")
    told = told.replace('"OUT" data_type: TYPE_INT64', '"OUT" data_type: TYPE_STRING')
    for name, code, config in (("two", TWO, TWO_CONFIG), ("told", TOLD, told)):
        (root / name / "1").mkdir(parents=True)
        (root / name / "1/model.py").write_text(code)
        (root / name / "config.pbtxt").write_text(config)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serve(root, trust=True) as running:
        yield running


def ask(
    server: Server,
    model: str,
    body: object,
    headers: Mapping[str, str] | None = None,
    verb: str = "predict",
) -> tuple[int, Any, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
    text = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", f"/v1/models/{model}:{verb}", text, dict(headers or {}))
    answer = connection.getresponse()
    read = json.loads(answer.read())
    connection.close()
    return answer.status, read, answer.headers


def predictions(server: Server, model: str, instances: object) -> Any:
    status, answer, _ = ask(server, model, {"instances": instances})
    assert status == 200, answer
    assert list(answer) == ["predictions"]
    return answer["predictions"]


@pytest.mark.parametrize("model", ["sklearn", "joblib", "xgboost", "lightgbm", "onnx"])
def test_rows_are_answered_as_the_library_predicts(model: str, root: Path, server: Server) -> None:
    rows = X.astype(np.float32)  # more than the default for ONNX models lets be in a batch
    expected = {
        "sklearn": lambda: joblib.load(root / "joblib/1/model.joblib").predict(rows),
        "joblib": lambda: joblib.load(root / "joblib/1/model.joblib").predict(rows),
        "xgboost": lambda: xgboost.Booster(model_file=root / "xgboost/1/model.ubj").predict(
            xgboost.DMatrix(rows)
        ),
        "lightgbm": lambda: lightgbm.Booster(model_file=root / "lightgbm/1/model.txt").predict(
            rows
        ),
        "onnx": lambda: rows * 2,
    }[model]()
    got = np.array(predictions(server, model, rows.tolist()))
    # The very shape of the library's: one value a row is no row of one value.
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_regression_of_one_number_a_row_is_a_list_of_numbers(server: Server) -> None:
    rows, _ = load_diabetes(return_X_y=True)
    expected = LinearRegression().fit(*load_diabetes(return_X_y=True)).predict(rows[:5])
    got = predictions(server, "regression", rows[:5].tolist())
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_instances_are_as_deep_as_the_input(server: Server) -> None:
    cubes = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9.5], [0, 0, 0]]]
    assert predictions(server, "cube", cubes) == cubes
    assert predictions(server, "wide", [[1], [2]]) == [[1], [2]]  # declared -1: never squeezed
    assert predictions(server, "fp32", [1.5, 2]) == [1.5, 2]
    assert predictions(server, "fp32", [[1.5], [2]]) == [1.5, 2]
    assert predictions(server, "fp32", [{"IN": [1.5]}, {"IN": [2]}]) == [1.5, 2]


def test_a_model_without_a_batch_dimension_takes_one_instance(server: Server) -> None:
    assert predictions(server, "single", [[3.0]]) == [3.0]
    assert predictions(server, "single", [3.0]) == [3.0]
    status, answer, _ = ask(server, "single", {"instances": [[1], [2]]})
    assert status == 400
    assert "takes one instance in a request, got 2" in answer["error"]


def test_more_rows_than_a_batch_takes_are_several_requests_to_the_model(server: Server) -> None:
    """A client of V1 knows nothing of a largest batch; KServe's servers have none."""
    numbers = list(range(101))
    assert predictions(server, "int64", numbers) == numbers
    texts = [[f"{number}" * (number % 5)] for number in numbers]
    assert predictions(server, "string", texts) == [text for (text,) in texts]
    rows = [{"A": [n, 1], "B": str(n)} for n in numbers]
    assert predictions(server, "two", rows) == [{"SUM": n + 1, "TEXT": f"{n}!"} for n in numbers]
    status, answer, _ = ask(server, "cube", {"instances": [[[1]]] * 9})
    assert (status, "Expected [-1,2,-1], got" in answer["error"]) == (400, True)
    status, answer, _ = ask(server, "uint8", {"instances": [1] * 4097})
    assert (status, "batch-size must be <= 4" in answer["error"]) == (400, True)


def test_several_inputs_and_outputs_are_objects_by_name(server: Server) -> None:
    instances = [{"A": [1, 2], "B": ["x"]}, {"B": "é", "A": [3, 4]}]
    status, answer, _ = ask(server, "two", {"instances": instances})
    assert status == 400, "the shapes of B differ"
    assert "rows of unequal lengths" in answer["error"]
    instances = [{"A": [1, 2], "B": "x"}, {"B": "é", "A": [3, 4]}]
    expected = [{"SUM": 3, "TEXT": "x!"}, {"SUM": 7, "TEXT": "é!"}]
    assert predictions(server, "two", instances) == expected
    # By columns, as TensorFlow Serving has it; what is optional may be left out.
    status, answer, _ = ask(server, "two", {"inputs": {"B": ["x", "y"], "A": [[1, 2], [3, 4]]}})
    assert answer == {"predictions": [{"SUM": 3, "TEXT": "x!"}, {"SUM": 7, "TEXT": "y!"}]}
    assert predictions(server, "two", [[1, 2]]) == [{"SUM": 3, "TEXT": "-!"}]
    assert ask(server, "two", {"inputs": [[1, 2]]})[1] == {
        "predictions": [{"SUM": 3, "TEXT": "-!"}]
    }


FITS = [
    ("uint8", [0, 255, 7.0, 2e2], [0, 255, 7, 200]),
    ("int8", [-128, 127], [-128, 127]),
    ("int64", [-(2**63), 2**63 - 1, 1e3], [-(2**63), 2**63 - 1, 1000]),
    ("uint64", [2**64 - 1], [2**64 - 1]),
    ("fp32", [1, -2.5, 1e38], [1.0, -2.5, float(np.float32(1e38))]),
    ("fp64", [1e308, 2**64], [1e308, 2.0**64]),
    ("bool", [True, 0, 1.0], [True, False, True]),
    ("string", ["", "模型", "\U0001f600\n"], ["", "模型", "\U0001f600\n"]),
]


@pytest.mark.parametrize(("model", "instances", "expected"), FITS)
def test_a_number_however_written_goes_where_it_fits(
    model: str, instances: list[Any], expected: list[Any], server: Server
) -> None:
    got = predictions(server, model, instances)
    assert got == expected
    assert [type(item) for item in got] == [type(item) for item in expected]


UNFIT = [
    ("uint8", 256, "input 'IN' of model 'uint8' is UINT8, which cannot hold 256"),
    ("uint8", -1, "UINT8, which cannot hold -1"),
    ("int8", 1.5, "INT8, which cannot hold 1.5"),
    ("int64", 2**63, "INT64, which cannot hold 9223372036854775808"),
    ("uint64", 1e20, "UINT64, which cannot hold 100000000000000000000"),
    ("fp32", 1e39, "FP32, which cannot hold 1"),
    ("fp32", "1", "FP32: a number is expected, got a string"),
    ("fp32", None, "FP32: a number is expected, got null"),
    ("fp32", True, "FP32: a number is expected, got true or false"),
    ("fp32", {"a": 1}, "'a' is no input: each instance may be an object with the inputs of model"),
    ("bool", 2, "BOOL, which cannot hold 2"),
    ("string", 1, "BYTES: a string is expected, got a number"),
    ("half", 70000, "FP16, which cannot hold 70000"),
    ("sklearn", [1, 2, 3], "Expected [-1,4], got [1,3]"),
    ("sklearn", [[[1]]], "Expected [-1,4], got [1,1,1,1]"),
    ("two", {"A": [1, 2], "C": 1}, "'C' is no input"),
    ("two", {"B": "x"}, "missing required input(s) ['A']"),
]


@pytest.mark.parametrize(("model", "instance", "text"), UNFIT)
def test_what_does_not_fit_is_the_clients_mistake(
    model: str, instance: object, text: str, server: Server
) -> None:
    status, answer, _ = ask(server, model, {"instances": [instance]})
    assert (status, list(answer)) == (400, ["error"])
    assert text in answer["error"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "Unrecognized request format: Input is a zero-length, empty document: line 1 column"),
        ('{"instances": [1,\n 2}', "Unrecognized request format: Missing a comma or ']' after"),
        ('{"instances": [1,\n 2}', "line 2 column 3 (char 20)"),
        ('{"instances": [-Infinity]}', "expected a JSON value: line 1 column 16 (char 15)"),
        ('{"instances": [1], "x": NaN}', "expected a JSON value: line 1 column 25 (char 24)"),
        ('{"instances": []}', "\"instances\" of the request to model 'fp32' is empty"),
        ('{"instances": "x"}', 'Expected "instances" to be a list'),
        ('{"instances": [[]]}', "Expected [-1,1], got [1,0]"),
        ('{"instances": [1, [2]]}', "rows of unequal lengths"),
        ('{"instances": [[1], 2]}', "rows of unequal lengths"),
        ('{"instances": [[[1]], [1]]}', "rows of unequal lengths"),
        ('{"instances": [{"IN": 1}, 2]}', "each instance must be an object with the inputs"),
        ('{"instances": [{"IN": 1}, {}]}', "instance 1 of the request to model 'fp32' has no 'IN'"),
        ('{"instances": [{}, {"IN": 1}]}', "instance 0 of the request to model 'fp32' has no 'IN'"),
        ('{"instances": [{"IN": 1, "IN": 1}]}', "has 'IN' twice"),
        ('{"inputs": {}}', "\"inputs\" must be an object with the inputs of model 'fp32': 'IN'"),
        ('{"instances": [1], "triton_x": 1}', "parameter keys starting with 'triton_'"),
        ('{"instances": ' + "[" * 100 + "]" * 100 + "}", "is nested deeper than 64"),
    ],
)
def test_what_is_no_request_is_told_where(body: str, text: str, server: Server) -> None:
    status, answer, _ = ask(server, "fp32", body)
    assert (status, list(answer)) == (400, ["error"])
    assert text in answer["error"]


def test_what_stands_beside_the_instances_reaches_the_model(server: Server) -> None:
    body = {"instances": [1], "top": 5, "mode": "x", "deep": {"is": "left"}, "b": True, "d": 0.5}
    status, answer, headers = ask(server, "told", body, {"X-Request-Id": "r-1"})
    assert status == 200
    request_id, parameters = json.loads(answer["predictions"][0])
    assert request_id == "r-1"
    assert parameters == {"top": 5, "mode": "x", "b": True, "d": 0.5}
    assert headers["X-Request-Id"] == "r-1"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "text/plain", "application/octet-stream"]
)
def test_json_is_json_whatever_its_content_type(content_type: str, server: Server) -> None:
    """KServe hands the bytes to the model: 500 with the words of numpy."""
    headers = {"Content-Type": content_type}
    status, answer, _ = ask(server, "sklearn", {"instances": X.tolist()}, headers)
    assert (status, len(answer["predictions"])) == (200, len(X))


def test_an_event_in_headers_is_answered_by_one(server: Server) -> None:
    event = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "urn:me",
        "ce-type": "t",
        "Content-Type": "application/json",
    }
    status, answer, headers = ask(server, "fp32", {"instances": [1]}, event)
    assert (status, answer) == (200, {"predictions": [1.0]})
    assert headers["ce-type"] == "io.kserve.inference.response"
    assert headers["ce-source"] == "io.kserve.inference.fp32"
    assert headers["ce-id"] not in ("", "1")
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-time"].endswith("Z")


def test_requests_of_both_protocols_share_batches_and_counters(server: Server) -> None:
    def counted() -> int:
        status, text = asked(server.http_url, "GET", "/v2/models/two/stats")
        assert status == 200
        return int(json.loads(text)["model_stats"][0]["inference_count"])

    before = counted()
    with ThreadPoolExecutor(4) as pool:
        rows = [[{"A": [n, n], "B": "x"}, {"A": [n, 1], "B": "y"}] for n in range(20)]
        answers = list(pool.map(lambda instances: predictions(server, "two", instances), rows))
    assert [[row["SUM"] for row in rows] for rows in answers] == [[2 * n, n + 1] for n in range(20)]
    assert counted() - before == 40


def test_models_are_listed_with_their_state_and_metadata(server: Server, root: Path) -> None:
    names = sorted(path.name for path in root.iterdir())
    status, text = asked(server.http_url, "GET", "/v1/models")
    assert (status, json.loads(text)) == (200, {"models": names})
    _, text = asked(server.http_url, "GET", "/v2/models")
    models = json.loads(text)["models"]
    assert [model["name"] for model in models] == names
    for model in models:
        _, text = asked(server.http_url, "GET", f"/v2/models/{model['name']}")
        assert json.loads(text) == model
    slash, plain = (asked(server.http_url, "GET", path) for path in ("/v2/", "/v2"))
    assert slash == plain
    status, text = asked(server.http_url, "GET", "/v1/models/fp32/versions/1")
    assert (status, json.loads(text)) == (200, {"name": "fp32", "ready": True})
    status, text = asked(server.http_url, "GET", "/v1/models/fp32/versions/2")
    assert (status, "version 2 is not found" in text) == (404, True)
    assert asked(server.http_url, "GET", "/")[0] == 200


def test_a_key_opens_its_models_and_no_others(tmp_path: Path) -> None:
    with keyed_server(tmp_path) as keyed:
        url, own = keyed.server.http_url, bearer(keyed.keys["own"])
        body = {"instances": [1]}
        predict = "/v1/models/own-a:predict"
        assert asked(url, "POST", predict, None, body)[0] == 401
        assert asked(url, "POST", predict, bearer(keyed.keys["metrics"]), body)[0] == 403
        assert asked(url, "POST", predict, own, body) == (200, '{"predictions":[1.0]}')
        for verb in ("predict", "explain"):
            assert asked(url, "POST", f"/v1/models/other:{verb}", own, body)[0] == 403
        _, text = asked(url, "GET", "/v1/models", own)
        assert json.loads(text) == {"models": ["own-a", "own-b"]}
        _, text = asked(url, "GET", "/v2/models", own)
        assert [model["name"] for model in json.loads(text)["models"]] == ["own-a", "own-b"]
        assert asked(url, "GET", "/v1/models")[0] == 401
        assert asked(url, "GET", "/v1/models/other")[0] == 200  # health, as /v2/models/other/ready
