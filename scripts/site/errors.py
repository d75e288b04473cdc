# SPDX-License-Identifier: Apache-2.0
"""The page on error codes, from the one table of statuses in the data plane."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import NamedTuple

import grpc
from scripts.site.tables import NOTE, code, sentence, table

import nerite.errors
from nerite.errors import NeriteError

_SOURCE = Path(__file__).parents[2] / "rust/logic/src/error.rs"
_ROW = re.compile(r'Self::(\w+) => \("(\w+)", (\d+), (\d+)\)')
_MEANING = re.compile(r"^    /// (.*(?:\n    /// .*)*)\n    (\w+),$", re.M)
_HEAD = f"""{NOTE}
# Errors

Over HTTP an error is its status and `{{"error": "TEXT"}}`, over gRPC a status and its text. Texts
are Triton's where Triton has one,
so clients that look for a text find it. [Troubleshooting](../guides/troubleshooting.md) has the
ones people meet.

"""


class Row(NamedTuple):
    """One code and what it becomes."""

    name: str
    http: int
    grpc: int
    meaning: str


def rows() -> list[Row]:
    """The table as the source has it."""
    text = _SOURCE.read_text()
    meanings = {name: " ".join(said.split("///")) for said, name in _MEANING.findall(text)}
    return [
        Row(name, int(http), int(status), meanings[variant])
        for variant, name, http, status in _ROW.findall(text)
    ]


def page() -> str:
    """All codes with both statuses and the Python classes that have them."""
    statuses = {status.value[0]: status.name for status in grpc.StatusCode}
    lines = [
        (
            code(row.name),
            str(row.http),
            f"{row.grpc} `{statuses[row.grpc]}`",
            sentence(row.meaning),
            ", ".join(code(f"nerite.{kind.__name__}") for kind in _classes(row.name)),
        )
        for row in rows()
    ]
    return _HEAD + table(("code", "HTTP", "gRPC", "meaning", "raised as"), lines)


def _classes(name: str) -> list[type[NeriteError]]:
    kinds = [kind for _, kind in inspect.getmembers(nerite.errors, inspect.isclass)]
    found = [k for k in kinds if issubclass(k, NeriteError) and k is not NeriteError]
    return [kind for kind in found if kind.code == name]
