# SPDX-License-Identifier: Apache-2.0
"""The exchanges recorded from Triton 2.51, as values.

They lie in `tests/wire/vectors`: `http`, `grpc` and `metrics`, one file per theme, and
`profiles.json` with the servers they were recorded from. What a case may answer otherwise here is
in `differences`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "wire/vectors"
KINDS = ("http", "grpc", "metrics")


@dataclass(frozen=True)
class Case:
    """One recorded case: steps that run in order against one server of its profile."""

    id: str
    theme: str
    kind: str
    profile: str
    fresh: bool
    """Whether it wants a server that has served nothing before."""
    steps: tuple[Mapping[str, Any], ...]
    defect: str
    """Why what Triton answers here is wrong; empty where it is right."""
    ends_server: bool


@dataclass(frozen=True)
class Profile:
    """A server to record from: its flags and the model folders of its repository."""

    name: str
    flags: tuple[str, ...]
    models: Mapping[str, Mapping[str, Any]]


@cache
def profiles() -> Mapping[str, Profile]:
    """All profiles by name."""
    text = json.loads((FOLDER / "profiles.json").read_text())
    return {
        name: Profile(name, tuple(each.get("flags", ())), each.get("models", {}))
        for name, each in text.items()
    }


@cache
def cases() -> tuple[Case, ...]:
    """All cases, by kind and theme."""
    return tuple(case for kind in KINDS for case in _read(kind))


def _read(kind: str) -> Iterator[Case]:
    for path in sorted((FOLDER / kind).glob("*.json")):
        theme = json.loads(path.read_text())
        for each in theme["cases"]:
            yield Case(
                id=each["id"],
                theme=theme["theme"],
                kind=kind,
                profile=each["profile"],
                fresh=each.get("fresh", False),
                steps=tuple(each["steps"]),
                defect=each.get("defect", ""),
                ends_server="after" in each,
            )
