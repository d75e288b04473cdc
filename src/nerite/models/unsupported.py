# SPDX-License-Identifier: Apache-2.0
"""Fields of a configuration that are understood and not acted on yet: they refuse the model.

A model that serves does what its configuration says. What changes nothing here (settings of GPUs
and of other backends) is no reason to refuse; `tests/models/test_every_field.py` has the fate of
every field of the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nerite.config import ModelConfig
from nerite.config.schema import Message
from nerite.errors import Unsupported


class _Refusal(NamedTuple):
    """A field, when it is meant, and what a user can do instead."""

    field: str
    is_set: Callable[[Message], bool]
    what: str
    instead: str


def _accelerators(config: Message) -> bool:
    wanted = config.optimization.execution_accelerators
    named = wanted.cpu_execution_accelerator or wanted.gpu_execution_accelerator
    return config.backend == "onnxruntime" and bool(named)


def _ragged(config: Message) -> bool:
    """Whether a batch of unequal shapes would reach a backend that takes batches only whole."""
    joined = config.backend in ("onnxruntime", "sklearn", "xgboost", "lightgbm")
    batched = config.HasField("dynamic_batching") and config.max_batch_size > 1
    return joined and batched and any(tensor.allow_ragged_batch for tensor in config.input)


REFUSALS: tuple[_Refusal, ...] = (
    _Refusal(
        "batch_input",
        lambda config: bool(config.batch_input),
        "batch inputs",
        "let requests carry the tensor, or batch requests of equal shape",
    ),
    _Refusal(
        "batch_output",
        lambda config: bool(config.batch_output),
        "batch outputs",
        "give outputs the batch dimension first",
    ),
    _Refusal(
        "input.allow_ragged_batch",
        _ragged,
        "ragged batches in a backend that takes batches only whole",
        "leave 'allow_ragged_batch' out: requests of equal shape are batched",
    ),
    _Refusal(
        "sequence_batching.state",
        lambda config: bool(config.sequence_batching.state),
        "implicit state",
        "keep the state in the model, by correlation id",
    ),
    _Refusal(
        "sequence_batching.iterative_sequence",
        lambda config: config.sequence_batching.iterative_sequence,
        "iterative sequences",
        "leave 'iterative_sequence' out, or answer through response senders",
    ),
    _Refusal(
        "optimization.execution_accelerators",
        _accelerators,
        "execution accelerators",
        "leave them out to run on the CPU",
    ),
    _Refusal(
        "model_operations.op_library_filename",
        lambda config: (
            config.backend == "onnxruntime" and bool(config.model_operations.op_library_filename)
        ),
        "libraries of custom operators",
        "use operators that onnxruntime has",
    ),
)


def refuse_unsupported(config: ModelConfig) -> None:
    """Refuses a model whose configuration asks for what no part of Nerite does yet.

    Raises:
        Unsupported: It names the model, the field and what can be written instead.
    """
    message = config.to_message()
    for refusal in REFUSALS:
        if refusal.is_set(message):
            raise Unsupported(
                f"model '{config.name}' uses {refusal.what} ({refusal.field}), which this version "
                f"of Nerite does not offer yet; {refusal.instead}"
            )
