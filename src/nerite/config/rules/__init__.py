# SPDX-License-Identifier: Apache-2.0
"""The rules of a model configuration, one function each.

A rule takes the completed message and a `Context` and yields a `ConfigProblem` for each place
where the configuration breaks it; the message is Triton's literal text where Triton has one. A
rule knows keys, not lines: `check` adds those and decides the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nerite.config.schema import Message
from nerite.config.settings import Settings
from nerite.errors import ConfigProblem


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may look at besides the configuration."""

    folder: Path | None = None
    """The model folder; without one, rules about files in it are silent."""
    name: str = ""
    """What the model has to be called: as its folder, unless the server maps it."""
    gpus: tuple[int, ...] = ()
    settings: Settings = field(default_factory=Settings)


Problems = Iterator[ConfigProblem]
Rule = Callable[[Message, Context], Problems]


def problem(message: str, key: str, value: object = "", fix: str = "") -> ConfigProblem:
    """A problem of a key, with its value and what to write instead."""
    return ConfigProblem(message, key=key, value=str(value), fix=fix)
