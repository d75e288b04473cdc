# SPDX-License-Identifier: Apache-2.0
"""Read config.json, or a configuration that came as JSON, into a tree with places.

The standard library decides what is JSON; the scan here only follows it to find out where each
key stands. Meaning is given by `tree`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from nerite.config.positions import Place
from nerite.config.tree import LONGEST_NUMBER, Node, is_text
from nerite.errors import ConfigError, ConfigProblem

_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^\s,\]}]+")


def read_json(text: str, file: str) -> Node:
    """The tree of a JSON text; raises ConfigError where the text is not JSON."""
    text = text.removeprefix("\ufeff")
    try:
        # Only whether it is JSON: Python refuses to make a number of thousands of digits.
        json.loads(text, parse_int=len)
        return _Scan(text, file).value(0)[0]
    except json.JSONDecodeError as error:
        place = (error.lineno, error.colno)
        raise _syntax(f"failed to read JSON from {file}: {error.msg}", file, place) from None
    except RecursionError:
        raise _syntax(f"failed to read JSON from {file}: nested too deep", file, (0, 0)) from None


def _syntax(text: str, file: str, place: tuple[int, int]) -> ConfigError:
    fix = 'quote keys and strings with ", separate members with one comma, end with none'
    return ConfigError(ConfigProblem(text, file, *place, fix=fix))


class _Scan:
    """Walks a text that is known to be JSON."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.lines = [0, *(m.end() for m in re.finditer("\n", text))]

    def place(self, index: int) -> Place:
        line = bisect_right(self.lines, index)
        return Place(line, index - self.lines[line - 1] + 1)

    def skip(self, index: int) -> int:
        match = _SPACE.match(self.text, index)
        return match.end() if match else index

    def value(self, index: int) -> tuple[Node, int]:
        index = self.skip(index)
        first = self.text[index]
        if first == "{":
            return self._object(index)
        if first == "[":
            return self._array(index)
        if first == '"':
            value, end = self._string(index)
            return Node(value, self.place(index)), end
        match = _SCALAR.match(self.text, index)
        raw = match.group() if match else ""
        if len(raw) > LONGEST_NUMBER:
            raise self._refusal(index, f"a number of {len(raw)} characters")
        return Node(json.loads(raw), self.place(index)), index + len(raw)

    def _string(self, index: int) -> tuple[str, int]:
        """The string at a quote, and where it ends; half a surrogate pair is no text."""
        value, end = json.decoder.scanstring(self.text, index + 1)  # type: ignore[attr-defined]
        if not is_text(value):
            raise self._refusal(index, "half of a surrogate pair, which is no character")
        return str(value), int(end)

    def _refusal(self, index: int, why: str) -> ConfigError:
        return _syntax(f"failed to read JSON from {self.file}: {why}", self.file, self.place(index))

    def _object(self, start: int) -> tuple[Node, int]:
        members: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        index = self.skip(start + 1)
        while self.text[index] != "}":
            place = self.place(index)
            key, index = self._string(index)
            if key in members:
                text = f"failed to read JSON from {self.file}: key '{key}' appears twice"
                problem = ConfigProblem(text, self.file, *place, key=key, fix="keep one of them")
                raise ConfigError(problem)
            node, index = self.value(self.skip(index) + 1)
            members[key], keys[key] = node, place
            index = self._after(index)
        return Node(members, self.place(start), keys=keys), index + 1

    def _array(self, start: int) -> tuple[Node, int]:
        items: list[Node] = []
        index = self.skip(start + 1)
        while self.text[index] != "]":
            node, index = self.value(index)
            items.append(node)
            index = self._after(index)
        return Node(items, self.place(start)), index + 1

    def _after(self, index: int) -> int:
        index = self.skip(index)
        return self.skip(index + 1) if self.text[index] == "," else index
