# SPDX-License-Identifier: Apache-2.0
"""Rules about warm-up samples: made-up requests that must be requests the model would accept."""

from __future__ import annotations

import math
from dataclasses import replace

from nerite.config.parts import datatype_name
from nerite.config.rules import Context, Problems, problem
from nerite.config.rules.files import leads_out
from nerite.config.schema import Message

NO_ID = "[request id: <id_unknown>] "
ELEMENT_SIZES = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2,
    "UINT32": 4, "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8,
}  # fmt: skip


def element_size(tensor: Message) -> int:
    """Bytes of one element; 0 for BYTES, whose elements have no fixed size."""
    return ELEMENT_SIZES.get(datatype_name(tensor.data_type, tensor), 0)


def warmups_can_run(config: Message, context: Context) -> Problems:
    """Each sample that is run has data, and is a request the model accepts."""
    for index, sample in enumerate(config.model_warmup):
        if sample.batch_size == 0:
            continue  # Triton skips such a sample
        key = f"model_warmup[{index}]"
        for name in sorted(sample.inputs):
            yield from _input_has_data(sample.inputs[name], name, f"{key}.inputs[{name}]", context)
        yield from _inputs_are_there(config, sample, key)
        for name in sorted(sample.inputs):
            yield from _input_fits(config, sample.inputs[name], name, f"{key}.inputs[{name}]")


def _input_has_data(tensor: Message, name: str, key: str, context: Context) -> Problems:
    if any(dim < 0 for dim in tensor.dims):
        text = (
            f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
        )
        yield problem(text, f"{key}.dims", list(tensor.dims), "write each dimension as a number")
        return
    source = tensor.WhichOneof("input_data_type")
    if source is None:
        text = f"{NO_ID}warmup setting expects input '{name}' to have input_data_type set"
        yield problem(text, key, "", "add zero_data: true, random_data: true or input_data_file")
    if source != "input_data_file" or context.folder is None:
        return
    if leads_out(None, tensor.input_data_file):
        return  # told by `files`
    path = context.folder / "warmup" / tensor.input_data_file
    key = f"{key}.input_data_file"
    if not path.is_file():
        text = f"failed to open text file for read {path}: No such file or directory"
        fix = f"put {tensor.input_data_file} into the folder warmup"
        yield replace(problem(text, key, tensor.input_data_file, fix), code="INTERNAL")
        return
    expected, found = math.prod(tensor.dims) * element_size(tensor), path.stat().st_size
    if expected > found:
        text = (
            f"{NO_ID}warmup setting expects {expected} bytes, but the data provided from "
            f"{tensor.input_data_file}only has {found} bytes"
        )
        yield problem(text, key, tensor.input_data_file, f"a file of {expected} bytes")


def _inputs_are_there(config: Message, sample: Message, key: str) -> Problems:
    # Names the model does not list are control inputs; only the number of the others is checked.
    given = sorted(tensor.name for tensor in config.input if tensor.name in sample.inputs)
    required = [tensor.name for tensor in config.input if not tensor.optional]
    if len(required) <= len(given):
        return
    missing = [name for name in required if name not in given]
    expected = f"expected {len(required)} inputs but got {len(given)} inputs"
    if len(required) < len(config.input):
        expected = (
            f"expected number of inputs between {len(required)} and {len(config.input)} but got "
            f"{len(given)} inputs"
        )
    text = (
        f"{NO_ID}{expected} for model '{config.name}'. Got input(s) {_listed(given)}, but missing "
        f"required input(s) {_listed(missing)}. Please provide all required input(s)."
    )
    yield problem(text, f"{key}.inputs", ", ".join(given), f"add {', '.join(missing)}")


def _listed(names: list[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _input_fits(config: Message, tensor: Message, name: str, key: str) -> Problems:
    wanted = next((item for item in config.input if item.name == name), None)
    if wanted is None:
        return
    if tensor.data_type != wanted.data_type:
        found = datatype_name(tensor.data_type, tensor)
        expected = datatype_name(wanted.data_type, wanted)
        text = (
            f"{NO_ID}inference input '{name}' data-type is '{found}', but model '{config.name}' "
            f"expects '{expected}'"
        )
        yield problem(text, f"{key}.data_type", found, f"the data_type of input '{name}'")
    dims, expected_dims = list(tensor.dims), list(wanted.dims)
    fits = len(dims) == len(expected_dims) and all(
        want in (-1, dim) for dim, want in zip(dims, expected_dims, strict=True)
    )
    if not fits and all(dim >= 0 for dim in dims):
        batched = config.max_batch_size > 0
        shown = _shape([-1, *expected_dims] if batched else expected_dims)
        got = _shape([1, *dims] if batched else dims)
        text = (
            f"{NO_ID}unexpected shape for input '{name}' for model '{config.name}'. "
            f"Expected {shown}, got {got}."
        )
        yield problem(text, f"{key}.dims", dims, f"dims that fit {expected_dims}")


def _shape(dims: list[int]) -> str:
    return "[" + ",".join(str(dim) for dim in dims) + "]"
