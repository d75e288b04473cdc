# SPDX-License-Identifier: Apache-2.0
"""Which of Triton's error texts some test holds Nerite to.

The texts are in `quoted.txt`. What tests expect is gathered from the recorded exchanges that are
played, the recorded configurations that agree, and the words of the tests themselves, in both
languages.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.conformance import differences
from tests.conformance.vectors import cases

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
_LINE = re.compile(r"(\S+) \| (.*?) ?\| (.+)")
_RUST_STRING = re.compile(r'(?<![\w\'])b?(?:r#"(.*?)"#|"((?:[^"\\]|\\.)*)")', re.DOTALL)


@dataclass(frozen=True)
class Text:
    """One text of Triton's."""

    section: str
    fate: str
    """Empty if a test must hold us to it; else what it waits for, or what is better."""
    words: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """What finds it, with anything where it varies."""
        return re.compile(r"[^\x00]{0,300}?".join(map(re.escape, self.words.split("{}"))))


@cache
def texts() -> tuple[Text, ...]:
    """All of them, in the order of the file."""
    lines = (HERE / "quoted.txt").read_text().splitlines()
    parts = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(parts), "section | fate | text"
    return tuple(Text(*part.groups()) for part in parts if part)


@cache
def expected() -> str:
    """Everything that some test expects, as one text."""
    return "\x00".join([*_played(), *_configurations(), *_python(), *_rust()])


def is_expected(text: Text) -> bool:
    """Whether some test holds Nerite to the text."""
    return text.pattern.search(expected()) is not None


def unproduced() -> list[Text]:
    """Those that no test holds us to, whatever their fate."""
    return [text for text in texts() if not is_expected(text)]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if value.startswith(("{", "[")):
            with contextlib.suppress(ValueError):
                yield from _strings(json.loads(value))  # an error body, without its escapes
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _played() -> Iterator[str]:
    for case in cases():
        if case.id not in differences.MENDED:
            for step in case.steps:
                yield from _strings(step.get("expect"))


def _configurations() -> Iterator[str]:
    from tests.config import test_vectors as recorded

    for name in recorded.THEMES:
        for case in recorded.theme(name)["cases"]:
            if case["id"] not in recorded.ELSEWHERE and case["id"] not in recorded.DIFFERENT:
                yield from _strings(case["expect"])


def _python() -> Iterator[str]:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path.parent == HERE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                constants = (
                    p.value if isinstance(p, ast.Constant) else "\x01" for p in node.values
                )
                yield "".join(map(str, constants))
    yield from (part for _, part in differences.MENDED.values())


def _rust() -> Iterator[str]:
    for path in sorted((ROOT / "rust").glob("*/**/*.rs")):
        if "target" in path.parts:
            continue
        source = path.read_text()
        if "tests" not in path.parts and path.name != "tests.rs":
            _, _, source = source.partition("#[cfg(test)]")
        for raw, plain in _RUST_STRING.findall(source):
            yield raw or re.sub(r"\\\n\s*", "", plain).replace('\\"', '"').replace("\\\\", "\\")
