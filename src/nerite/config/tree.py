# SPDX-License-Identifier: Apache-2.0
"""Fill a configuration message from a tree of plain values, by proto3's JSON rules.

`yaml_file` and `json_file` make the tree; each node knows its place, so every problem has a line.
Like Triton: camelCase keys and enum names in any case are accepted, unknown keys are not, null
means "not set". All problems are collected, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from nerite.config import suggestions
from nerite.config.positions import NOWHERE, Place, Positions
from nerite.config.schema import (
    FLOATS,
    INTEGER_RANGES,
    Message,
    entry_of,
    enum_of,
    is_map,
    is_repeated,
)
from nerite.errors import ConfigProblem

#: Characters; no field of a configuration holds a number of more.
LONGEST_NUMBER = 400
#: Nobody reads more, and a file that is no configuration at all would have millions.
MOST_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a file: a mapping of nodes, a list of nodes, or a scalar.

    `text` is how a plain YAML scalar was written; a string field takes it as it stands, so that
    `string_value: 4` needs no quotes.
    """

    value: Any
    place: Place = NOWHERE
    text: str | None = None
    keys: Mapping[str, Place] = field(default_factory=dict)


def is_text(value: str) -> bool:
    """Whether a string is made of characters, and not of halves of surrogate pairs."""
    return value.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in value)


def from_plain(value: Any) -> Node:
    """A tree without places, from plain Python values."""
    if isinstance(value, Mapping):
        return Node({str(key): from_plain(item) for key, item in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node([from_plain(item) for item in value])
    return Node(value)


@dataclass(slots=True)
class Filler:
    """Copies a tree into a message and keeps what was wrong and where everything stood."""

    positions: Positions
    problems: list[ConfigProblem] = field(default_factory=list)

    def fill(self, message: Message, node: Node, path: str = "") -> None:
        """Set every field of `message` that the node has."""
        if not isinstance(node.value, dict):
            self._refuse(node, path, "expected a mapping of keys to values", "write `key: value`")
            return
        for key, item in node.value.items():
            descriptor = _field_named(message.DESCRIPTOR, key)
            place = node.keys.get(key, item.place)
            if descriptor is None:
                self._unknown(message.DESCRIPTOR, key, path, place)
                continue
            child = f"{path}.{descriptor.name}" if path else descriptor.name
            self.positions.record(child, place)
            if item.value is not None and self._is_free(message, descriptor, child, item):
                self._set(message, descriptor, item, child)

    def _set(self, message: Message, descriptor: FieldDescriptor, node: Node, path: str) -> None:
        if is_map(descriptor):
            self._set_map(message, descriptor, node, path)
        elif is_repeated(descriptor):
            self._set_list(message, descriptor, node, path)
        elif descriptor.message_type is not None:
            target = getattr(message, descriptor.name)
            target.SetInParent()
            self.fill(target, node, path)
        else:
            self._store(descriptor, node, path, lambda v: setattr(message, descriptor.name, v))

    def _set_list(
        self, message: Message, descriptor: FieldDescriptor, node: Node, path: str
    ) -> None:
        if not isinstance(node.value, list):
            self._refuse(node, path, f"expected a list for '{descriptor.name}'", "put it in [ ]")
            return
        target = getattr(message, descriptor.name)
        for index, item in enumerate(node.value):
            child = f"{path}[{index}]"
            self.positions.record(child, item.place)
            if descriptor.message_type is not None:
                self.fill(target.add(), item, child)
            else:
                self._store(descriptor, item, child, target.append)

    def _set_map(
        self, message: Message, descriptor: FieldDescriptor, node: Node, path: str
    ) -> None:
        if not isinstance(node.value, dict):
            text = f"expected a mapping for '{descriptor.name}'"
            self._refuse(node, path, text, "write `name: value` pairs")
            return
        keys, values = entry_of(descriptor)
        target = getattr(message, descriptor.name)
        for key, item in node.value.items():
            child = f"{path}[{key}]"
            place = node.keys.get(key, item.place)
            self.positions.record(child, place)
            store = partial(self._entry, target, values, item, child)
            self._store(keys, Node(key, place), child, store)

    def _entry(self, target: Any, values: FieldDescriptor, node: Node, path: str, key: Any) -> None:
        if values.message_type is not None:
            self.fill(target[key], node, path)
        else:
            self._store(values, node, path, lambda value: target.__setitem__(key, value))

    def _store(
        self, descriptor: FieldDescriptor, node: Node, path: str, store: Callable[[Any], None]
    ) -> None:
        try:
            store(_scalar(descriptor, node))
        except _Unfit as unfit:
            self._refuse(node, path, unfit.text, unfit.fix)

    def _is_free(
        self, message: Message, descriptor: FieldDescriptor, path: str, node: Node
    ) -> bool:
        oneof = descriptor.containing_oneof
        other = message.WhichOneof(oneof.name) if oneof is not None else None
        if other is None or oneof is None:
            return True
        text = (
            f'Field "{descriptor.name}" is specified along with field "{other}", '
            f'another member of oneof "{oneof.name}".'
        )
        self._refuse(node, path, text, f"keep only one of '{other}' and '{descriptor.name}'")
        return False

    @property
    def _is_full(self) -> bool:
        return len(self.problems) >= MOST_PROBLEMS

    def _unknown(self, message: Descriptor, key: str, path: str, place: Place) -> None:
        text = f'Message type "{message.full_name}" has no field named "{key}".'
        fix = "" if self._is_full else suggestions.for_field(key, message)
        child = f"{path}.{key}" if path else key
        self._add(text, place, child, "", fix)

    def _refuse(self, node: Node, path: str, text: str, fix: str) -> None:
        shown = node.text if node.text is not None else _shown(node.value)
        self._add(text, node.place, path, shown, fix)

    def _add(self, text: str, place: Place, key: str, value: str, fix: str) -> None:
        if self._is_full:
            return
        file = self.positions.file
        self.problems.append(ConfigProblem(text, file, place.line, place.column, key, value, fix))


class _Unfit(Exception):
    """A scalar does not fit its field."""

    def __init__(self, text: str, fix: str) -> None:
        super().__init__(text)
        self.text, self.fix = text, fix


def _field_named(message: Descriptor, key: str) -> FieldDescriptor | None:
    by_name = message.fields_by_name.get(key)
    if by_name is not None:
        return by_name
    return next((f for f in message.fields if f.json_name == key), None)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        return f"a number of {value.bit_length()} bits"  # Python does not write it out
    return "[...]" if isinstance(value, list) else str(value)


def _scalar(descriptor: FieldDescriptor, node: Node) -> Any:
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        return _string(descriptor, node)
    if descriptor.type == FieldDescriptor.TYPE_BOOL:
        return _bool(descriptor, node.value)
    if descriptor.enum_type is not None:
        return _enum(descriptor, node.value)
    if descriptor.type in FLOATS:
        return _float(descriptor, node.value)
    return _integer(descriptor, node.value)


def _string(descriptor: FieldDescriptor, node: Node) -> str:
    text = node.value if isinstance(node.value, str) else node.text
    if text is None:
        raise _Unfit(f"expected a string for '{descriptor.name}'", "put it in quotes")
    if not is_text(text):  # the readers look too; this is for values that come from Python
        raise _Unfit(f"expected text for '{descriptor.name}', got half a surrogate pair", "UTF-8")
    return text


def _bool(descriptor: FieldDescriptor, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):  # a map key is always a string
        return bool(value == "true")
    raise _Unfit(f"expected true or false for '{descriptor.name}'", "write true or false")


def _enum(descriptor: FieldDescriptor, value: Any) -> int:
    enum = enum_of(descriptor)
    if isinstance(value, str):
        for known in enum.values:
            if known.name == value or known.name.lower() == value.lower():
                return int(known.number)
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31:
        return value
    text = f'Unknown enumeration value of "{_shown(value)}" for field "{descriptor.name}".'
    raise _Unfit(text, suggestions.for_enum(_shown(value), enum))


def _integer(descriptor: FieldDescriptor, value: Any) -> int:
    low, high = INTEGER_RANGES[descriptor.type]
    fix = f"an integer from {low} to {high}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        try:
            value = int(value) if value.isascii() and "_" not in value else None
        except ValueError:
            value = None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Unfit(f"expected an integer for '{descriptor.name}'", fix)
    if not low <= value <= high:
        raise _Unfit(f"Integer out of range ({_shown(value)})", fix)
    return value


def _float(descriptor: FieldDescriptor, value: Any) -> float:
    named = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        return float(named.get(value, value)) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        text = f"expected a number for '{descriptor.name}'"
        raise _Unfit(text, "write a number such as 0.5") from None
