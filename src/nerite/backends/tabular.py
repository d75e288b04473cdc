# SPDX-License-Identifier: Apache-2.0
"""What models that take rows of numbers have in common: sklearn, xgboost and lightgbm.

A library's own part is to open a file as a `Predictor`. Here is the rest: find the file, and run
one call per batch. What is declared, and held against what was written, is in `tabular_signature`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nerite.backends.contract import Batch, Device, Executed, Model, require_cpu
from nerite.backends.tabular_signature import (
    INPUT,
    OUTPUT,
    PROBABILITIES,
    Predictor,
    agree,
    as_texts,
    complete,
    first_line,
    number,
    plain,
    setting,
)
from nerite.errors import InternalError, InvalidArgument
from nerite.tensors import dtype_of

if TYPE_CHECKING:
    from nerite.config.model import ModelConfig
    from nerite.config.parts import TensorSpec
    from nerite.tensors import Array

__all__ = ["OUTPUT", "PROBABILITIES", "Predictor", "TabularBackend", "first_line", "setting"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one output is made."""

    name: str
    call: Callable[[Any], Any]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class TabularBackend(ABC):
    """One instance of a model that takes rows; `open` is what a library adds."""

    endings: ClassVar[tuple[str, ...]]
    """Endings of the files that `open` takes, the best one first."""

    def __init__(self) -> None:
        self._name = ""
        self._input = INPUT
        self._features: int | None = None
        self._text = False
        self._batches = False
        self._plans: list[_Plan] = []

    @classmethod
    @abstractmethod
    def open(cls, model: Model, file: Path) -> Predictor:
        """Opens the file; what it raises says what is wrong with it."""

    def enter(self, threads: int) -> None:  # noqa: B027 - there may be nothing to prepare
        """Prepares the instance's thread."""

    def leave(self) -> None:  # noqa: B027
        """Undoes `enter`, on the same thread."""

    @classmethod
    def complete(cls, model: Model) -> ModelConfig:
        """The configuration with the tensors and the batching that the model allows."""
        return complete(model, lambda: _predictor(cls, model))

    def load(self, model: Model, device: Device) -> None:
        """Opens the file and holds the configuration against the model."""
        require_cpu(model, device)
        predictor = _predictor(type(self), model)
        threads = thread_count(model, device)
        self._name, self._batches = model.name, model.config.max_batch_size > 0
        self._features, self._text = predictor.features, predictor.text
        meanings = agree(model, predictor)
        self._input = model.config.inputs[0].name
        self._plans = [
            _plan(tensor, predictor.methods[meanings[tensor.name]])
            for tensor in model.config.outputs
        ]
        predictor.set_threads(threads)
        self.enter(threads)

    def execute(self, batch: Batch) -> Executed:
        """One call for the whole batch; if it is refused, one per request, to spare the others."""
        plans = self._plans
        if len(plans) > 1:
            wanted = batch.requested_outputs
            plans = [plan for plan in plans if plan.name in wanted]
        try:
            return self._answer(batch.inputs[self._input], plans)
        except InvalidArgument:
            if len(batch) == 1:
                raise
        return [self._alone(request.inputs[self._input], plans) for request in batch.requests]

    def unload(self) -> None:
        """Lets go of the model; the last instance's goes away with the version."""
        self._plans = []
        self.leave()

    def _alone(self, rows: Array, plans: list[_Plan]) -> dict[str, Array] | InvalidArgument:
        try:
            return self._answer(rows, plans)
        except InvalidArgument as why:
            return why

    def _answer(self, array: Array, plans: list[_Plan]) -> dict[str, Array]:
        rows = self._rows(array)
        count = len(rows)
        outputs = {}
        for plan in plans:
            try:
                result = plain(plan.call(rows))
            except (ValueError, TypeError) as why:
                raise InvalidArgument(
                    f"model '{self._name}' refuses its input: {first_line(why)}"
                ) from why
            if plan.dtype not in (result.dtype, object):
                result = result.astype(plan.dtype)
            shape = (count, *plan.shape) if self._batches else plan.shape
            outputs[plan.name] = result if result.ndim == len(shape) else result.reshape(shape)
        return outputs

    def _rows(self, array: Array) -> Any:
        if self._text:
            return as_texts(array)
        rows = array if array.ndim == 2 else array.reshape(len(array) if self._batches else 1, -1)
        if self._features is not None and rows.shape[1] != self._features:
            raise InvalidArgument(
                f"model '{self._name}' takes rows of {self._features} features, "
                f"input '{self._input}' has {rows.shape[1]}"
            )
        return rows


def find_file(model: Model, endings: tuple[str, ...]) -> Path:
    """The model's file: the one that the configuration names, or the only one of its kind.

    Raises:
        InternalError: There is none.
        InvalidArgument: There are several, and nothing says which.
    """
    if model.config.default_model_filename and model.file.is_file():
        return model.file
    folder = model.version_folder
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [entry for entry in entries if entry.suffix in endings and entry.is_file()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InternalError(
            f"failed to stat file {model.file}; model '{model.name}' needs a file ending in "
            f"{' or '.join(endings)} in its version folder"
        )
    names = ", ".join(entry.name for entry in found)
    raise InvalidArgument(
        f"more than one model file is in the version folder of model '{model.name}': {names}; "
        "keep one, or name it in 'default_model_filename'"
    )


def thread_count(model: Model, device: Device) -> int:
    """Threads of one call: the parameter `nthread` (or `n_jobs`), else the instance's share."""
    return number(model, "nthread", 0) or number(model, "n_jobs", 0) or max(1, device.threads)


def _predictor(kind: type[TabularBackend], model: Model) -> Predictor:
    return model.shared.get("predictor", lambda: kind.open(model, find_file(model, kind.endings)))


def _plan(tensor: TensorSpec, call: Callable[[Any], Any]) -> _Plan:
    shape = tensor.dims if tensor.reshape is None else tensor.reshape
    return _Plan(tensor.name, call, dtype_of(tensor.datatype), tuple(shape))
