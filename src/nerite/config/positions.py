# SPDX-License-Identifier: Apache-2.0
"""Where each key of a configuration file stands.

A key path is written `input[0].dims[1]`; a map's entry is `parameters[threads].string_value`.
The readers (`pbtxt`, `yaml_file`, `json_file`) fill a `Positions` while they read, so that a rule
which only knows the key can still name the line. A key that the file does not have stands where
its nearest parent stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from nerite.errors import ConfigProblem


class Place(NamedTuple):
    """A line and a column, both from 1; (0, 0) is unknown."""

    line: int = 0
    column: int = 0


NOWHERE = Place()


def parent_of(key: str) -> str:
    """The key path one step up; `""` above the top level."""
    if key.endswith("]"):
        depth = 0
        for index in range(len(key) - 1, -1, -1):
            depth += (key[index] == "]") - (key[index] == "[")
            if depth == 0:
                return key[:index]
    return key.rpartition(".")[0]


@dataclass(slots=True)
class Positions:
    """The places of the keys of one file."""

    file: str = ""
    places: dict[str, Place] = field(default_factory=dict)

    def record(self, key: str, place: Place) -> None:
        """Note where a key stands; the first mention counts."""
        self.places.setdefault(key, place)

    def find(self, key: str) -> Place:
        """Where the key, or its nearest parent that the file has, stands."""
        while key:
            place = self.places.get(key)
            if place is not None:
                return place
            key = parent_of(key)
        return NOWHERE

    def place(self, problem: ConfigProblem) -> ConfigProblem:
        """The problem with its file and line, where it does not have them yet."""
        if problem.file or not self.file:
            return problem
        line, column = self.find(problem.key)
        return replace(problem, file=self.file, line=line, column=column)
