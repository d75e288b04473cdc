# SPDX-License-Identifier: Apache-2.0
"""Rules about the sequence batcher: controls, strategies, implicit state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from nerite.config.rules import Context, Problems, problem
from nerite.config.rules.batching import sizes_are_possible
from nerite.config.rules.files import leads_out
from nerite.config.rules.samples import element_size
from nerite.config.schema import Message, enum_name

VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
CORRID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def _controls(config: Message) -> Iterator[tuple[str, str, Message, Message]]:
    """Each control: its kind, its key, its input and itself."""
    for i, control_input in enumerate(config.sequence_batching.control_input):
        for j, control in enumerate(control_input.control):
            kinds = control.DESCRIPTOR.fields_by_name["kind"].enum_type
            key = f"sequence_batching.control_input[{i}].control[{j}]"
            yield str(enum_name(kinds, control.kind)), key, control_input, control


def control_tensors_have_names(config: Message, context: Context) -> Problems:
    """A control is an input, so it has a name, and one meaning."""
    seen: set[str] = set()
    for index, control_input in enumerate(config.sequence_batching.control_input):
        key = f"sequence_batching.control_input[{index}]"
        if not control_input.name:
            text = f"sequence batching control tensor must have a name for {config.name}"
            yield problem(text, key, "", "add name with the name of the model's input")
        elif control_input.name in seen:
            text = (
                f"sequence batching control tensor '{control_input.name}' is specified for "
                f"multiple control kinds for {config.name}"
            )
            fix = "list the controls of one tensor in one control_input, or rename one"
            yield problem(text, f"{key}.name", control_input.name, fix)
        seen.add(control_input.name)


def control_kinds_are_given_once(config: Message, context: Context) -> Problems:
    """Each kind of control goes to one tensor."""
    seen: set[str] = set()
    for kind, key, control_input, _ in _controls(config):
        if kind in seen:
            text = f"sequence batching specifies multiple {kind} tensors for {config.name}"
            yield problem(text, f"{key}.kind", control_input.name, f"keep only one {kind}")
        seen.add(kind)


def flags_have_two_values(config: Message, context: Context) -> Problems:
    """START, READY and END say what false and true look like, in exactly one type."""
    for kind, key, _, control in _controls(config):
        if kind == "CONTROL_SEQUENCE_CORRID":
            continue
        given = [name for name in VALUES if len(getattr(control, name))]
        if not given:
            text = (
                "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
                f"'bool_false_true' for {kind} for {config.name}"
            )
            yield problem(text, key, kind, "add int32_false_true: [ 0, 1 ]")
        elif len(given) > 1:
            text = (
                "sequence batching specifies more than one from 'int32_false_true', "
                f"'fp32_false_true' and 'bool_false_true' for {kind} for {config.name}"
            )
            yield problem(text, f"{key}.{given[1]}", kind, f"keep only one of {', '.join(given)}")
        elif len(getattr(control, given[0])) != 2:
            text = (
                f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind} "
                f"for {config.name}"
            )
            values = list(getattr(control, given[0]))
            yield problem(text, f"{key}.{given[0]}", values, f"{given[0]}: [ false, true ] values")


def correlation_id_is_a_tensor(config: Message, context: Context) -> Problems:
    """CORRID carries the id itself, in a type that can hold one."""
    for kind, key, _, control in _controls(config):
        if kind != "CONTROL_SEQUENCE_CORRID":
            continue
        given = [name for name in VALUES if len(getattr(control, name))]
        types = control.DESCRIPTOR.fields_by_name["data_type"].enum_type
        data_type = str(enum_name(types, control.data_type))
        if given:
            text = (
                "sequence batching must not specify either 'int32_false_true', "
                f"'fp32_false_true' or 'bool_false_true' for {kind} for {config.name}"
            )
            yield problem(text, f"{key}.{given[0]}", "", "write data_type: TYPE_UINT64 instead")
        elif data_type not in CORRID_TYPES:
            text = (
                f"unexpected data type for control {kind} for {config.name}. Allowed data types "
                "are TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
            )
            fix = f"one of: {', '.join(CORRID_TYPES)}"
            yield problem(text, f"{key}.data_type", data_type, fix)


def oldest_sizes_are_possible(config: Message, context: Context) -> Problems:
    """A preferred size is a batch the model can take."""
    if config.sequence_batching.HasField("oldest"):
        sizes = config.sequence_batching.oldest.preferred_batch_size
        words = ("sequence batching preferred batch size", "max batch size")
        key = "sequence_batching.oldest.preferred_batch_size"
        yield from sizes_are_possible(sizes, config, key, words)


def utilization_is_a_share(config: Message, context: Context) -> Problems:
    """The share of slots that must be filled is at most all of them."""
    share = config.sequence_batching.direct.minimum_slot_utilization
    if not 0.0 <= share <= 1.0:
        text = (
            "sequence batching minimum slot utilization must be in range (0.0, 1.0] for "
            f"{config.name}"
        )
        key = "sequence_batching.direct.minimum_slot_utilization"
        yield problem(text, key, f"{share:g}", "a share such as 0.5; 0 does not wait")


def initial_states_fit(config: Message, context: Context) -> Problems:
    """What a state starts with has its type and shape."""
    seen: set[str] = set()
    for index, state in enumerate(config.sequence_batching.state):
        key = f"sequence_batching.state[{index}].initial_state"
        count = len(state.initial_state)
        if count > 1:
            text = (
                f"initial_state field for state input '{state.input_name}' must contain exactly "
                f"one or zero element. Found '{count}' elements."
            )
            yield problem(text, f"{key}[1]", count, "keep one initial_state")
        elif count == 1:
            found = list(_initial_state(state, f"{key}[0]", seen, context))
            yield from found[:1]


def _initial_state(state: Message, key: str, seen: set[str], context: Context) -> Problems:
    initial, name = state.initial_state[0], state.input_name
    dims, wanted = list(initial.dims), list(state.dims)
    if initial.data_type != state.data_type:
        text = (
            f"The data type used for 'initial_state' field of state '{name}' does not match the "
            "state data type."
        )
        yield problem(text, f"{key}.data_type", initial.data_type, "the state's data_type")
    if not initial.name:
        text = f"Field 'name' must be set when using initial_state for state input '{name}'."
        yield problem(text, key, "", "add a name")
    if name in seen:
        text = f"State input name '{name}' specified more than once."
        yield problem(text, key, name, "rename one of the states")
    seen.add(name)
    if len(dims) != len(wanted):
        text = (
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' "
            f"dimensions for state input '{name}'. {len(dims)} != {len(wanted)}"
        )
        yield problem(text, f"{key}.dims", dims, f"{len(wanted)} dimensions")
    if -1 in dims:
        text = f"'initial_state' field for state input name '{name}' contains variable dimensions."
        yield problem(text, f"{key}.dims", dims, "write each dimension as a number")
    for index, (dim, want) in enumerate(zip(dims, wanted, strict=False)):
        if want not in (-1, dim):
            text = (
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim "
                f"description. {dim} != {want}"
            )
            yield problem(text, f"{key}.dims[{index}]", dim, str(want))
    yield from _initial_data(state, key, context)


def _initial_data(state: Message, key: str, context: Context) -> Problems:
    initial = state.initial_state[0]
    source = initial.WhichOneof("state_data")
    if source is None:
        text = f"initial_state setting expects state'{state.input_name}' to have state_data set"
        yield problem(text, key, "", "add zero_data: true, or data_file")
    if source != "data_file" or context.folder is None:
        return
    if leads_out(None, initial.data_file):
        return  # told by `files`
    path = context.folder / "initial_state" / initial.data_file
    key = f"{key}.data_file"
    if not path.is_file():
        text = f"failed to open text file for read {path}: No such file or directory"
        fix = f"put {initial.data_file} into the folder initial_state"
        yield replace(problem(text, key, initial.data_file, fix), code="INTERNAL")
        return
    expected = math.prod(initial.dims) * element_size(initial)
    found = path.stat().st_size
    if expected > found:
        text = (
            f"initial_state setting expects {expected} bytes, but the data provided from "
            f"{initial.data_file}only has {found} bytes."
        )
        yield problem(text, key, initial.data_file, f"a file of {expected} bytes")
