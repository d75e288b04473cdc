# SPDX-License-Identifier: Apache-2.0
"""Run LightGBM models (`.txt`, `.bst`: both are its text format) with LightGBM on the CPU.

Answers are `Booster.predict`'s, as KServe's are. Names: see `tabular_signature`.
LightGBM ends the process when it reads past the end of a cut-off file; therefore the extent of
every tree is checked against the file's own table before the library sees it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from nerite.backends.contract import Model
from nerite.backends.lean_imports import lean_imports
from nerite.backends.tabular import OUTPUT, Predictor, TabularBackend, first_line
from nerite.config.model_files import LIGHTGBM_START
from nerite.errors import InvalidArgument


def require() -> None:
    """Imports the package, so that a missing one is known before a model needs it."""
    with lean_imports():
        import lightgbm  # noqa: F401


class LightGbmBackend(TabularBackend):
    """One instance of a LightGBM model; all instances of a version use one booster."""

    endings: ClassVar[tuple[str, ...]] = (".txt", ".bst")

    @classmethod
    def open(cls, model: Model, file: Path) -> Predictor:
        """Reads the booster."""
        import lightgbm

        data = file.read_bytes().replace(b"\r\n", b"\n")
        fault = _fault(data)
        if fault:
            raise _refusal(model, file, fault)
        try:
            booster = lightgbm.Booster(model_str=data.decode())
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as why:
            raise _refusal(model, file, first_line(why)) from why
        threads = 1

        def set_threads(count: int) -> None:
            nonlocal threads
            threads = count

        def predict(rows: Any) -> Any:
            return booster.predict(rows, num_threads=threads)

        return Predictor({OUTPUT: predict}, booster.num_feature(), set_threads=set_threads)


def _fault(data: bytes) -> str:
    """What is wrong with the outline of a model; empty if every tree is where it should be."""
    if not data.startswith(LIGHTGBM_START):
        return "it does not begin with 'tree'"
    start = data.find(b"\nTree=0\n") + 1
    header = data[:start] if start else data
    line = next((row for row in header.split(b"\n") if row.startswith(b"tree_sizes=")), None)
    if line is None:
        return "" if b"\nend of trees" in data else "it is cut off"
    try:
        sizes = [int(size) for size in line.partition(b"=")[2].split()]
    except ValueError:
        return "the line 'tree_sizes' is not a list of numbers"
    at = start
    for index, size in enumerate(sizes):
        if not data.startswith(b"Tree=%d\n" % index, at):
            return f"tree {index} of {len(sizes)} is not where the file says (a cut-off file?)"
        at += size
    return "" if data.startswith(b"end of trees", at) else "it is cut off after its last tree"


def _refusal(model: Model, file: Path, cause: str) -> InvalidArgument:
    return InvalidArgument(
        f"model '{model.name}': '{file.name}' is not a model that LightGBM can read: {cause}; "
        "save it with Booster.save_model"
    )
