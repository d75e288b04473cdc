"""Models of every format on a real server, without a configuration, and what `--trust` opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
import tritonclient.http as httpclient
import xgboost
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import InvalidArgument, Unavailable
from nerite.server.server import Server
from nerite.testing import serve

ROWS, CLASSES = load_iris(return_X_y=True)
X = ROWS[::15].astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of iris per format, each called `model`."""
    folder = tmp_path_factory.mktemp("files")
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, CLASSES)
    skops.io.dump(estimator, folder / "model.skops")
    joblib.dump(estimator, folder / "model.joblib")
    softprob = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    booster = xgboost.train(softprob, xgboost.DMatrix(ROWS, CLASSES), 5)
    booster.save_model(folder / "model.ubj")
    booster.save_model(folder / "model.json")
    shutil.copy(folder / "model.ubj", folder / "model.bst")
    options = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    lightgbm.train(options, lightgbm.Dataset(ROWS, CLASSES), 5).save_model(folder / "model.txt")
    return folder


def ask(server: Server, model: str, *outputs: str) -> dict[str, Any]:
    tensor = httpclient.InferInput("input-0", list(X.shape), "FP32")
    tensor.set_data_from_numpy(X)
    wanted = [httpclient.InferRequestedOutput(name) for name in outputs] or None
    with httpclient.InferenceServerClient(server.http_url.removeprefix("http://")) as client:
        result = client.infer(model, [tensor], outputs=wanted)
    return {out["name"]: result.as_numpy(out["name"]) for out in result.get_response()["outputs"]}


def expected_of(files: Path, name: str) -> Any:
    if name in ("model.skops", "model.joblib"):
        return joblib.load(files / "model.joblib").predict(X)
    if name == "model.txt":
        return lightgbm.Booster(model_file=files / name).predict(X)
    return xgboost.Booster(model_file=files / "model.ubj").predict(xgboost.DMatrix(X))


@pytest.mark.parametrize("form", ["file", "folder", "repository"])
def test_a_model_without_a_configuration_answers_as_its_library(
    form: str, files: Path, tmp_path: Path
) -> None:
    paths: list[Path] = []
    names = ["model.skops", "model.joblib", "model.ubj", "model.json", "model.bst", "model.txt"]
    for name in names:
        folder = tmp_path / name.replace(".", "_") / ("1" if form == "repository" else "")
        folder.mkdir(parents=True)
        target = folder / (
            f"{name.replace('.', '_')}{Path(name).suffix}" if form == "file" else name
        )
        shutil.copy(files / name, target)
        (folder / "README.txt").write_text("no model\n")
        (folder / "metadata.json").write_text("{}")
        paths.append(target if form == "file" else folder)
    repositories = [tmp_path] if form == "repository" else paths
    with serve(*repositories, trust=True) as server:
        for name in names:
            got = ask(server, name.replace(".", "_"), "output-0")
            expected = expected_of(files, name)
            np.testing.assert_allclose(got["output-0"].reshape(expected.shape), expected, rtol=1e-6)


def test_a_lightgbm_model_called_bst_is_told_from_xgboosts(files: Path, tmp_path: Path) -> None:
    (tmp_path / "inside/1").mkdir(parents=True)
    shutil.copy(files / "model.txt", tmp_path / "inside/1/model.bst")
    shutil.copy(files / "model.txt", tmp_path / "bare.bst")
    with serve(tmp_path / "inside", tmp_path / "bare.bst") as server:
        for name in ("inside", "bare"):
            assert ask(server, name)["output-0"].dtype == np.float64


def test_a_request_gets_the_outputs_that_it_names_and_all_if_it_names_none(files: Path) -> None:
    with serve(files / "model.skops") as server:
        assert sorted(ask(server, "model")) == ["output-0", "predict_proba"]
        assert sorted(ask(server, "model", "predict_proba")) == ["predict_proba"]
        body = {
            "inputs": [
                {
                    "name": "input-0",
                    "shape": [1, 4],
                    "datatype": "FP32",
                    "data": [6.8, 2.8, 4.8, 1.4],
                }
            ],
            "outputs": [{"name": "output-0"}],
        }
        request = Request(f"{server.http_url}/v2/models/model/infer", json.dumps(body).encode())
        with urlopen(request) as reply:
            (output,) = json.load(reply)["outputs"]
    assert (output["name"], output["datatype"], output["data"]) == ("output-0", "INT64", [1])


def test_a_pickle_is_refused_by_a_server_that_was_not_told_to_trust(files: Path) -> None:
    with (
        serve(files / "model.joblib", wait=None) as server,
        pytest.raises(Unavailable, match="is a pickle, and loading one can run any code"),
    ):
        server.wait_ready(30)


def test_types_that_the_operator_names_are_trusted_and_no_others(tmp_path: Path) -> None:
    made = DecisionTreeClassifier(random_state=0).fit(ROWS, CLASSES)
    skops.io.dump(made, tmp_path / "tree.skops")
    with (
        serve(tmp_path / "tree.skops", wait=None) as server,
        pytest.raises(Unavailable, match=r"trusted-types=sklearn\.tree\._tree\.Tree or, for all"),
    ):
        server.wait_ready(30)
    trusted = {"sklearn": {"trusted-types": "a.B,sklearn.tree._tree.Tree"}}
    with serve(tmp_path / "tree.skops", backend_config=trusted) as server:
        np.testing.assert_array_equal(ask(server, "tree")["output-0"].ravel(), made.predict(X))


def test_trust_is_off_unless_the_flag_is_given() -> None:
    assert not server_options(["x"], choose({})).trust
    assert server_options(["x"], choose({"--trust": True})).trust


def test_a_file_of_an_unknown_kind_is_told_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "model.exe").write_bytes(b"")
    with pytest.raises(InvalidArgument, match=r"a file ending in .onnx or .py or .skops or"):
        serve(tmp_path / "model.exe").__enter__()
