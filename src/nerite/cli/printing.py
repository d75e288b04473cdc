# SPDX-License-Identifier: Apache-2.0
"""The forms of `nerite get`: kubectl's tables, documents, names, single values."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nerite.errors import InvalidArgument

if TYPE_CHECKING:
    from nerite.cli.objects import Found
    from nerite.kserve.documents import Object

OUTPUTS = "wide, yaml, json, name, jsonpath={.a.b} or custom-columns=HEAD:.a.b,..."
_PLAIN = ("", "wide", "yaml", "json", "name")
_JSONPATH, _COLUMNS = "jsonpath=", "custom-columns="


@dataclass(frozen=True, slots=True)
class View:
    """How objects are to be shown."""

    output: str = ""
    namespaces: bool = False
    headings: bool = True
    labels: bool = False


def check_output(output: str) -> None:
    """Refuses a form that is none before anybody is asked."""
    if output not in _PLAIN and not output.startswith((_JSONPATH, _COLUMNS)):
        raise InvalidArgument(f"-o '{output}' is not known; use {OUTPUTS}")


def shown(found: Found, view: View) -> str:
    """The objects in the form that is asked for; empty if there is nothing to show."""
    values, output = [value for _, value in found.objects], view.output
    if found.missing and not values:
        return ""
    if output.startswith(_JSONPATH):
        from nerite.local.jsonpath import evaluated

        return evaluated(output.removeprefix(_JSONPATH), _whole(values, found.single))
    if output in ("json", "yaml"):
        return _document(_whole(values, found.single), output)
    if output == "name":
        return "\n".join(_name(kind, value) for kind, value in found.objects)
    if output.startswith(_COLUMNS):
        return _custom(output.removeprefix(_COLUMNS), values, view)
    return _tables(found, view)


def streamed(value: Object, output: str) -> str:
    """One of several documents that come one after the other."""
    return ("---\n" if output == "yaml" else "") + _document(value, output)


def heading(kind: str, view: View) -> list[str]:
    """The first line of a kind's table."""
    from nerite.local import tables

    names = tables.columns(kind, view.output == "wide", view.namespaces)
    return [*names, "LABELS"] if view.labels else names


def row(kind: str, value: Object, view: View) -> list[str]:
    """An object's line in its kind's table."""
    from nerite.local import tables

    cells = tables.cells(value, kind, time.time(), view.output == "wide", view.namespaces)
    labels = value["metadata"].get("labels") or {}
    told = ",".join(f"{key}={text}" for key, text in sorted(labels.items())) or "<none>"
    return [*cells, told] if view.labels else cells


def _tables(found: Found, view: View) -> str:
    from nerite.local import tables

    kinds = dict.fromkeys(kind for kind, _ in found.objects)
    texts = []
    for kind in kinds:
        rows = [row(kind, value, view) for each, value in found.objects if each == kind]
        if len(kinds) > 1:
            # As kubectl: among several kinds a name says which one it is of.
            at = int(view.namespaces)
            values = [value for each, value in found.objects if each == kind]
            for cells, value in zip(rows, values, strict=True):
                cells[at] = _name(kind, value)
        texts.append("\n".join(tables.aligned([heading(kind, view)] * view.headings + rows)))
    return "\n\n".join(texts)


def _name(kind: str, value: Object) -> str:
    from nerite.local.catalog import Change

    return Change(kind, "", value["metadata"]["name"], "").shown


def _whole(values: list[Object], single: bool) -> Object:
    """One object, or a list of several as kubectl writes it."""
    if single and values:
        return values[0]
    metadata = {"resourceVersion": ""}
    return {"apiVersion": "v1", "items": values, "kind": "List", "metadata": metadata}


def _document(value: Any, output: str) -> str:
    if output == "json":
        return json.dumps(value, indent=4, sort_keys=True)
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=False, allow_unicode=True)
    return text.rstrip()


def _custom(text: str, values: list[Object], view: View) -> str:
    """A table of columns such as `NAME:.metadata.name`."""
    from nerite.local import jsonpath, tables

    columns = [part.partition(":")[::2] for part in text.split(",")]
    for head, path in columns:
        if not head or not path:
            raise InvalidArgument(
                f"-o 'custom-columns={text}': '{head}' is not HEAD:.path, such as "
                "NAME:.metadata.name"
            )
    paths = [path.removeprefix("{").removesuffix("}") for _, path in columns]
    paths = [path if path.startswith((".", "[")) else f".{path}" for path in paths]
    rows = [[head for head, _ in columns]] * view.headings
    for value in values:
        cells = [jsonpath.values_at(path, value) for path in paths]
        rows.append([",".join(map(jsonpath.shown, found)) or "<none>" for found in cells])
    return "\n".join(tables.aligned(rows)) if rows else ""
