# SPDX-License-Identifier: Apache-2.0
"""The protobuf schema of a model configuration, loaded without generated code.

`proto/model_config.binpb` is a serialized descriptor set, so any protobuf runtime from 4.25 on
can use it. It goes into a pool of our own: a process that also imports `tritonclient` (which
registers the same names in the default pool) must not clash with us.

Only this room touches message objects; everything else sees `model.ModelConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

#: A message of the schema. Its class exists only at run time, so mypy can say no more about it.
Message = Any


def _load() -> type[Any]:
    data = (Path(__file__).parent / "proto" / "model_config.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    found: type[Any] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("inference.ModelConfig")
    )
    return found


ModelConfigMessage = _load()
DESCRIPTOR: Descriptor = ModelConfigMessage.DESCRIPTOR

INTEGER_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether the field is a list or a map (the runtimes differ in how they say so)."""
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(getattr(field, "label", 0) == FieldDescriptor.LABEL_REPEATED)


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    message = field.message_type
    return message is not None and bool(message.GetOptions().map_entry)


def entry_of(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """The key and value fields of a map."""
    assert field.message_type is not None
    fields = field.message_type.fields_by_name
    return fields["key"], fields["value"]


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum of an enum field."""
    assert field.enum_type is not None
    return field.enum_type


def enum_name(enum: EnumDescriptor, number: int) -> str | int:
    """The name of an enum value, or the number itself where the schema has no name for it."""
    value = enum.values_by_number.get(number)
    return number if value is None else value.name


def _homes(message: Descriptor, path: str) -> Iterator[tuple[str, str]]:
    for field in message.fields:
        yield field.name, path
        if field.message_type is not None and not is_map(field):
            yield from _homes(field.message_type, f"{path}.{field.name}" if path else field.name)


def homes_of(name: str) -> tuple[str, ...]:
    """The paths of the messages that have a field of this name; `""` is the top level."""
    return tuple(path for found, path in _homes(DESCRIPTOR, "") if found == name)
