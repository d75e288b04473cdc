# SPDX-License-Identifier: Apache-2.0
"""Which backend runs a model file that lies there by itself, told by its ending.

Three endings are shared: `.bst` is XGBoost's and LightGBM's, `.json` and `.txt` are everybody's.
There the first bytes decide. Nothing is parsed here: whether the file is any good, its backend
says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Ending of a model file -> the backend that runs it.
BACKENDS: Final = {
    ".onnx": "onnxruntime",
    ".py": "python",
    ".skops": "sklearn",
    ".joblib": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".bst": "xgboost",
    ".txt": "lightgbm",
}

#: How every LightGBM model begins.
LIGHTGBM_START: Final = b"tree\n"
_HEAD: Final = 4096


def backend_of(file: Path) -> str:
    """The backend for a file that was named as a model; empty if its ending is unknown."""
    if file.suffix == ".bst" and starts_as_lightgbm(file):
        return "lightgbm"
    return BACKENDS.get(file.suffix, "")


def looks_like_model(file: Path) -> bool:
    """Whether a file found in a folder is meant as a model, and not there for another reason."""
    if file.suffix == ".py":
        return file.name == "model.py"
    if file.suffix == ".txt":
        return starts_as_lightgbm(file)
    if file.suffix == ".json":
        head = _head(file).lstrip()
        return head.startswith(b"{") and b'"learner"' in head
    return file.suffix in BACKENDS


def starts_as_lightgbm(file: Path) -> bool:
    """Whether a file begins as LightGBM's text models do, on any system."""
    return _head(file).replace(b"\r\n", b"\n").startswith(LIGHTGBM_START)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError:
        return b""
