"""XGBoost and LightGBM: agreement with the libraries, what is declared, what is refused."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from nerite.backends import registry
from nerite.backends.contract import Device
from nerite.backends.ubj import is_whole
from nerite.errors import InvalidArgument, MissingExtra
from nerite.testing import BackendContract, batch_of, model_for

IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
X = IRIS[0][::15].astype(np.float32)


@cache
def xgb(objective: str, **more: Any) -> Any:
    rows, target = {"multi:softprob": IRIS, "binary:logistic": CANCER}.get(objective, DIABETES)
    options = {"objective": objective, "nthread": 1, "max_depth": 3, **more}
    return xgboost.train(options, xgboost.DMatrix(rows, target), 5)


@cache
def lgb(objective: str, **more: Any) -> Any:
    rows, target = {"multiclass": IRIS, "binary": CANCER}.get(objective, DIABETES)
    options = {"objective": objective, "num_threads": 1, "verbosity": -1, **more}
    return lightgbm.train(options, lightgbm.Dataset(rows, target), 5)


def saved(folder: Path, booster: Any, name: str) -> Path:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    path = folder / "1" / name
    if isinstance(booster, bytes):
        path.write_bytes(booster)
    elif isinstance(booster, xgboost.Booster):
        path.write_bytes(bytes(booster.save_raw("json" if path.suffix == ".json" else "ubj")))
    else:
        booster.save_model(path)
    return folder


def opened(folder: Path, kind: str, threads: int = 1, **fields: Any) -> Any:
    model = model_for(folder, {"backend": kind, **fields})
    backend = registry.find(kind)()
    backend.load(model, Device(threads=threads))
    return model, backend


def softprob(rows: Any) -> Any:
    return xgb("multi:softprob", num_class=3).predict(xgboost.DMatrix(rows))


class TestXgboost(BackendContract):
    backend = "xgboost"
    config: ClassVar[dict[str, Any]] = {}
    examples: ClassVar[list[Any]] = [
        ({"input-0": rows}, {"output-0": softprob(rows)}) for rows in (X[:1], X[3:6])
    ]

    @property
    def files(self) -> dict[str, bytes]:  # type: ignore[override]
        return {"model.ubj": bytes(xgb("multi:softprob", num_class=3).save_raw("ubj"))}


class TestLightGbm(BackendContract):
    backend = "lightgbm"
    config: ClassVar[dict[str, Any]] = {}
    examples: ClassVar[list[Any]] = [
        ({"input-0": rows}, {"output-0": lgb("multiclass", num_class=3).predict(rows)})
        for rows in (X[:1], X[3:6])
    ]

    @property
    def files(self) -> dict[str, bytes]:  # type: ignore[override]
        return {"model.txt": lgb("multiclass", num_class=3).model_to_string().encode()}


@pytest.mark.parametrize(
    ("booster", "name", "data", "features", "output"),
    [
        (lambda: xgb("multi:softprob", num_class=3), "model.json", IRIS, 4, ("FP32", (3,), None)),
        (lambda: xgb("binary:logistic"), "model.bst", CANCER, 30, ("FP32", (1,), ())),
        (lambda: xgb("reg:squarederror"), "model.ubj", DIABETES, 10, ("FP32", (1,), ())),
        (
            lambda: xgb("reg:absoluteerror", booster="gblinear", max_depth=0),
            "model.ubj",
            DIABETES,
            10,
            ("FP32", (1,), ()),
        ),
        (lambda: lgb("multiclass", num_class=3), "model.bst", IRIS, 4, ("FP64", (3,), None)),
        (lambda: lgb("binary"), "model.txt", CANCER, 30, ("FP64", (1,), ())),
        (lambda: lgb("regression"), "iris_v3.txt", DIABETES, 10, ("FP64", (1,), ())),
    ],
)
def test_answers_are_the_librarys_own(
    booster: Any, name: str, data: Any, features: int, output: Any, tmp_path: Path
) -> None:
    made = booster()
    is_xgboost = isinstance(made, xgboost.Booster)
    folder = saved(tmp_path / "m", made, name)
    model, backend = opened(folder, "xgboost" if is_xgboost else "lightgbm")
    (given,), (taken,) = model.config.inputs, model.config.outputs
    assert (given.name, given.datatype, given.dims) == ("input-0", "FP32", (features,))
    assert (taken.name, (taken.datatype, taken.dims, taken.reshape)) == ("output-0", output)
    assert (model.config.max_batch_size, model.config.scheduling) == (4096, "dynamic")
    rows = data[0][:9].astype(np.float32)
    if model.config.default_model_filename != "iris_v3.txt":
        rows[0, 0] = np.nan  # missing, for both
    (got,) = [backend.execute(batch_of({"input-0": rows}))["output-0"]]
    expected = made.predict(xgboost.DMatrix(rows) if is_xgboost else rows)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert len(np.unique(got)) > 1
    backend.unload()


def test_two_instances_share_a_booster_and_threads_follow_the_parameter(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", xgb("reg:squarederror"), "model.ubj")
    parameters = {"nthread": {"string_value": "3"}}
    model = model_for(folder, {"backend": "xgboost", "parameters": parameters})
    first, second = (registry.find("xgboost")() for _ in range(2))
    first.load(model, Device(threads=1))
    predictor = model.shared.get("predictor", None)  # type: ignore[arg-type]
    second.load(model, Device(threads=1))
    assert model.shared.get("predictor", None) is predictor  # type: ignore[arg-type]
    cells = [cell.cell_contents for cell in predictor.set_threads.__closure__]
    (booster,) = [cell for cell in cells if isinstance(cell, xgboost.Booster)]
    assert '"nthread":"3"' in booster.save_config().replace(" ", "")


def lightgbm_bytes() -> bytes:
    return lgb("multiclass", num_class=3).model_to_string().encode()


@pytest.mark.parametrize(
    ("kind", "name", "data", "text"),
    [
        ("xgboost", "model.ubj", b"", "'model.ubj' is not a model that XGBoost can read: "),
        ("xgboost", "model.json", b'{"a": 1}', "'model.json' is not a model that XGBoost can read"),
        ("xgboost", "model.ubj", b"{L\0\0\0\0\0\0\0\7learner{L", "is not a model that XGBoost can"),
        ("xgboost", "model.bst", b"binf\0\0", "save it with Booster.save_model as .ubj or .json"),
        ("lightgbm", "model.txt", b"", "it does not begin with 'tree'"),
        ("lightgbm", "model.txt", b"hello", "it does not begin with 'tree'"),
        ("lightgbm", "model.txt", b"tree\nversion=v4\n", "it is cut off"),
    ],
)
def test_a_file_that_is_no_model_says_so(
    kind: str, name: str, data: bytes, text: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        opened(saved(tmp_path / "m", data, name), kind)
    assert "model 'm'" in str(caught.value)
    assert text in str(caught.value)
    assert "Stack trace" not in str(caught.value)


def test_a_cut_off_ubj_file_is_refused_and_does_not_end_the_process(tmp_path: Path) -> None:
    # XGBoost 3.2 crashes on every tenth length or so.
    data = bytes(xgb("multi:softprob", num_class=3).save_raw("ubj"))
    assert is_whole(data)
    assert not any(is_whole(data[:length]) for length in range(0, len(data), 7))
    assert not is_whole(data + b" ")
    with pytest.raises(InvalidArgument, match="it is not a whole UBJ file"):
        opened(saved(tmp_path / "m", data[:2143], "model.ubj"), "xgboost")


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7])
def test_a_cut_off_lightgbm_file_is_refused_and_does_not_end_the_process(
    part: float, tmp_path: Path
) -> None:
    # LightGBM 4.7 aborts on all of these.
    data = lightgbm_bytes()
    end = data.index(b"end of trees")
    with pytest.raises(InvalidArgument, match=r"not where the file says|cut off"):
        opened(saved(tmp_path / "m", data[: int(end * part)], "model.txt"), "lightgbm")


def test_a_lightgbm_file_with_windows_line_ends_is_read(tmp_path: Path) -> None:
    data = lightgbm_bytes().replace(b"\n", b"\r\n")
    _, backend = opened(saved(tmp_path / "m", data, "model.txt"), "lightgbm")
    got = backend.execute(batch_of({"input-0": X}))["output-0"]
    np.testing.assert_allclose(got, lgb("multiclass", num_class=3).predict(X))


@pytest.mark.parametrize("package", ["xgboost", "lightgbm", "sklearn"])
def test_a_missing_package_names_the_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as caught:
        registry.find(package)
    assert f"run: pip install 'nerite[{package}]'" in str(caught.value)


def test_loading_warns_of_nothing(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", xgb("reg:squarederror"), "model.bst")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        opened(folder, "xgboost")
    assert [str(one.message) for one in seen] == []
