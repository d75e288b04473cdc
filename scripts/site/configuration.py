# SPDX-License-Identifier: Apache-2.0
"""The page on model configurations: every field of the schema and what becomes of it.

The fates are those that `tests/models/test_every_field.py` holds the server to.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from scripts.site.rpcs import scalar
from scripts.site.tables import NOTE, code, sentence, table
from tests.models import test_every_field as fates

from nerite.config.schema import DESCRIPTOR, entry_of, is_map, is_repeated

_HEAD = f"""{NOTE}
# Model configuration

Every field of `config.pbtxt`, `config.yaml` and `config.json`, and what becomes of it: it is
used, or it changes nothing here (with the
reason), or a model that relies on it is refused with a text that names the field. Most can be
left out: see
[Model repositories](../guides/repository.md). `nerite check` tells every mistake with its place.

"""
Field = FieldDescriptor


def fields(message: Descriptor = DESCRIPTOR, path: str = "") -> Iterator[tuple[str, Field]]:
    """Every field with its path, as the tests walk them."""
    for field in message.fields:
        child = f"{path}.{field.name}" if path else field.name
        yield child, field
        below = entry_of(field)[1].message_type if is_map(field) else field.message_type
        if below is not None:
            yield from fields(below, child)


def page() -> str:
    """The fields of the top level, then each group under its own heading."""
    groups: dict[str, list[tuple[str, Field]]] = {}
    for path, field in fields():
        groups.setdefault(path.partition(".")[0], []).append((path, field))
    simple = [found[0] for found in groups.values() if len(found) == 1]
    parts = [_HEAD, "## Top level\n\n", _table(simple)]
    for name, found in groups.items():
        if len(found) > 1:
            parts.append(f"\n## `{name}` {{#{name}}}\n\n{_table(found)}")
    return "".join(parts)


def _table(found: list[tuple[str, Field]]) -> str:
    rows = [(code(path), _type(field), _fate(path)) for path, field in found]
    return table(("field", "type", "what becomes of it"), rows)


def _fate(path: str) -> str:
    here = fates.fate(path)
    if here == "used":
        return "used"
    where = path
    while where not in (*fates.NOTHING, *fates.REFUSED):
        where = where.rpartition(".")[0]
    if here == "nothing":
        return f"changes nothing: {fates.NOTHING[where]}"
    return f"refused: {sentence(fates.REFUSED[where][1])}"


def _type(field: Field) -> str:
    if is_map(field):
        key, value = entry_of(field)
        return f"map from {_type(key)} to {_type(value)}"
    if field.enum_type is not None:
        text = ", ".join(code(value.name) for value in field.enum_type.values)
    elif field.message_type is not None:
        text = "group"
    else:
        text = code(scalar(field))
    return f"list of {text}" if is_repeated(field) else text
