# SPDX-License-Identifier: Apache-2.0
"""Reads a command line of `nerite serve` that needs no explanation, without typer.

typer and what it imports take longer than all that a server does until it listens, and containers
start with a few plain flags. Whatever is not plain (help, a mistake, a short option, `--`) is
left to typer, which understands it or says what is wrong. The tests hold both to the same meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from nerite.cli.flags import BY_NAME
from nerite.cli.options import Given


def read_plain(words: Sequence[str]) -> tuple[list[str], dict[str, Given]] | None:
    """Paths, and what was written for each flag; None if typer has to look."""
    paths: list[str] = []
    written: dict[str, list[str]] = {}
    left = iter(words)
    for word in left:
        if not word or not word.isprintable():
            return None
        if not word.startswith("-"):
            paths.append(word)
            continue
        name, equals, value = word.partition("=")
        flag = BY_NAME.get(name)
        if flag is None or (flag.kind == "switch" and equals):
            return None
        if flag.kind != "switch" and not equals:
            value = next(left, "-")
            if value.startswith("-") or not value.isprintable():
                return None
        written.setdefault(name, []).append(value)
    if not words:
        return None
    # In the order of the table, as typer's are: of two mistakes the same is told first.
    return paths, {name: _given(name, written[name]) for name in BY_NAME if name in written}


def _given(name: str, values: list[str]) -> Given:
    kind = BY_NAME[name].kind
    if kind == "list":
        return values
    return True if kind == "switch" else values[-1]
