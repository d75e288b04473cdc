# SPDX-License-Identifier: Apache-2.0
"""The tensors of a model that takes rows: declared for it, and held against what was written.

Names. Auto-complete declares the input `input-0` and the outputs `output-0` and, for classifiers,
`predict_proba`, because KServe's clients send and read `input-0` and `output-0`. A configuration
may use any name for the input; an output called `output-0`, `predict` (MLServer) or `output__0`
(FIL) is the prediction, `predict_proba` or `probabilities` are the probabilities, and a single
output may be called anything. As everywhere in the protocol, a request that names no output gets
all of them; one that names `output-0` does not pay for the probabilities. Numbers are FP32 unless
the configuration declares the input otherwise.

A configuration that declares no tensors is completed with `accept_as_kserve`, too: then the data
plane takes what KServe's own servers take (any name for the only input, any type of number, any
count of rows) and answers one value per row as one dimension. With tensors of its own a model is as
strict as any, unless it has that parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nerite.backends.contract import Model
from nerite.errors import InvalidArgument
from nerite.tensors import config_name, datatype_of, dtype_of, object_array, shape_text

if TYPE_CHECKING:
    from nerite.config.model import ModelConfig
    from nerite.config.parts import TensorSpec
    from nerite.tensors import Array

INPUT: Final = "input-0"
OUTPUT: Final = "output-0"
PROBABILITIES: Final = "predict_proba"
#: The parameter that has the data plane accept what KServe's servers accept.
AS_KSERVE: Final = "accept_as_kserve"
#: Output names with a meaning -> the method that answers them.
MEANINGS: Final[Mapping[str, str]] = {
    OUTPUT: OUTPUT,
    "predict": OUTPUT,
    "output__0": OUTPUT,
    PROBABILITIES: PROBABILITIES,
    "probabilities": PROBABILITIES,
}


@dataclass(slots=True)
class Predictor:
    """A model that was opened: what it takes, and what can be asked of it."""

    methods: Mapping[str, Callable[[Any], Any]]
    """`OUTPUT`, and `PROBABILITIES` where there are any -> rows -> results."""
    features: int | None
    """Columns of a row; None if the model does not tell."""
    declared: tuple[str, ...] = (OUTPUT,)
    """The methods that auto-complete declares as outputs."""
    text: bool = False
    """Whether a row is one text instead of numbers."""
    set_threads: Callable[[int], None] = lambda threads: None
    """Told how many threads a call may use, before the first one."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a method answers: its type, and the shape of one row of it."""

    datatype: str
    row: tuple[int, ...]


def complete(model: Model, opened: Callable[[], Predictor]) -> ModelConfig:
    """The configuration with the tensors and the batching that the model allows."""
    config = model.config
    if config.inputs and config.outputs:
        return config
    predictor = opened()
    fields: dict[str, Any] = {}
    size = config.max_batch_size
    if not size and not config.inputs:
        size = number(model, "default-max-batch-size", 0)
        fields["max_batch_size"] = size
    if size > 1 and config.scheduling == "default":
        fields["dynamic_batching"] = {}
    if not config.inputs:
        fields["input"] = [_declared_input(model, predictor, size > 0)]
    if not config.inputs and not config.outputs and AS_KSERVE not in config.parameters:
        parameters = {**config.parameters, AS_KSERVE: "true"}
        fields["parameters"] = {key: {"string_value": text} for key, text in parameters.items()}
    if not config.outputs:
        results = _probe(model, predictor, predictor.declared)
        fields["output"] = [_declare(n, r, size > 0) for n, r in results.items()]
    return config.with_fields(**fields)


def agree(model: Model, predictor: Predictor) -> dict[str, str]:
    """Output name -> method that answers it; refuses a configuration that the model cannot meet."""
    _agree_input(model, predictor)
    meanings = {t.name: _meaning(model, predictor, t) for t in model.config.outputs}
    results = _probe(model, predictor, tuple(dict.fromkeys(meanings.values())))
    for tensor in model.config.outputs:
        _agree_output(model, tensor, results[meanings[tensor.name]])
    return meanings


def number(model: Model, key: str, default: int) -> int:
    """A whole number of the model's parameters, or else of the backend's settings."""
    text = setting(model, key, str(default))
    if not (text.isascii() and text.isdigit()):
        raise InvalidArgument(
            f"parameter '{key}' of model '{model.name}' is '{text}'; a whole number is expected"
        )
    return int(text)


def setting(model: Model, key: str, default: str) -> str:
    """A text of the model's parameters, or else of the backend's settings."""
    return model.parameter(key) or model.settings.get(key, "") or default


def plain(result: Any) -> Array:
    """A library's answer as an array that can be a tensor."""
    dense = result.toarray() if hasattr(result, "toarray") else result
    array = np.asarray(dense)
    if array.dtype == object and array.size and not isinstance(array.flat[0], str | bytes):
        array = np.asarray(array.tolist())
    return array


def as_texts(array: Array) -> list[str]:
    """The strings of a BYTES tensor as text."""
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in array.flat]
    except UnicodeDecodeError as why:
        raise InvalidArgument(f"a string is not UTF-8: {why}") from why


def first_line(why: BaseException) -> str:
    """What an exception says, without the page of advice that some append."""
    return str(why).strip().partition("\n")[0] or type(why).__name__


def _declared_input(model: Model, predictor: Predictor, batches: bool) -> dict[str, Any]:
    if predictor.text:
        return {"name": INPUT, "data_type": "TYPE_STRING", "dims": [1] if batches else [-1]}
    if not predictor.features:
        raise InvalidArgument(
            f"model '{model.name}' does not tell how many features a row has; "
            "write its 'input' into the configuration"
        )
    dims = [predictor.features] if batches else [-1, predictor.features]
    return {"name": INPUT, "data_type": "TYPE_FP32", "dims": dims}


def _declare(name: str, result: Result, batches: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "data_type": config_name(result.datatype)}
    if not batches:
        return {**entry, "dims": [-1, *result.row]}
    if not result.row:  # one value per row: the protocol has no empty dims
        return {**entry, "dims": [1], "reshape": {"shape": []}}
    return {**entry, "dims": list(result.row)}


def _agree_input(model: Model, predictor: Predictor) -> None:
    config = model.config
    if len(config.inputs) != 1:
        raise InvalidArgument(
            f"model '{model.name}' takes one input of {predictor.features or 'some'} features, "
            f"its configuration has {len(config.inputs)} inputs"
        )
    tensor = config.inputs[0]
    if (tensor.datatype == "BYTES") != predictor.text or tensor.datatype == "BF16":
        raise InvalidArgument(
            f"input '{tensor.name}' of model '{model.name}' is {config_name(tensor.datatype)}; "
            f"the model takes {'text (TYPE_STRING)' if predictor.text else 'numbers'}"
        )
    columns = tensor.dims[-1]
    if (
        not predictor.text
        and predictor.features is not None
        and columns
        not in (
            -1,
            predictor.features,
        )
    ):
        raise InvalidArgument(
            f"input '{tensor.name}' of model '{model.name}' has dims "
            f"{shape_text(tensor.dims)}; the model takes rows of {predictor.features} features"
        )


def _meaning(model: Model, predictor: Predictor, tensor: TensorSpec) -> str:
    only = len(model.config.outputs) == 1
    method = MEANINGS.get(tensor.name, OUTPUT if only else "")
    if method in predictor.methods:
        return method
    accepted = [name for name, meaning in MEANINGS.items() if meaning in predictor.methods]
    raise InvalidArgument(
        f"output '{tensor.name}' of model '{model.name}' is none that the model has; "
        f"one of {', '.join(accepted)} is"
    )


def _agree_output(model: Model, tensor: TensorSpec, result: Result) -> None:
    text = f"output '{tensor.name}' of model '{model.name}'"
    given, wanted = dtype_of(result.datatype), dtype_of(tensor.datatype)
    text_or_not = (result.datatype == "BYTES") == (tensor.datatype == "BYTES")
    if not text_or_not or tensor.datatype == "BF16" or not np.can_cast(given, wanted, "same_kind"):
        raise InvalidArgument(
            f"{text} is {config_name(tensor.datatype)}; the model gives "
            f"{config_name(result.datatype)}"
        )
    shape = tensor.dims if tensor.reshape is None else tensor.reshape
    per_row = shape if model.config.max_batch_size else shape[1:]
    sizes = (int(np.prod(per_row)), int(np.prod(result.row)))
    if -1 not in per_row and sizes[0] != sizes[1]:
        raise InvalidArgument(
            f"{text} has dims {shape_text(tensor.dims)}; the model gives {sizes[1]} "
            f"value{'s' if sizes[1] > 1 else ''} per row"
        )


def _probe(model: Model, predictor: Predictor, methods: tuple[str, ...]) -> dict[str, Result]:
    """Asks the model with two rows of zeros: no attribute tells types and shapes of all models."""
    found = {}
    for method in methods:
        try:
            array = plain(predictor.methods[method](_zeros(model, predictor)))
            datatype = datatype_of(array.dtype)
        except Exception as why:
            raise InvalidArgument(
                f"model '{model.name}' cannot be asked with a row of zeros: {first_line(why)}"
            ) from why
        if array.shape[:1] != (2,):
            raise InvalidArgument(
                f"model '{model.name}' answers two rows with an array of shape "
                f"{shape_text(array.shape)}; one result per row is expected"
            )
        found[method] = Result(datatype, tuple(array.shape[1:]))
    return found


def _zeros(model: Model, predictor: Predictor) -> Any:
    if predictor.text:
        return as_texts(object_array([b"a", b"a"]))
    written = model.config.inputs
    columns = predictor.features or (written[0].dims[-1] if written else 0)
    return np.zeros((2, max(columns, 1)), dtype_of(written[0].datatype if written else "FP32"))
