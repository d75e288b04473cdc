# SPDX-License-Identifier: Apache-2.0
"""The page on HTTP, from the OpenAPI document that a server gives out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from scripts.site.tables import NOTE, code, sentence, table

from nerite.server.openapi import openapi

#: A model whose name is a placeholder, so that its paths read as those of any model.
_MODEL = {
    "name": "MODEL",
    "versions": ["1"],
    "decoupled": False,
    "max_batch_size": 8,
    "optional": [],
    "inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "OUTPUT", "datatype": "FP32", "shape": [-1, 2]}],
}
#: The same for graphs.
_GRAPH = {"namespace": "NAMESPACE", "name": "GRAPH", "digest": ""}
_HEAD = f"""{NOTE}
# HTTP

The paths of port 8000, as the server's own OpenAPI document has them: `/openapi.json`, shown at
`/docs`, where requests can be tried.
There every model stands with its own tensors; here `MODEL` is any model. `/versions/N` may follow
the name of a model.
Errors are `{{"error": "TEXT"}}` with a status of [this table](errors.md). The metrics port
answers `GET /metrics` only.

"""


def document() -> dict[str, Any]:
    """The document of a server with one model."""
    told: dict[str, Any] = openapi(
        {
            "server": {"name": "nerite", "version": "0"},
            "models": [_MODEL],
            "graphs": [_GRAPH],
        }
    )
    return told


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every operation."""
    for path, methods in document()["paths"].items():
        for method, told in methods.items():
            yield path.replace("%7B", "{").replace("%7D", "}"), method.upper(), told


def page() -> str:
    """All operations in groups, and the bodies of those that take one."""
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    titles = {
        "server": "The server",
        "MODEL": "A model",
        "NAMESPACE/GRAPH": "A graph",
        "management": "Management",
    }
    for path, method, told in operations():
        groups.setdefault(titles[told["tags"][0]], []).append((path, method, told))
    parts = [_HEAD]
    for title, found in groups.items():
        parts.append(f"\n## {title}\n\n")
        rows = [(method, code(path), sentence(told["summary"])) for path, method, told in found]
        parts.append(table(("method", "path", "what it does"), rows))
    parts.append("\n## Bodies\n")
    parts += [_body(*operation) for operation in operations() if _has_members(operation[2])]
    return "".join(parts)


def _has_members(told: dict[str, Any]) -> bool:
    """Whether a body is of a known form; that of a graph is what its first step takes."""
    body = told.get("requestBody")
    return body is not None and "properties" in body["content"]["application/json"]["schema"]


def _body(path: str, method: str, told: dict[str, Any]) -> str:
    content = told["requestBody"]["content"]["application/json"]
    schema, example = content["schema"], json.dumps(content["example"])
    rows = [
        (code(name), _type(member), "yes" if name in schema.get("required", ()) else "")
        for name, member in schema["properties"].items()
    ]
    head = f"\n### `{method} {path}`\n\n"
    return f"{head}{table(('member', 'type', 'required'), rows)}\nFor example `{example}`\n"


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "any")
    return " or ".join(map(code, kind)) if isinstance(kind, list) else code(kind)
