# SPDX-License-Identifier: Apache-2.0
"""Hold a configuration against an ONNX file: fill in what it leaves out, refuse what differs.

Rules and texts are Triton's (`spec` 3.7, vectors `onnx_autocomplete`), except that tensors come in
the file's order, where Triton's come in that of a hash table, and that a scalar of a model without
batching can be served: it is declared with `dims: [1]`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nerite.backends.contract import Model
from nerite.backends.onnx_session import Session, Signature
from nerite.errors import InvalidArgument
from nerite.tensors import config_name, shape_text

if TYPE_CHECKING:
    from nerite.config.model import ModelConfig
    from nerite.config.parts import TensorSpec

_log = logging.getLogger(__name__)


def complete(model: Model, session: Callable[[], Session]) -> ModelConfig:
    """The configuration with tensors, maximum batch size and dynamic batching filled in."""
    config = model.config
    if config.inputs and config.outputs:
        return config
    opened = session()
    size = _batch_size(model, opened)
    fields: dict[str, Any] = {"max_batch_size": size}
    if size > 1 and config.scheduling == "default":
        fields["dynamic_batching"] = {}
    if not config.inputs:
        sent = {k: v for k, v in opened.inputs.items() if k not in config.control_names}
        fields["input"] = _declare(model.name, "input", sent, size > 0)
    if not config.outputs:
        fields["output"] = _declare(model.name, "output", opened.outputs, size > 0)
    return config.with_fields(**fields)


def agree(config: ModelConfig, session: Session) -> None:
    """Refuses a configuration whose tensors are not the file's."""
    expected = len(config.inputs) + len(config.control_names)
    if expected != len(session.inputs):
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects "
            f"{expected} inputs, model provides {len(session.inputs)}"
        )
    _agree_all(config, "input", config.inputs, session.inputs)
    for name in config.control_names:
        if name not in session.inputs:
            raise _unexpected("input", name, session.inputs)
    _agree_all(config, "output", config.outputs, session.outputs)


def _batch_size(model: Model, session: Session) -> int:
    """The maximum batch size: what is written if the file can batch, else what can be."""
    tensors = [*session.inputs.values(), *session.outputs.values()]
    batchable = all(tensor.shape[:1] == (-1,) for tensor in tensors if tensor.datatype)
    size = model.config.max_batch_size
    if size and not batchable:
        raise InvalidArgument(
            f"autofill failed for model '{model.name}': model does not support batching while "
            "non-zero max_batch_size is specified"
        )
    return _default_size(model) if batchable and not size else size


def _default_size(model: Model) -> int:
    text = model.settings.get("default-max-batch-size", "4")
    try:
        return max(int(text), 0)
    except ValueError:
        raise InvalidArgument(f"failed to convert '{text}' to integral number") from None


def _declare(
    model: str, kind: str, tensors: Mapping[str, Signature], batches: bool
) -> list[dict[str, Any]]:
    declared = []
    for name, tensor in tensors.items():
        if tensor.datatype is None:
            _no_tensor(model, kind, name, tensor)
            continue
        dims = list(tensor.shape[1:] if batches else tensor.shape)
        entry: dict[str, Any] = {
            "name": name,
            "data_type": config_name(tensor.datatype),
            "dims": dims or [1],
        }
        if batches and not dims:
            entry["reshape"] = {"shape": []}
        declared.append(entry)
    return declared


def _no_tensor(model: str, kind: str, name: str, tensor: Signature) -> None:
    """Leaves out an output that no client could be sent; refuses an input of that sort."""
    text = f"{kind} '{name}' of model '{model}' is a {tensor.kind}, which the protocol cannot carry"
    if kind == "input":
        raise InvalidArgument(f"{text}; export the model with tensors as inputs")
    _log.warning("%s; it is left out (export with zipmap=False to get a tensor)", text)


def _agree_all(
    config: ModelConfig,
    kind: str,
    declared: Sequence[TensorSpec],
    provided: Mapping[str, Signature],
) -> None:
    for tensor in declared:
        found = provided.get(tensor.name)
        if found is None:
            raise _unexpected(kind, tensor.name, provided)
        if found.datatype != tensor.datatype:
            raise InvalidArgument(
                f"unable to load model '{config.name}', configuration expects datatype "
                f"{config_name(tensor.datatype)} for {kind} '{tensor.name}', model provides "
                f"{config_name(found.datatype) if found.datatype else found.kind}"
            )
        _agree_shape(config, tensor, found)


def _unexpected(kind: str, name: str, provided: Mapping[str, Signature]) -> InvalidArgument:
    # Triton lists the names in alphabetical order here.
    allowed = ", ".join(sorted(provided))
    return InvalidArgument(f"unexpected inference {kind} '{name}', allowed {kind}s are: {allowed}")


def _agree_shape(config: ModelConfig, tensor: TensorSpec, found: Signature) -> None:
    batches = config.max_batch_size > 0
    if not found.shape:
        # A scalar, or a file that does not tell: only running it can show whether it fits.
        return
    if batches and found.shape[0] != -1:
        raise InvalidArgument(
            f"model '{config.name}', tensor '{tensor.name}': for the model to support batching "
            "the shape should have at least 1 dimension and the first dimension must be -1; "
            f"but shape expected by the model is {shape_text(found.shape)}"
        )
    dims = tensor.dims if tensor.reshape is None else tensor.reshape
    full = (-1, *dims) if batches else dims
    if len(full) == len(found.shape) and all(
        theirs in (-1, ours) for ours, theirs in zip(full, found.shape, strict=True)
    ):
        return
    complete_shape = (
        "(an initial batch dimension because max_batch_size > 0 followed by the explicit tensor "
        f"shape, making complete shape {shape_text(full)})"
        if batches
        else f"(shape {shape_text(full)})"
    )
    raise InvalidArgument(
        f"model '{config.name}', tensor '{tensor.name}': the model expects "
        f"{len(found.shape)} dimensions (shape {shape_text(found.shape)}) but the model "
        f"configuration specifies {len(full)} dimensions {complete_shape}"
    )
