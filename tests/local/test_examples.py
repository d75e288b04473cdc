"""Every story of `examples/kserve` runs with `nerite up` and predicts what its model predicts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from onnx import TensorProto, helper
from tests.local.daemons import Up, condition, up
from tests.local.manifests import FLOWERS, KINDS, url_of
from tests.local.test_trained import web

pytestmark = pytest.mark.timeout(240)
CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples/kserve"
ROWS = FLOWERS[[0, 149, 75]].tolist()
#: Those whose runtimes are of another generation, and those that are about choosing alone.
OLD = {"xgboost"}
#: Folder -> service with its namespace.
SERVICES = {
    "sklearn": "default/irises",
    "sklearn-v2": "default/irises-v2",
    "lightgbm": "logistics/delivery-times",
    "onnx": "default/digits",
    "triton": "default/street-scenes",
    "transformer": "default/doubled",
    "speech": "default/speech",
    "graph": "default/file-kinds",
    "explainer": "default/explained",
    "canary": "default/ripening",
    "sidecars": "default/joined",
    "shared": "default/setosa",
    "trained-models": "default/garden",
    "custom-container": "default/word-counter",
    "own-runtime": "sales/churn",
}


def doubling(file: Path, name: str) -> None:
    """An ONNX model that doubles the tensor `name`."""
    file.parent.mkdir(parents=True)
    sides = [
        helper.make_tensor_value_info(side, TensorProto.FLOAT, ["n", 2]) for side in (name, "y")
    ]
    node = helper.make_node("Add", [name, name], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    made = helper.make_graph([node], "double", sides[:1], sides[1:])
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=9), str(file))


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory, models: Path) -> list[str]:
    """A folder for each claim that the examples name, with models of the right kind."""
    folder = tmp_path_factory.mktemp("claims")
    doubling(folder / "scans/digits/model.onnx", "x")
    doubling(folder / "vision/repository/cars/1/model.onnx", "x")
    doubling(folder / "demo/silero_vad/1/model.onnx", "input")
    doubling(folder / "demo/magika/1/model.onnx", "bytes")
    (folder / "parcels/delivery-times").mkdir(parents=True)
    options = {"verbosity": -1, "num_threads": 1}
    light = lightgbm.train(options, lightgbm.Dataset(FLOWERS, KINDS.astype(float)), 3)
    light.save_model(folder / "parcels/delivery-times/model.bst")
    (folder / "estate/prices").mkdir(parents=True)
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(FLOWERS, KINDS), 3)
    booster.save_model(folder / "estate/prices/model.ubj")
    shutil.copytree(models / "irises", folder / "flowers/irises")
    shutil.copytree(models / "opposites", folder / "flowers/irises-next")
    shutil.copytree(models / "double", folder / "numbers/double")
    named = {"flower-models": "flowers", "numbers": "numbers", "scans": "scans"}
    named |= {"vision": "vision", "demo-models": "demo", "parcels": "parcels", "estate": "estate"}
    return [word for key, at in named.items() for word in ("--pvc", f"{key}={folder / at}")]


@contextmanager
def told(example: Path, file: Path, here: str) -> Iterator[None]:
    """An example as a file that speaks of a port that was free."""
    file.write_text(example.read_text().replace("http://127.0.0.1:8900", here))
    yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, claims: list[str]) -> Iterator[Up]:
    folders = [path for path in sorted(EXAMPLES.iterdir()) if path.is_dir()]
    folders = [path for path in folders if path.name not in OLD | {"trained-models"}]
    files = [word for path in folders for word in ("-f", path)]
    files += ["-f", EXAMPLES / "own-runtime/runtimes"]
    (flowers,) = [Path(w.partition("=")[2]) for w in claims if w.startswith("flower-models=")]
    garden = tmp_path_factory.mktemp("garden") / "models.yaml"
    files += ["-f", garden]
    # The scripts' paths are meant from the checkout.
    with (
        chdir(CHECKOUT),
        web(flowers) as here,
        told(EXAMPLES / "trained-models/models.yaml", garden, here),
        up(tmp_path_factory.mktemp("examples"), *files, *claims, "--trust") as daemon,
    ):
        yield daemon


def post(url: str, value: object) -> Any:
    with urlopen(Request(url, json.dumps(value).encode()), timeout=60) as answer:
        return json.load(answer)


def infer(url: str, model: str, name: str, rows: Any, datatype: str = "FP32") -> Any:
    shape = list(np.shape(rows))
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": rows}
    return post(f"{url}/v2/models/{model}/infer", {"inputs": [tensor]})["outputs"][0]["data"]


def test_all_stories_are_run() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == SERVICES.keys() | OLD


def url(running: Up, folder: str) -> str:
    namespace, _, name = SERVICES[folder].partition("/")
    return url_of(running.ready(name, namespace))


@pytest.mark.parametrize(
    ("folder", "model"),
    [("sklearn", "irises"), ("sklearn-v2", "irises-v2"), ("lightgbm", "delivery-times"),
     ("explainer", "explained"), ("sidecars", "joined"), ("shared", "setosa"),
     ("trained-models", "iris")],
)  # fmt: skip
def test_tabular_models_answer_v1_and_v2(
    running: Up, folder: str, model: str, claims: list[str]
) -> None:
    expected: Any = [0, 2, 1]
    if folder == "lightgbm":
        (parcels,) = [word for word in claims if word.startswith("parcels=")]
        file = Path(parcels.partition("=")[2]) / "delivery-times/model.bst"
        expected = lightgbm.Booster(model_file=file).predict(np.array(ROWS))
    address = url(running, folder)
    if folder == "trained-models":
        assert running.run("wait", "tm/iris", "--timeout=60s").returncode == 0
    found = post(f"{address}/v1/models/{model}:predict", {"instances": ROWS})["predictions"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(infer(address, model, "x", ROWS, "FP64"), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("folder", "model", "tensor"),
    [("onnx", "digits", "x"), ("triton", "cars", "x"), ("speech", "speech", "input"),
     ("graph", "file-kinds", "bytes")],
)  # fmt: skip
def test_onnx_models_answer_v1_and_v2(running: Up, folder: str, model: str, tensor: str) -> None:
    address = url(running, folder)
    assert infer(address, model, tensor, [[1, 2], [3, 4]]) == [2, 4, 6, 8]
    found = post(f"{address}/v1/models/{model}:predict", {"instances": [[1, 2], [3, 4]]})
    assert found == {"predictions": [[2, 4], [6, 8]]}


def test_the_transformer_and_the_graph_chain(running: Up) -> None:
    assert infer(url(running, "transformer"), "doubled", "x", [[1, 2]]) == [4, 8]
    url(running, "speech")
    url(running, "graph")
    assert running.run("wait", "ig/triage", "--for=condition=Ready").returncode == 0
    for tensor, rows in (("bytes", [[1, 2]]), ("input", [[3, 4]])):
        asked = {"name": tensor, "shape": [1, 2], "datatype": "FP32", "data": rows}
        found = post(f"http://{running.http}/serving/default/triage", {"inputs": [asked]})
        assert found["outputs"][0]["data"] == [2 * value for value in rows[0]]
        model = {"bytes": "file-kinds", "input": "speech"}[tensor]
        assert found["model_name"] == model


def test_what_shares_a_process_does_and_memory_is_counted(running: Up) -> None:
    running.ready("virginica")
    assert running.processes("setosa") == running.processes("virginica")
    assert running.processes("irises") != running.processes("irises-v2")
    (lily,) = running.client.objects("TrainedModel", "default", "lily")
    assert condition(lily, "Ready")["reason"] == "MemoryResourceNotAvailable"


def test_the_canary_gets_a_quarter(running: Up) -> None:
    address = url(running, "canary")
    running.watch(
        "ripening", lambda v: condition(v, "CanaryPredictorReady").get("status") == "True"
    )
    path = f"{address}/v1/models/ripening:predict"
    found = Counter(post(path, {"instances": ROWS[:1]})["predictions"][0] for _ in range(20))
    assert found == {0: 15, 2: 5}


def test_the_explainer_explains(running: Up) -> None:
    address = f"{url(running, 'explainer')}/v1/models/explained:explain"
    (explained,) = post(address, {"instances": ROWS[1:2]})["explanations"]
    assert (explained["prediction"], len(explained["without_feature"])) == (2, 4)


def test_programs_of_ones_own_answer(running: Up) -> None:
    texts = ["to be or not to be", "words"]
    address = url(running, "custom-container")
    assert infer(address, "word-counter", "text", texts, "BYTES") == [6, 1]
    found = post(f"{address}/v1/models/word-counter:predict", {"instances": texts})
    assert found["predictions"] == [6, 1]
    assert infer(url(running, "own-runtime"), "churn", "x", ROWS) == [0, 2, 1]


def test_what_kserve_would_not_run_says_why(running: Up) -> None:
    status = running.service("digits-as-model")["status"]
    assert status["modelStatus"]["transitionStatus"] == "InvalidSpec"
    assert status["modelStatus"]["lastFailureInfo"]["reason"] == "NoSupportingRuntime"


def test_the_old_version_runs_with_the_old_runtimes(tmp_path: Path, claims: list[str]) -> None:
    words = ["-f", EXAMPLES / "xgboost", "--builtin", "0.11", *claims]
    with up(tmp_path / "home", *words) as daemon:
        value = daemon.ready("house-prices")
        assert condition(value, "PredictorReady")["status"] == "True"
        (estate,) = [word for word in claims if word.startswith("estate=")]
        model = xgboost.Booster(model_file=Path(estate.partition("=")[2]) / "prices/model.ubj")
        expected = model.predict(xgboost.DMatrix(np.array(ROWS)))
        address = f"{url_of(value)}/v1/models/house-prices:predict"
        found = post(address, {"instances": ROWS})["predictions"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(
            infer(url_of(value), "house-prices", "x", ROWS), expected, rtol=1e-5
        )
