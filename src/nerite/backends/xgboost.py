# SPDX-License-Identifier: Apache-2.0
"""Run XGBoost models (`.ubj`, `.json`, `.bst`) with XGBoost on the CPU.

Answers are `Booster.predict`'s, as KServe's are: probabilities for `binary:logistic` and
`multi:softprob`, values for regression. A NaN is a missing value. Names: see `tabular_signature`.
`xgboost-cpu` and `xgboost` are the same module; the former comes without 0.5 GB for GPUs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from nerite.backends.contract import Model
from nerite.backends.lean_imports import lean_imports
from nerite.backends.tabular import OUTPUT, Predictor, TabularBackend
from nerite.backends.ubj import is_whole
from nerite.errors import InvalidArgument

#: `[12:30:01] /where/it/was.cc:12: ` before what XGBoost has to say, and a stack trace after it.
_NOISE = re.compile(r"^\[[\d:]+\] \S+: (Check failed: [^:]*: )?")


def require() -> None:
    """Imports the package, so that a missing one is known before a model needs it."""
    with lean_imports():
        import xgboost  # noqa: F401


class XgboostBackend(TabularBackend):
    """One instance of an XGBoost model; all instances of a version use one booster."""

    endings: ClassVar[tuple[str, ...]] = (".ubj", ".json", ".bst")

    @classmethod
    def open(cls, model: Model, file: Path) -> Predictor:
        """Reads the booster; from memory, where XGBoost tells JSON and UBJ apart by themselves."""
        import xgboost

        booster = xgboost.Booster(params={"nthread": 1, "verbosity": 0})
        data = file.read_bytes()
        fault = _fault(data)
        if fault:
            raise _refusal(model, file, fault)
        try:
            booster.load_model(bytearray(data))
            features = booster.num_features()
        except xgboost.core.XGBoostError as why:
            raise _refusal(model, file, _cause(why)) from why

        def set_threads(threads: int) -> None:
            booster.set_param({"nthread": threads})

        return Predictor({OUTPUT: _call(xgboost, booster)}, features, set_threads=set_threads)


def _call(xgboost: Any, booster: Any) -> Callable[[Any], Any]:
    """The cheapest way to predict: without a copy into a `DMatrix` where the model allows it."""

    def in_place(rows: Any) -> Any:
        return booster.inplace_predict(rows, validate_features=False)

    def linear(rows: Any) -> Any:
        return booster.predict(xgboost.DMatrix(rows), validate_features=False)

    kind = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
    return linear if kind == "gblinear" else in_place


def _fault(data: bytes) -> str:
    """What is wrong with the outline; XGBoost would end the process over some of it."""
    if data.startswith(b"binf"):
        return "it is in the binary format of before XGBoost 2"
    if not data.startswith(b"{"):
        return "it begins neither as JSON nor as UBJ"
    is_json = data[1:].lstrip()[:1] in (b'"', b"")
    return "" if is_json or is_whole(data) else "it is not a whole UBJ file"


def _refusal(model: Model, file: Path, cause: str) -> InvalidArgument:
    return InvalidArgument(
        f"model '{model.name}': '{file.name}' is not a model that XGBoost can read: {cause}; "
        "save it with Booster.save_model as .ubj or .json"
    )


def _cause(why: Exception) -> str:
    text = _NOISE.sub("", str(why).partition("Stack trace")[0])
    return " ".join(text.split()).rstrip(".")
