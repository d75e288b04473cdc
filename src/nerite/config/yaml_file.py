# SPDX-License-Identifier: Apache-2.0
"""Read config.yaml into a tree with places.

PyYAML parses; only its safe tags are understood. Aliases are followed, but a file that unfolds to
more nodes than a configuration could need is refused. Meaning is given by `tree`.
"""

from __future__ import annotations

from typing import Any

import yaml

from nerite.config.positions import Place
from nerite.config.tree import LONGEST_NUMBER, Node, is_text
from nerite.errors import ConfigError, ConfigProblem

MOST_NODES = 200_000
#: What PyYAML's constructors raise for scalars whose tag promises something else.
_UNFIT = (ValueError, KeyError, IndexError, AttributeError, OverflowError)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_yaml(text: str, file: str) -> Node:
    """The tree of a YAML text; raises ConfigError where the text is not YAML."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return Node({}, Place(1, 1)) if root is None else _Build(file).node(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _syntax(error.problem or str(error), file, place) from None
    except yaml.YAMLError as error:
        raise _syntax(str(error), file, (0, 0)) from None
    except RecursionError:
        raise _syntax("nested too deep", file, (0, 0)) from None
    except (ValueError, OverflowError):  # an escape such as \UFFFFFFFF
        raise _syntax("an escape that names no character", file, (0, 0)) from None


def _syntax(cause: str, file: str, place: tuple[int, int]) -> ConfigError:
    fix = "indent with spaces, the same for all keys of a level, and write `key: value`"
    text = f"failed to read YAML from {file}: {cause}"
    return ConfigError(ConfigProblem(text, file, *place, fix=fix))


class _Build:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.count = 0
        self.scalars = yaml.constructor.SafeConstructor()

    def node(self, node: Any) -> Node:
        self.count += 1
        place = Place(node.start_mark.line + 1, node.start_mark.column + 1)
        if self.count > MOST_NODES:
            raise _syntax(f"more than {MOST_NODES} values", self.file, place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.node(item) for item in node.value], place)
        value = self._scalar(node, place)
        plain = node.style is None
        if value is None or isinstance(value, str | bool | int | float):
            return Node(value, place, node.value if plain else None)
        return Node(node.value, place)  # dates and the like: what was written

    def _scalar(self, node: Any, place: Place) -> Any:
        # Base 60 (`1:30`) would make a long number quadratically longer.
        if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise _syntax(f"a number of {len(node.value)} characters", self.file, place)
        if not is_text(node.value):
            raise _syntax("half of a surrogate pair is no character", self.file, place)
        try:
            return self.scalars.construct_object(node)
        except _UNFIT:
            kind = node.tag.rpartition(":")[2]
            raise _syntax(f"'{node.value}' is no {kind}", self.file, place) from None

    def _mapping(self, node: Any, place: Place) -> Node:
        members: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        for key, item in node.value:
            where = Place(key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                raise _syntax("a key must be a word", self.file, where)
            if not is_text(key.value):
                raise _syntax("half of a surrogate pair is no character", self.file, where)
            if key.value in members:
                raise _syntax(f"key '{key.value}' appears twice", self.file, where)
            members[key.value], keys[key.value] = self.node(item), where
        return Node(members, place, keys=keys)
