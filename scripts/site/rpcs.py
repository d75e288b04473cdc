# SPDX-License-Identifier: Apache-2.0
"""The page on gRPC, from the descriptors that the data plane itself answers reflection with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from scripts.site.tables import NOTE, code, table

from nerite.config.schema import is_map, is_repeated

_FILE = Path(__file__).parents[2] / "rust/logic/src/wire/grpc/descriptors.binpb"
_HEAD = f"""{NOTE}
# gRPC

The services of port 8001. The messages are those of Triton's `grpc_service.proto`, so the stubs
of `tritonclient` fit; the server
answers reflection, so `grpcurl` needs no files. What a call may be refused with is in
[Errors](errors.md).

"""


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Every service's name and its methods."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(_FILE.read_bytes()).file
    # Its first file imports its second one, which a pool wants to have before.
    for file in sorted(files, key=lambda file: len(file.dependency)):
        pool.AddSerializedFile(file.SerializeToString())
    for file in files:
        for service in pool.FindFileByName(file.name).services_by_name.values():
            yield from ((service.full_name, method) for method in service.methods)


def page() -> str:
    """All calls, then the messages that they take and give."""
    services: dict[str, list[MethodDescriptor]] = {}
    for name, method in methods():
        services.setdefault(name, []).append(method)
    parts = [_HEAD]
    for name, calls in services.items():
        parts.append(f"\n## `{name}`\n\n")
        lines = [(code(c.name), _message(c, "in"), _message(c, "out")) for c in calls]
        parts.append(table(("call", "takes", "gives"), lines))
    parts.append("\n## Messages\n")
    parts += [_section(message) for message in _messages(services)]
    return "".join(parts)


def _message(call: Any, way: str) -> str:
    message = call.input_type if way == "in" else call.output_type
    streams = call.client_streaming if way == "in" else call.server_streaming
    anchor = _anchor(message) if message.file.package == "inference" else ""
    name = f"[`{message.name}`](#{anchor})" if anchor else code(message.name)
    return f"a stream of {name}" if streams else name


def _messages(services: dict[str, list[Any]]) -> list[Descriptor]:
    """The messages of Triton's service; those of configurations have a page of their own."""
    found: dict[str, Descriptor] = {}
    waiting = [
        message
        for calls in services.values()
        for call in calls
        for message in (call.input_type, call.output_type)
        if message.file.package == "inference"
    ]
    while waiting:
        message = waiting.pop(0)
        if message.full_name in found or message.file.name == "model_config.proto":
            continue
        found[message.full_name] = message
        below = (field.message_type for field in _fields(message))
        waiting += [child for child in below if child is not None]
    return [found[name] for name in sorted(found)]


def _fields(message: Descriptor) -> list[FieldDescriptor]:
    fields: list[FieldDescriptor] = []
    for field in message.fields:
        fields += list(field.message_type.fields) if is_map(field) else [field]
    return fields


def _section(message: Descriptor) -> str:
    title = message.full_name.removeprefix("inference.")
    lines = [(str(field.number), code(field.name), _type(field)) for field in message.fields]
    told = table(("number", "field", "type"), lines) if lines else "It has no fields.\n"
    return f"\n### `{title}` {{#{_anchor(message)}}}\n\n{told}"


def _anchor(message: Descriptor) -> str:
    return message.full_name.replace(".", "-").lower()


def scalar(field: FieldDescriptor) -> str:
    """The type of a field without parts, as protobuf spells it."""
    name = descriptor_pb2.FieldDescriptorProto.Type.Name(field.type)
    return name.removeprefix("TYPE_").lower()


def _type(field: FieldDescriptor) -> str:
    if is_map(field):
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return f"map from {_type(key)} to {_type(value)}"
    named = field.message_type or field.enum_type
    if named is None:
        text = code(scalar(field))
    elif named.file.name == "model_config.proto":
        text = f"[`{named.name}`](configuration.md)"
    else:
        text = f"[`{named.name}`](#{_anchor(named)})" if field.message_type else code(named.name)
    one_of = field.containing_oneof
    suffix = f", one of `{one_of.name}`" if one_of is not None else ""
    return ("repeated " if is_repeated(field) else "") + text + suffix
