"""scikit-learn: agreement with the library, what is declared, what is trusted, what is refused."""

from __future__ import annotations

import io
import pickle
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nerite.backends.contract import Device
from nerite.backends.sklearn import SklearnBackend
from nerite.errors import InternalError, InvalidArgument, MissingExtra, NeriteError, Unsupported
from nerite.testing import BackendContract, FakeBatch, FakeRequest, model_for

ROWS, CLASSES = load_iris(return_X_y=True)
NAMES = load_iris().target_names
X = ROWS[::15].astype(np.float32)


class Doubler:
    """A type that scikit-learn does not bring."""

    def predict(self, rows: Any) -> Any:
        return rows[:, 0] * 2


def iris(labels: Any = CLASSES) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, labels)


def written(folder: Path, estimator: Any, name: str = "model.skops") -> Path:
    path = folder / "1" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".skops":
        skops.io.dump(estimator, path)
    elif path.suffix == ".joblib":
        joblib.dump(estimator, path)
    else:
        path.write_bytes(pickle.dumps(estimator))
    return folder


def opened(folder: Path, *, trusted: bool = False, threads: int = 1, **fields: Any) -> Any:
    model = model_for(folder, {"backend": "sklearn", **fields}, trusted=trusted)
    backend = SklearnBackend()
    try:
        backend.load(model, Device(threads=threads))
    except BaseException:
        backend.unload()
        raise
    return model, backend


def asked(folder: Path, rows: Any, *, outputs: Any = None, **options: Any) -> dict[str, Any]:
    model, backend = opened(folder, **options)
    names = outputs or [tensor.name for tensor in model.config.outputs]
    name = model.config.inputs[0].name
    try:
        request = FakeRequest({name: rows}, len(rows), requested_outputs=names)
        return backend.execute(FakeBatch([request]))  # type: ignore[no-any-return]
    finally:
        backend.unload()


def declared(model: Any) -> Any:
    tensors = (*model.config.inputs, *model.config.outputs)
    return [(t.name, t.datatype, t.dims, t.reshape) for t in tensors]


class TestContract(BackendContract):
    """Iris with its labels as text; asked for the labels only, as one output."""

    backend = "sklearn"
    config: ClassVar[dict[str, Any]] = {"parameters": {"predict_proba": {"string_value": "false"}}}
    examples: ClassVar[list[Any]] = [
        ({"input-0": X[:1]}, {"output-0": NAMES[CLASSES[::15][:1]].astype(object)}),
        ({"input-0": X[8:10]}, {"output-0": NAMES[CLASSES[::15][8:10]].astype(object)}),
    ]

    @property
    def files(self) -> dict[str, bytes]:  # type: ignore[override]
        return {"model.skops": skops.io.dumps(iris(NAMES[CLASSES]))}


def test_what_a_classifier_takes_and_gives_is_read_off_the_model(tmp_path: Path) -> None:
    model, backend = opened(written(tmp_path / "m", iris()))
    assert declared(model) == [
        ("input-0", "FP32", (4,), None),
        ("output-0", "INT64", (1,), ()),
        ("predict_proba", "FP64", (3,), None),
    ]
    assert (model.config.max_batch_size, model.config.scheduling) == (4096, "dynamic")
    backend.unload()


@pytest.mark.parametrize(
    ("estimator", "data", "datatype"),
    [
        (lambda: iris(), X, "INT64"),
        (lambda: iris(CLASSES + 0.5 - 0.5), X, "FP64"),
        (lambda: iris(NAMES[CLASSES]), X, "BYTES"),
        (lambda: iris(NAMES[CLASSES].astype(object)), X, "BYTES"),
        (lambda: iris(CLASSES == 1), X, "BOOL"),
        (lambda: RandomForestClassifier(5, random_state=0).fit(ROWS, CLASSES), X, "INT64"),
        (lambda: KMeans(3, n_init=1, random_state=0).fit(ROWS.astype("f4")), X, "INT32"),
        (lambda: LinearRegression().fit(*load_diabetes(return_X_y=True)), None, "FP64"),
        (lambda: LinearRegression().fit(ROWS, np.stack([CLASSES, -CLASSES], 1)), X, "FP64"),
        (lambda: StandardScaler().fit(ROWS), X, "FP32"),
    ],
)
def test_answers_are_the_librarys_own(
    estimator: Any, data: Any, datatype: str, tmp_path: Path
) -> None:
    made = estimator()
    rows = load_diabetes().data[:7].astype("f4") if data is None else data
    folder = written(tmp_path / "m", made, "model.joblib")
    model, backend = opened(folder, trusted=True)
    backend.unload()
    assert model.config.outputs[0].datatype == datatype
    got = asked(folder, rows, trusted=True)
    expected = (made.predict if hasattr(made, "predict") else made.transform)(rows)
    assert got["output-0"].shape == expected.shape
    np.testing.assert_array_equal(got["output-0"], expected)
    if hasattr(made, "predict_proba"):
        np.testing.assert_array_equal(got["predict_proba"], made.predict_proba(rows))


def test_a_request_that_names_the_labels_does_not_pay_for_the_probabilities(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", iris())
    assert list(asked(folder, X, outputs=["output-0"])) == ["output-0"]
    assert list(asked(folder, X, outputs=["predict_proba"])) == ["predict_proba"]


def test_probabilities_can_take_the_place_of_the_labels(tmp_path: Path) -> None:
    parameters = {"predict_proba": {"string_value": "true"}}
    got = asked(written(tmp_path / "m", iris()), X, parameters=parameters)
    assert list(got) == ["output-0"]
    np.testing.assert_array_equal(got["output-0"], iris().predict_proba(X))


def test_a_configuration_may_use_its_own_names_and_wider_types(tmp_path: Path) -> None:
    fields = {
        "max_batch_size": 8,
        "input": [{"name": "flowers", "data_type": "TYPE_FP64", "dims": [4]}],
        "output": [
            {"name": "predict", "data_type": "TYPE_FP32", "dims": [1]},
            {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3]},
        ],
    }
    rows = ROWS[:5]
    got = asked(written(tmp_path / "m", iris()), rows, **fields)
    assert got["predict"].tolist() == [[0]] * 5
    assert got["probabilities"].dtype == np.float32
    np.testing.assert_allclose(got["probabilities"], iris().predict_proba(rows), rtol=1e-6)


def test_without_batching_a_single_row_is_a_vector(tmp_path: Path) -> None:
    fields = {
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "y", "data_type": "TYPE_INT64", "dims": [1]}],
    }
    assert asked(written(tmp_path / "m", iris()), X[0], **fields)["y"].tolist() == [0]


def test_a_text_pipeline_takes_strings(tmp_path: Path) -> None:
    texts = ["good film", "bad film", "good book", "bad book"]
    made = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    folder = written(tmp_path / "m", made)
    model, backend = opened(folder)
    backend.unload()
    assert declared(model)[0] == ("input-0", "BYTES", (1,), None)
    rows = np.array([[b"good"], [b"bad bad"]], object)
    assert asked(folder, rows)["output-0"].tolist() == [1, 0]
    with pytest.raises(InvalidArgument, match="a string is not UTF-8"):
        asked(folder, np.array([[b"\xff"]], object))


def test_a_model_trained_on_named_columns_takes_arrays_without_a_warning(tmp_path: Path) -> None:
    made = iris()
    made.steps[0][1].feature_names_in_ = np.array(["a", "b", "c", "d"], object)
    folder = written(tmp_path / "m", made)
    np.testing.assert_array_equal(asked(folder, X)["output-0"], iris().predict(X))


def test_nan_is_refused_where_the_library_refuses_it_and_fails_nobody_else(tmp_path: Path) -> None:
    model, backend = opened(written(tmp_path / "m", iris()))
    names = [tensor.name for tensor in model.config.outputs]
    bad = np.full((1, 4), np.nan, np.float32)
    requests = [FakeRequest({"input-0": rows}, 1, requested_outputs=names) for rows in (X[:1], bad)]
    good, refused = backend.execute(FakeBatch(requests))
    backend.unload()
    np.testing.assert_array_equal(good["output-0"], [0])
    assert str(refused) == "model 'm' refuses its input: Input X contains NaN."
    made = HistGradientBoostingClassifier(max_iter=2).fit(ROWS, CLASSES)
    expected = made.predict(bad)
    got = asked(written(tmp_path / "h", made, "model.pkl"), bad, trusted=True)
    np.testing.assert_array_equal(got["output-0"], expected)


def test_the_librarys_settings_are_as_before_after_unload(tmp_path: Path) -> None:
    before = sklearn.get_config()
    folder = written(tmp_path / "m", iris())
    _, backend = opened(folder)
    assert sklearn.get_config()["assume_finite"]
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(sklearn.get_config()))
    thread.start()
    thread.join()
    backend.unload()
    assert sklearn.get_config() == before
    assert seen == [before]


def test_jobs_of_a_forest_stay_within_the_instances_share(tmp_path: Path) -> None:
    made = RandomForestClassifier(3, n_jobs=-1).fit(ROWS, CLASSES)
    folder = written(tmp_path / "m", made)
    for threads, fields, jobs in [
        (2, {}, 2),
        (2, {"parameters": {"nthread": {"string_value": "1"}}}, 1),
    ]:
        model, backend = opened(folder, threads=threads, trusted=True, **fields)
        forest = model.shared.get("predictor", None).methods["output-0"].__closure__
        found = [c.cell_contents.__self__ for c in forest if hasattr(c.cell_contents, "__self__")]
        assert [one.n_jobs for one in found] == [jobs]
        backend.unload()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("model.joblib", "skops.io.dump(joblib.load('model.joblib'), 'model.skops')"),
        ("model.pkl", "skops convert model.pkl --output-file model.skops"),
        ("model.pickle", "skops convert model.pickle --output-file model.skops"),
    ],
)
def test_a_pickle_is_refused_unopened_unless_trusted(
    name: str, command: str, tmp_path: Path
) -> None:
    folder = written(tmp_path / "m", iris(), name)
    with pytest.raises(Unsupported) as caught:
        opened(folder)
    text = str(caught.value)
    assert text.startswith(f"model 'm': '{name}' is a pickle, and loading one can run any code; ")
    assert command in text
    assert text.endswith("start the server with --trust")
    assert asked(folder, X, trusted=True)["output-0"].tolist() == iris().predict(X).tolist()


def test_the_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (mark,))

    folder = written(tmp_path / "m", Bomb(), "model.pkl")
    with pytest.raises(Unsupported, match="is a pickle"):
        opened(folder)
    assert not mark.exists()
    with pytest.raises(InvalidArgument, match="holds a NoneType, which has neither predict nor"):
        opened(folder, trusted=True)
    assert mark.exists()


def test_unknown_types_in_skops_are_listed_and_refused_unless_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, Doubler.__module__, sys.modules.get(__name__, None) or mine())
    folder = written(tmp_path / "m", Doubler())
    fields = {
        "max_batch_size": 4,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
    }
    with pytest.raises(Unsupported) as caught:
        opened(folder, **fields)
    name = f"{Doubler.__module__}.Doubler"
    assert f"types that skops does not vouch for: {name}; if you trust" in str(caught.value)
    assert f"--backend-config=sklearn,trusted-types={name} or" in str(caught.value)
    got = asked(folder, X, trusted=True, **fields)
    np.testing.assert_array_equal(got["output-0"], X[:, 0] * 2)


def mine() -> Any:
    """This module under its own name: pytest imports it without listing it."""
    import types

    module = types.ModuleType(Doubler.__module__)
    module.Doubler = Doubler  # type: ignore[attr-defined]
    return module


def zipped() -> bytes:
    data = io.BytesIO()
    skops.io.dump(iris(), data)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "kind", "text"),
    [
        (
            "model.skops",
            b"",
            InvalidArgument,
            "'model.skops' cannot be loaded: it is no skops file",
        ),
        ("model.skops", zipped()[:900], InvalidArgument, "'model.skops' cannot be loaded: "),
        ("model.joblib", b"garbage", InvalidArgument, "'model.joblib' cannot be loaded: "),
        ("model.pkl", pickle.dumps({"a": 1}), InvalidArgument, "holds a dict, which has neither"),
        ("model.pkl", pickle.dumps(KMeans), InvalidArgument, "which has neither predict nor"),
        ("model.pkl", pickle.dumps(KMeans()), InvalidArgument, "does not tell how many features"),
        ("model.pkl", b"cnowhere_at_all\nX\n.", Unsupported, "needs the module 'nowhere_at_all'"),
        ("other.txt", b"", InternalError, "needs a file ending in .skops or .joblib or .pkl or"),
    ],
)
def test_a_file_that_is_no_model_says_so(
    name: str, data: bytes, kind: type[NeriteError], text: str, tmp_path: Path
) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1" / name).write_bytes(data)
    with pytest.raises(kind) as caught:
        opened(tmp_path / "m", trusted=True)
    assert "model 'm'" in str(caught.value)
    assert text in str(caught.value)


def field(**changes: Any) -> dict[str, Any]:
    given = {"name": "x", "data_type": "TYPE_FP32", "dims": [4], **changes.pop("input", {})}
    taken = {"name": "y", "data_type": "TYPE_INT64", "dims": [1], **changes.pop("output", {})}
    return {"max_batch_size": 4, "input": [given], "output": [taken], **changes}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            field(input={"dims": [5]}),
            "input 'x' of model 'm' has dims [5]; the model takes rows of 4",
        ),
        (field(input={"data_type": "TYPE_STRING"}), "is TYPE_STRING; the model takes numbers"),
        (field(output={"dims": [3]}), "has dims [3]; the model gives 1 value per row"),
        (field(output={"data_type": "TYPE_STRING"}), "is TYPE_STRING; the model gives TYPE_INT64"),
        (field(output={"name": "predict_proba"}), "is TYPE_INT64; the model gives TYPE_FP64"),
        (
            field(input={"name": "a"})
            | {
                "output": [
                    {"name": "y", "data_type": "TYPE_INT64", "dims": [1]},
                    {"name": "z", "data_type": "TYPE_INT64", "dims": [1]},
                ]
            },
            "output 'y' of model 'm' is none that the model has; one of output-0, predict,",
        ),
        ({"parameters": {"predict_proba": {"string_value": "yes"}}}, "is 'yes'; true or false is"),
        (
            {"parameters": {"nthread": {"string_value": "-1"}}},
            "is '-1'; a whole number is expected",
        ),
    ],
)
def test_a_configuration_that_the_model_cannot_meet_is_refused(
    fields: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        opened(written(tmp_path / "m", iris()), **fields)
    assert text in str(caught.value)


def test_a_row_of_the_wrong_length_is_told_both_numbers(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", iris())
    fields = field(input={"dims": [-1]})
    with pytest.raises(InvalidArgument) as caught:
        asked(folder, X[:, :3], **fields)
    assert str(caught.value) == "model 'm' takes rows of 4 features, input 'x' has 3"


def test_two_files_are_one_too_many_unless_one_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", iris(), "a.joblib")
    written(folder, LinearRegression().fit(ROWS, CLASSES), "b.skops")
    with pytest.raises(InvalidArgument, match=r"more than one model file .*: a.joblib, b.skops;"):
        opened(folder)
    got = asked(folder, X, default_model_filename="b.skops")
    assert got["output-0"].dtype == np.float64


def test_without_skops_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "m", iris())
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(MissingExtra, match=r"run: pip install 'nerite\[sklearn\]'"):
        opened(folder)
