# SPDX-License-Identifier: Apache-2.0
"""Rules about inputs and outputs, ragged batches included.

Triton applies them after the backend has completed the configuration, so a tensor may be left out
as long as somebody supplies it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nerite.config.rules import Context, Problems, problem
from nerite.config.schema import Message, enum_name

AT_LEAST_ONE = "must be integer >= 1, or -1 to indicate a variable-size dimension"


def _tensors(config: Message) -> Iterator[tuple[Message, str, str]]:
    """Each tensor, its key, and how Triton's messages begin for it."""
    for kind in ("input", "output"):
        for index, tensor in enumerate(getattr(config, kind)):
            name = f"'{tensor.name}' " if tensor.name else ""
            yield tensor, f"{kind}[{index}]", f"model {kind} {name}"


def tensors_are_complete(config: Message, context: Context) -> Problems:
    """A tensor has a name, a type and a shape of possible dimensions."""
    for tensor, key, prefix in _tensors(config):
        yield from list(_tensor(tensor, key, prefix, config))[:1]


def _tensor(tensor: Message, key: str, prefix: str, config: Message) -> Problems:
    end = f" for {config.name}"
    types = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type
    if not tensor.name:
        yield problem(f"{prefix}must specify 'name'{end}", key, "", "add name")
    if tensor.data_type not in types.values_by_number:
        text = f"{prefix}has unknown 'data_type' {tensor.data_type}{end}"
        yield problem(text, f"{key}.data_type", tensor.data_type, "a name such as TYPE_FP32")
    elif not tensor.data_type:
        text = f"{prefix}must specify 'data_type'{end}"
        yield problem(text, f"{key}.data_type", "", "add data_type, for example TYPE_FP32")
    if not tensor.dims:
        text = f"{prefix}must specify 'dims'{end}"
        yield problem(text, f"{key}.dims", "", "add dims; [ -1 ] is one of any size")
    if tensor.HasField("reshape") and not tensor.reshape.shape and config.max_batch_size == 0:
        text = (
            f"{prefix}cannot have empty reshape for non-batching model as scalar tensors are not "
            f"supported{end}"
        )
        yield problem(text, f"{key}.reshape", "", "set 'max_batch_size', or write shape: [ 1 ]")
    for index, dim in enumerate(tensor.dims):
        if dim < 1 and dim != -1:
            text = f"{prefix}dimension {AT_LEAST_ONE}{end}"
            yield problem(text, f"{key}.dims[{index}]", dim, "1 or more, or -1")
    if tensor.HasField("reshape"):
        yield from _reshape(tensor, key, prefix, end)


def _reshape(tensor: Message, key: str, prefix: str, end: str) -> Problems:
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    for index, dim in enumerate(shape):
        if dim < 1 and dim != -1:
            text = f"{prefix}reshape dimensions {AT_LEAST_ONE}{end}"
            yield problem(text, f"{key}.reshape.shape[{index}]", dim, "1 or more, or -1")
    size, wanted = _element_count(dims), _element_count(shape)
    value, fix = shape, f"a shape of as many elements as dims {dims}"
    key = f"{key}.reshape.shape"
    different = f"{prefix}has different size for dims and reshape{end}"
    if size != wanted and (wanted != 0 or size != 1):
        yield problem(different, key, value, fix)
    if size == -1:
        before, after = _runs(dims), _runs(shape)
        if len(before) != len(after):
            text = (
                f"{prefix}has different number of variable-size dimensions for dims and "
                f"reshape{end}"
            )
            yield problem(text, key, value, f"as many -1 as dims {dims} has")
        elif before != after:
            yield problem(different, key, value, fix)


def _element_count(dims: Sequence[int]) -> int:
    if not dims:
        return 0  # as Triton counts an empty shape
    return -1 if -1 in dims else math.prod(dims)


def _runs(dims: Sequence[int]) -> list[int]:
    """The element counts of the stretches between variable dimensions."""
    counts = [1]
    for dim in dims:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] *= dim
    return counts


def names_are_unique(config: Message, context: Context) -> Problems:
    """No two inputs, and no two outputs, share a name (Triton does not look)."""
    for kind in ("input", "output"):
        seen: set[str] = set()
        for index, tensor in enumerate(getattr(config, kind)):
            if tensor.name and tensor.name in seen:
                text = f"model {kind} '{tensor.name}' is specified more than once for {config.name}"
                yield problem(text, f"{kind}[{index}].name", tensor.name, "rename or remove one")
            seen.add(tensor.name)


def formats_have_three_dims(config: Message, context: Context) -> Problems:
    """NHWC and NCHW are layouts of one image."""
    for index, tensor in enumerate(config.input):
        if tensor.format and len(tensor.dims) != 3:
            text = f"model input NHWC/NCHW require 3 dims for {config.name}"
            value = list(tensor.dims)
            yield problem(text, f"input[{index}].dims", value, "3 dims, or format: FORMAT_NONE")


def special_tensors_are_tensorrts(config: Message, context: Context) -> Problems:
    """Shape tensors and non-linear formats exist for TensorRT only."""
    for tensor, key, _ in _tensors(config):
        end = f" for {config.name}"
        if tensor.is_shape_tensor and config.platform != "tensorrt_plan":
            text = f"shape tensors are only supported for TensorRT platform{end}"
            yield problem(text, f"{key}.is_shape_tensor", "true", "remove 'is_shape_tensor'")
        if not tensor.is_non_linear_format_io:
            continue
        flag = f"{key}.is_non_linear_format_io"
        kind = key.partition("[")[0]
        if config.platform != "tensorrt_plan":
            text = f"Non-linear IO format is only supported for the TensorRT platform{end}"
            yield problem(text, flag, "true", "remove 'is_non_linear_format_io'")
        elif len(tensor.dims) != 3:
            text = f"Non-linear IO format {kind} requires 3 dims{end}"
            yield problem(text, f"{key}.dims", list(tensor.dims), "3 dims")


def batch_inputs_have_types(config: Message, context: Context) -> Problems:
    """A batch input has a data type (the backends ask before the server does)."""
    for index, item in enumerate(config.batch_input):
        if not item.data_type:
            text = "unexpected batch input data type 'TYPE_INVALID'"
            yield problem(text, f"batch_input[{index}]", "", "add data_type: TYPE_INT32")


def batch_inputs_have_one_source(config: Message, context: Context) -> Problems:
    """A batch input is computed from one input, as an integer or a float."""
    names = {tensor.name for tensor in config.input}
    for index, item in enumerate(config.batch_input):
        key = f"batch_input[{index}]"
        kinds = item.DESCRIPTOR.fields_by_name["kind"].enum_type
        kind, count = enum_name(kinds, item.kind), len(item.source_input)
        if isinstance(kind, int):
            text = f"unknown batch input kind '' for {config.name}"
            yield problem(text, f"{key}.kind", kind, "a name such as BATCH_ELEMENT_COUNT")
            continue
        if count != 1:
            text = (
                f"batch input kind '{kind}' expects 1 source input, got {count} for {config.name}"
            )
            yield problem(text, f"{key}.source_input", list(item.source_input), "one input's name")
        types = item.DESCRIPTOR.fields_by_name["data_type"].enum_type
        if enum_name(types, item.data_type) not in ("TYPE_INT32", "TYPE_FP32", "TYPE_INVALID"):
            text = f"batch input data type must be TYPE_INT32 or TYPE_FP32 for {config.name}"
            value = enum_name(types, item.data_type)
            yield problem(text, f"{key}.data_type", value, "TYPE_INT32 or TYPE_FP32")
        yield from _sources(config, item, key, names)


def batch_outputs_have_one_source(config: Message, context: Context) -> Problems:
    """A batch output is split like one input, and names outputs of the model, each once."""
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    for index, item in enumerate(config.batch_output):
        key, end = f"batch_output[{index}]", f" for {config.name}"
        count = len(item.source_input)
        kinds = item.DESCRIPTOR.fields_by_name["kind"].enum_type
        kind = enum_name(kinds, item.kind)
        if isinstance(kind, int):
            text = f"unknown batch output kind ''{end}"
            yield problem(text, f"{key}.kind", kind, "BATCH_SCATTER_WITH_INPUT_SHAPE")
            continue
        if count != 1:
            text = f"batch output kind '{kind}' expects 1 source input, got {count}{end}"
            yield problem(text, f"{key}.source_input", list(item.source_input), "one input's name")
        yield from _sources(config, item, key, inputs)
        seen: set[str] = set()
        for place, name in enumerate(item.target_name):
            target = f"{key}.target_name[{place}]"
            if name not in outputs:
                text = f"unknown target output name '{name}'{end}"
                yield problem(text, target, name, f"one of: {', '.join(sorted(outputs))}")
            elif name in seen:
                text = f"target output name '{name}' can only be specified once{end}"
                yield problem(text, target, name, "remove the second one")
            seen.add(name)


def _sources(config: Message, item: Message, key: str, names: set[str]) -> Problems:
    for index, name in enumerate(item.source_input):
        if name not in names:
            text = f"unknown source input name '{name}' for {config.name}"
            fix = f"one of: {', '.join(sorted(names))}"
            yield problem(text, f"{key}.source_input[{index}]", name, fix)
