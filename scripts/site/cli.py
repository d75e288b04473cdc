# SPDX-License-Identifier: Apache-2.0
"""The page on the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main
from scripts.site.tables import NOTE, code, sentence, table

from nerite.cli.commands import command_line

_HEAD = f"""{NOTE}
# Command line

Exit codes: 0 if it is done; 1 for wrong words, a problem that was found, or an error, which is
told in one line on standard error.
`-h` or `--help` shows the same as this page.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, groups before what is in them."""
    yield from _below("nerite", typer.main.get_command(command_line()))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, child in getattr(command, "commands", {}).items():
        yield from _below(f"{name} {word}", child)


def page() -> str:
    """All commands, in the order of the help."""
    return _HEAD + "".join(_section(name, command) for name, command in commands())


def _section(name: str, command: Any) -> str:
    words = " ".join(_metavar(p) for p in command.params if p.param_type_name == "argument")
    parts = [f"\n## `{name}` {{#{name.replace(' ', '-')}}}\n\n"]
    parts.append(f"{inspect.cleandoc(command.help or '')}\n\n")
    grouped = bool(getattr(command, "commands", {}))
    line = f"{name} [OPTIONS] {'COMMAND' if grouped else words}".rstrip()
    parts.append(f"    {line}\n\n")
    if command.epilog:
        parts.append(f"{_epilog(command.epilog)}\n\n")
    if name == "nerite serve":
        return "".join([*parts, "[All of its flags](flags.md).\n"])
    rows = [_row(param) for param in command.params if not param.hidden and param.name != "help"]
    if rows:
        parts.append(table(("word", "default", "what it does"), rows))
    return "".join(parts)


def _epilog(text: str) -> str:
    """The examples of the help as a block; its lines stand apart by empty ones there."""
    lines = [line.strip() for line in inspect.cleandoc(text).splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines)


def _row(param: Any) -> tuple[str, str, str]:
    if param.param_type_name == "argument":
        return code(_metavar(param)), "", sentence(getattr(param, "help", "") or "")
    names = ", ".join(map(code, [*reversed(param.opts), *param.secondary_opts]))
    default = "" if param.default in (None, False, [], ()) else str(param.default)
    variable = f" Also the variable `{param.envvar}`." if param.envvar else ""
    return names, code(default), sentence(param.help or "") + variable


def _metavar(param: Any) -> str:
    word = param.metavar or param.name.upper()
    return f"{word}..." if param.nargs == -1 and "..." not in word else word
