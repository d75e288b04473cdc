# SPDX-License-Identifier: Apache-2.0
"""What happens to models, and why loads fail: values, and the words for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nerite.errors import ConfigError
from nerite.models.states import State, key_of, reason_of

if TYPE_CHECKING:
    from nerite.config import ModelConfig


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """Something that happened to a model."""

    name: str
    state: State
    versions: tuple[int, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    """How long loading took."""
    config: ModelConfig | None = None
    namespace: str = ""

    @property
    def key(self) -> str:
        """What tells the model from all others."""
        return key_of(self.name, self.namespace)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a load failed."""

    reason: str
    """As the index tells it."""
    cause: BaseException
    versions: tuple[int, ...] = ()
    """The versions that were to be loaded; empty if the configuration could not be used."""


Observer = Callable[[ModelEvent], None]


class Refused(Exception):
    """A model is refused before anything of it was read; the text is the whole reason."""


def reason_of_load(why: BaseException) -> str:
    """The reason of a failed load; where it names the configuration file it also names the line."""
    if isinstance(why, Refused):
        return str(why)
    reason = reason_of(why)
    if isinstance(why, ConfigError) and why.problems and why.problems[0].line:
        problem = why.problems[0]
        place = f"{problem.file}:{problem.line}:{problem.column}"
        return reason.replace(problem.file, place, 1)
    return reason


def lacks_versions(why: BaseException) -> bool:
    """Whether a model is refused for having no version: clients are told that it has none.

    Of models whose configuration cannot be used they are told that they do not exist.
    """
    return isinstance(why, ConfigError) and any(p.key == "version_policy" for p in why.problems)
