# SPDX-License-Identifier: Apache-2.0
"""A configuration as plain values and as text.

`to_dict` with defaults is what Triton's config endpoint answers, field for field; without them it
is what a person would write. Reading is in `tree` and the readers beside it.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from nerite.config.schema import FLOATS, Message, entry_of, enum_name, is_map, is_repeated

# Triton turns protobuf's quoted 64-bit integers back into numbers, except these, which it forgot.
# See tests/config/vectors/sequence.json (st_init_zero) and top_level.json (tl_opt_cuda).
QUOTED_INTEGERS = frozenset(
    {
        "inference.ModelOptimizationPolicy.Cuda.GraphSpec.Shape.dim",
        "inference.ModelSequenceBatching.InitialState.dims",
        "inference.ModelInstanceGroup.SecondaryDevice.device_id",
    }
)
# Fields newer than the recorded servers: shown only when set, so that old answers stay the same.
SHOWN_WHEN_SET = frozenset({"inference.ModelEnsembling.max_inflight_requests"})


def to_dict(message: Message, *, defaults: bool) -> dict[str, Any]:
    """The message as plain values in the endpoint's order; `defaults` also shows unset scalars."""
    result: dict[str, Any] = {}
    last: list[FieldDescriptor] = []
    for field in message.DESCRIPTOR.fields:
        # A set scalar of a oneof comes after all other fields in protobuf's C++ writer.
        if field.containing_oneof is not None and field.message_type is None:
            last.append(field)
        elif _is_shown(message, field, defaults):
            result[field.name] = _field(message, field, defaults)
    for field in last:
        if message.HasField(field.name):
            result[field.name] = _field(message, field, defaults)
    return result


def _is_shown(message: Message, field: FieldDescriptor, defaults: bool) -> bool:
    if is_repeated(field):
        return defaults or len(getattr(message, field.name)) > 0
    if field.message_type is not None:
        return bool(message.HasField(field.name))
    shown = defaults and field.full_name not in SHOWN_WHEN_SET
    return shown or _is_set(getattr(message, field.name), field)


def _is_set(value: Any, field: FieldDescriptor) -> bool:
    if isinstance(value, float) and value == 0:
        return math.copysign(1, value) < 0  # protobuf keeps -0.0 apart from the default
    return bool(value != field.default_value)


def _field(message: Message, field: FieldDescriptor, defaults: bool) -> Any:
    value = getattr(message, field.name)
    if is_map(field):
        _, kind = entry_of(field)
        return {str(key): _value(value[key], kind, defaults) for key in sorted(value)}
    if is_repeated(field):
        return [_value(item, field, defaults) for item in value]
    return _value(value, field, defaults)


def _value(value: Any, field: FieldDescriptor, defaults: bool) -> Any:
    if field.message_type is not None:
        return to_dict(value, defaults=defaults)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    if field.type in FLOATS:
        return _number(value, single=field.type == FieldDescriptor.TYPE_FLOAT)
    # Only the endpoint quotes these; what people write has plain numbers.
    return str(value) if defaults and field.full_name in QUOTED_INTEGERS else value


def _number(value: float, *, single: bool) -> Any:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 2**53:
        return int(value) if value or math.copysign(1, value) > 0 else value
    return _shortest_single(value) if single else value


def _shortest_single(value: float) -> float:
    """The shortest decimal that is the same 32-bit float (0.1, not 0.10000000149011612)."""
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", value):
            return short
    return value


def to_json(message: Message) -> str:
    """The text Triton's config endpoint answers."""
    plain = to_dict(message, defaults=True)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def to_pbtxt(message: Message) -> str:
    """The message in protobuf's text format."""
    text: str = text_format.MessageToString(message, as_utf8=True)
    return text


def to_pretty_json(message: Message) -> str:
    """The message as a `config.json` a person would write."""
    return json.dumps(to_dict(message, defaults=False), ensure_ascii=False, indent=2) + "\n"


def to_yaml(message: Message) -> str:
    """The message as a `config.yaml` a person would write."""
    import yaml

    plain = to_dict(message, defaults=False)
    # PyYAML reads these line breaks back as others unless it is told to escape them.
    odd = any(mark in json.dumps(plain, ensure_ascii=False) for mark in "\x85\u2028\u2029")
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=not odd, width=100)
    return text
