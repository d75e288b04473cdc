# SPDX-License-Identifier: Apache-2.0
"""Tabular models without tensors of their own take over V2 what KServe's own servers take.

Those look at the rows of the first input alone, whatever its name and type, and answer `output-0`
in the array's own shape. With tensors in its configuration a model is as strict as Triton's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import lightgbm
import numpy as np
import pytest
import skops.io
import tritonclient.grpc
import tritonclient.http
import xgboost
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from nerite.server.server import Server
from nerite.testing import serve

# Whole numbers, which every type holds.
ROWS = np.round(load_iris().data * 10)
KINDS = load_iris().target
TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
CONFIG = """
backend: "sklearn"
max_batch_size: 8
input [{ name: "input-0" data_type: TYPE_FP32 dims: [4] }]
output [{ name: "output-0" data_type: TYPE_INT64 dims: [1] reshape { shape: [] } }]
"""


@pytest.fixture(scope="module")
def predictions() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, predictions: dict[str, Any]
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("as-kserve")
    model = LogisticRegression(max_iter=500).fit(ROWS, KINDS)
    skops.io.dump(model, folder / "linear.skops")
    matrix = xgboost.DMatrix(ROWS, KINDS)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, matrix, 3)
    booster.save_model(folder / "boosted.ubj")
    options = {"verbosity": -1, "num_threads": 1}
    light = lightgbm.train(options, lightgbm.Dataset(ROWS, KINDS.astype(float)), 3)
    light.save_model(folder / "light.txt")
    (folder / "strict/1").mkdir(parents=True)
    shutil.copy(folder / "linear.skops", folder / "strict/1/model.skops")
    (folder / "strict/config.pbtxt").write_text(CONFIG)
    (folder / "asked/1").mkdir(parents=True)
    shutil.copy(folder / "linear.skops", folder / "asked/1/model.skops")
    parameter = 'parameters { key: "accept_as_kserve" value { string_value: "true" } }'
    (folder / "asked/config.pbtxt").write_text(CONFIG + parameter)
    predictions.update(
        linear=model.predict(ROWS), boosted=booster.predict(matrix), light=light.predict(ROWS)
    )
    names = ("linear.skops", "boosted.ubj", "light.txt", "strict", "asked")
    with serve(*(folder / name for name in names)) as running:
        yield running


def ask(server: Server, model: str, rows: Any, name: str = "x") -> Any:
    """The answer over HTTP, held against the one over gRPC."""
    rows = np.asarray(rows)
    answers = []
    for kind, url in (
        (tritonclient.http, server.http_url.removeprefix("http://")),
        (tritonclient.grpc, server.grpc_url),
    ):
        with kind.InferenceServerClient(url) as client:
            tensor = kind.InferInput(name, rows.shape, np_to_triton_dtype(rows.dtype))
            tensor.set_data_from_numpy(rows)
            answers.append(client.infer(model, [tensor]).as_numpy("output-0"))
    np.testing.assert_array_equal(*answers)
    return answers[0]


@pytest.mark.parametrize("model", ["linear", "boosted", "light"])
def test_any_name_and_any_type_of_number(
    server: Server, model: str, predictions: dict[str, Any]
) -> None:
    for name in ("input-0", "predict", "float_input", "X"):
        for dtype in (*TYPES, np.float16, np.float32, np.float64):
            answer = ask(server, model, ROWS[:3].astype(dtype), name)
            np.testing.assert_allclose(answer, predictions[model][:3], rtol=1e-6)
            assert answer.shape == predictions[model][:3].shape


def test_json_of_kserves_documentation(server: Server) -> None:
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "INT32",
              "data": [[68, 28, 48, 14], [60, 34, 45, 16]]}  # fmt: skip
    request = Request(
        f"{server.http_url}/v2/models/linear/infer", json.dumps({"inputs": [tensor]}).encode()
    )
    with urlopen(request, timeout=10) as reply:
        output = json.load(reply)["outputs"][0]
    assert output == {"name": "output-0", "datatype": "INT64", "shape": [2], "data": [1, 1]}


@pytest.mark.parametrize("model", ["linear", "boosted", "light"])
def test_as_many_rows_as_one_likes(server: Server, model: str, predictions: dict[str, Any]) -> None:
    answer = ask(server, model, ROWS.astype(np.int32))
    assert len(answer) == 150
    np.testing.assert_allclose(answer, predictions[model], rtol=1e-6)


@pytest.mark.parametrize("model", ["linear", "boosted", "light"])
def test_columns_may_come_as_inputs_of_their_own(
    server: Server, model: str, predictions: dict[str, Any]
) -> None:
    """As clients of KServe and MLServer send data frames."""
    rows, names = ROWS[:5].astype(np.float32), ("sepal", "petal", "x", "y")
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        columns = []
        for index, name in enumerate(names):
            column = np.ascontiguousarray(rows[:, index : index + 1])
            # One of whole numbers, and one without the second dimension.
            column = column.astype(np.int64) if name == "x" else column
            column = column.ravel() if name == "y" else column
            tensor = tritonclient.grpc.InferInput(
                name, column.shape, np_to_triton_dtype(column.dtype)
            )
            tensor.set_data_from_numpy(column)
            columns.append(tensor)
        whole = rows.copy()
        whole[:, 2] = whole[:, 2].astype(np.int64)
        answer = client.infer(model, columns, parameters={"content_type": "pd"})
        np.testing.assert_array_equal(answer.as_numpy("output-0"), ask(server, model, whole))
        with pytest.raises(InferenceServerException, match=r"Expected \[-1,4\], got \[5,3\]"):
            client.infer(model, columns[:3], parameters={"content_type": "pd"})
        # Without the parameter one input is looked at, as KServe's servers do.
        other = tritonclient.grpc.InferInput("input-0", rows.shape, "FP32")
        other.set_data_from_numpy(rows)
        found = client.infer(model, [*columns, other]).as_numpy("output-0")
        np.testing.assert_allclose(found, predictions[model][:5], rtol=1e-6)


def test_metadata_tells_the_shape_that_is_answered(server: Server) -> None:
    with urlopen(f"{server.http_url}/v2/models/linear", timeout=10) as reply:
        told = json.load(reply)
    assert told["inputs"] == [{"name": "input-0", "datatype": "FP32", "shape": [-1, 4]}]
    assert told["outputs"][0] == {"name": "output-0", "datatype": "INT64", "shape": [-1]}


def test_what_is_wrong_all_the_same_is_told(server: Server) -> None:
    for rows, text in (
        (ROWS[:1, :3], "unexpected shape for input 'input-0' for model 'linear'. Expected [-1,4]"),
        (np.full((1, 4), 1e300), f"value 1{'0' * 300} of input 'x' for model 'linear' is out of"),
        (ROWS[:1].astype("S4").astype(object), "data-type is 'BYTES', but model 'linear' expects"),
    ):
        with pytest.raises(InferenceServerException) as refused:
            ask(server, "linear", rows)
        assert text in str(refused.value)
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP64")
        tensor.set_data_from_numpy(ROWS[:1])
        wanted = [tritonclient.grpc.InferRequestedOutput("predict")]
        with pytest.raises(InferenceServerException, match="unexpected inference output 'predict'"):
            client.infer("linear", [tensor], outputs=wanted)


def test_a_configuration_of_its_own_is_held_to_and_may_ask_for_it(
    server: Server, predictions: dict[str, Any]
) -> None:
    rows = ROWS[:3].astype(np.float32)
    assert ask(server, "strict", rows, "input-0").tolist() == [[0], [0], [0]]
    for wrong, name, text in (
        (rows, "x", "unexpected inference input 'x'"),
        (ROWS[:3], "input-0", "data-type is 'FP64', but model 'strict' expects 'FP32'"),
        (ROWS.astype(np.float32), "input-0", "batch-size must be <= 8"),
    ):
        with pytest.raises(InferenceServerException, match=text):
            ask(server, "strict", wrong, name)
    assert ask(server, "asked", ROWS, "x").tolist() == predictions["linear"].tolist()


def test_v1_answers_as_before(server: Server, predictions: dict[str, Any]) -> None:
    for model in ("linear", "boosted", "light", "strict", "asked"):
        body = json.dumps({"instances": ROWS.tolist()}).encode()
        with urlopen(Request(f"{server.http_url}/v1/models/{model}:predict", body)) as reply:
            found = json.load(reply)["predictions"]
        if found and isinstance(found[0], dict):
            found = [row["output-0"] for row in found]
        expected = predictions.get(model, predictions["linear"])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(HTTPError):
        urlopen(Request(f"{server.http_url}/v1/models/linear:predict", b'{"instances": [[1]]}'))
