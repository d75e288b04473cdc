# SPDX-License-Identifier: Apache-2.0
"""Run scikit-learn estimators and pipelines, from skops files and, if trusted, from pickles.

Loading a pickle (`.joblib`, `.pkl`, `.pickle`) runs whatever code its author put in, so it is
refused unless the server was started with `--trust`; a skops file holds types and arrays, and is
refused only if it holds types that skops does not vouch for: those of other packages, and node
tables of trees, which cannot run code but whose indices scikit-learn does not check.

`output-0` is `predict` (or `transform`, for what cannot predict): class labels come as INT64, FP64
or BYTES, as the model's classes are. Classifiers also have `predict_proba`; with the parameter
`predict_proba: "true"` `output-0` is that, as KServe's PREDICT_PROBA does. Names: see
`tabular_signature`.

Of a small model's time half is scikit-learn looking at its arguments. Parameters were checked by
`fit`; whether numbers are finite is looked at once per batch, and only a batch with NaN or infinity
in it goes through scikit-learn's own checks, which know whether the model takes them.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nerite.backends.contract import Model
from nerite.backends.lean_imports import lean_imports
from nerite.backends.tabular import (
    OUTPUT,
    PROBABILITIES,
    Predictor,
    TabularBackend,
    first_line,
    setting,
)
from nerite.errors import InvalidArgument, MissingExtra, NeriteError, Unsupported


def require() -> None:
    """Imports the package, so that a missing one is known before a model needs it."""
    with lean_imports():
        import sklearn  # noqa: F401


class SklearnBackend(TabularBackend):
    """One instance of an estimator; all instances of a version use one object."""

    endings: ClassVar[tuple[str, ...]] = (".skops", ".joblib", ".pkl", ".pickle")

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, bool] | None = None
        self._limits: Any = None

    @classmethod
    def open(cls, model: Model, file: Path) -> Predictor:
        """Loads the estimator and finds out what it can be asked."""
        # Rows come as arrays, whose columns have no names; that the model has some is no news.
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        estimator = _load_skops(model, file) if file.suffix == ".skops" else _unpickle(model, file)
        methods = _methods(model, file, estimator)
        features = getattr(estimator, "n_features_in_", None)
        return Predictor(
            methods,
            None if features is None else int(features),
            _declared(model, methods),
            _takes_text(estimator),
            lambda threads: _limit_jobs(estimator, threads),
        )

    def enter(self, threads: int) -> None:
        """Both settings are of this thread only: scikit-learn's, and OpenMP's number of threads."""
        import sklearn
        import threadpoolctl

        found = sklearn.get_config()
        names = ("assume_finite", "skip_parameter_validation")
        self._before = {name: found[name] for name in names}
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
        self._limits = threadpoolctl.threadpool_limits(threads, user_api="openmp")

    def leave(self) -> None:
        """Puts the thread's settings back."""
        if self._limits is not None:
            self._limits.restore_original_limits()
            self._limits = None
        if self._before is not None:
            import sklearn

            sklearn.set_config(**self._before)
            self._before = None


def _load_skops(model: Model, file: Path) -> Any:
    try:
        import skops.io
    except ModuleNotFoundError as why:
        raise MissingExtra(f"model '{model.name}' ({file.name})", "skops", "sklearn") from why
    try:
        types = skops.io.get_untrusted_types(file=file)
        _refuse_types(model, file, types)
        return skops.io.load(file, trusted=types)
    except (NeriteError, OSError):
        raise
    except zipfile.BadZipFile as why:
        raise _unreadable(model, file, "it is no skops file") from why
    except Exception as why:
        raise _unreadable(model, file, f"{type(why).__name__}: {first_line(why)}") from why


def _refuse_types(model: Model, file: Path, types: list[str]) -> None:
    """Refuses types that neither skops nor the operator trusts; the model itself has no say."""
    trusted = set(model.settings.get("trusted-types", "").split(","))
    unknown = [name for name in types if name not in trusted]
    if unknown and not model.trusted:
        named = ",".join(unknown)
        raise Unsupported(
            f"model '{model.name}': '{file.name}' holds types that skops does not vouch for: "
            f"{named}; if you trust whoever wrote the file, start the server with "
            f"--backend-config=sklearn,trusted-types={named} or, for all files, with --trust"
        )


def _unpickle(model: Model, file: Path) -> Any:
    if not model.trusted:
        raise Unsupported(
            f"model '{model.name}': '{file.name}' is a pickle, and loading one can run any code; "
            "either convert it where it was made, to a format that cannot: "
            f"{_conversion(file.name)}; or, if you trust whoever wrote it, start the server with "
            "--trust"
        )
    import joblib

    try:
        return joblib.load(file)
    except ModuleNotFoundError as why:
        raise Unsupported(
            f"model '{model.name}': '{file.name}' needs the module '{why.name}', which is not "
            "installed; install the package that brings it"
        ) from why
    except OSError:
        raise
    except Exception as why:
        raise _unreadable(model, file, f"{type(why).__name__}: {first_line(why)}") from why


def _conversion(name: str) -> str:
    """The command that turns a pickle into a skops file."""
    target = f"{Path(name).stem}.skops"
    if Path(name).suffix != ".joblib":
        return f"skops convert {name} --output-file {target}"
    return (
        f"python -c \"import joblib, skops.io; skops.io.dump(joblib.load('{name}'), '{target}')\""
    )


def _unreadable(model: Model, file: Path, cause: str) -> InvalidArgument:
    return InvalidArgument(f"model '{model.name}': '{file.name}' cannot be loaded: {cause}")


def _methods(model: Model, file: Path, estimator: Any) -> dict[str, Callable[[Any], Any]]:
    main = getattr(estimator, "predict", None) or getattr(estimator, "transform", None)
    if not callable(main) or isinstance(estimator, type):
        raise InvalidArgument(
            f"model '{model.name}': '{file.name}' holds a {type(estimator).__name__}, which has "
            "neither predict nor transform; save the fitted estimator itself"
        )
    methods = {OUTPUT: _checked(main)}
    probabilities = getattr(estimator, "predict_proba", None)
    # Several targets at once have a list of arrays, which is not one tensor.
    if callable(probabilities) and not isinstance(getattr(estimator, "classes_", None), list):
        methods[PROBABILITIES] = _checked(probabilities)
    if setting(model, "predict_proba", "") == "true" and PROBABILITIES in methods:
        methods[OUTPUT] = methods[PROBABILITIES]
    return methods


def _declared(model: Model, methods: dict[str, Any]) -> tuple[str, ...]:
    """Both methods, unless the parameter says that one of them is what is wanted."""
    chosen = setting(model, "predict_proba", "")
    if chosen not in ("", "true", "false"):
        raise InvalidArgument(
            f"parameter 'predict_proba' of model '{model.name}' is '{chosen}'; "
            "true or false is expected"
        )
    return (OUTPUT,) if chosen else tuple(methods)


def _checked(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The method, with scikit-learn's check for finite numbers where there is something to find."""
    import sklearn

    def call(rows: Any) -> Any:
        if isinstance(rows, np.ndarray) and rows.dtype.kind == "f" and not np.isfinite(rows).all():
            with sklearn.config_context(assume_finite=False):
                return method(rows)
        return method(rows)

    return call


def _takes_text(estimator: Any) -> bool:
    """Whether the first step is a vectorizer of texts."""
    steps = getattr(estimator, "steps", None)
    first = steps[0][1] if steps else estimator
    return hasattr(first, "build_analyzer")


def _limit_jobs(estimator: Any, threads: int) -> None:
    """Lets steps that were told to use many jobs use no more than the instance's share."""
    get_params = getattr(estimator, "get_params", None)
    if get_params is None:
        return
    for name, jobs in get_params(deep=True).items():
        many = isinstance(jobs, int) and (jobs < 0 or jobs > threads)
        if (name == "n_jobs" or name.endswith("__n_jobs")) and many:
            estimator.set_params(**{name: threads})
