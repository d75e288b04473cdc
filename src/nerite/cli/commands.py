# SPDX-License-Identifier: Apache-2.0
"""The sub-commands of `nerite`, in the order in which the help lists them.

Each is in a module of its own, which is imported when the command is run or the help lists all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import typer

from nerite.cli import examples

#: Command -> its module, and the function, or the group of commands, in there.
_HOMES: Final[dict[str, tuple[str, str]]] = {
    "serve": ("serve_command", "serve_command"),
    "check": ("check", "check"),
    "explain": ("explain", "explain"),
    "export": ("export", "app"),
    "up": ("up", "up"),
    "apply": ("apply", "apply"),
    "get": ("get", "get"),
    "describe": ("get", "describe"),
    "wait": ("wait", "wait"),
    "logs": ("get", "logs"),
    "delete": ("apply", "delete"),
    "infer": ("infer", "infer"),
    "models": ("models", "app"),
    "backends": ("backends", "backends"),
    "keys": ("keys", "keys"),
    "storage-initializer": ("storage_initializer", "storage_initializer"),
    "demo": ("demo", "demo"),
    "version": ("version", "version"),
}
#: Commands that do something when nothing is written after them.
_ALONE: Final = ("up", "backends", "demo", "version")


def command_line(word: str = "") -> typer.Typer:
    """The command `nerite`: with all sub-commands, or only with the one of this name."""
    app = typer.Typer(
        name="nerite",
        help="Serve models over HTTP and gRPC, batched, from a model repository or a single file.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)  # else typer would take an only sub-command for the command
    for name in (word,) if word in _HOMES else _HOMES:
        _add(app, name)
    return app


def _add(app: typer.Typer, name: str) -> None:
    module, attribute = _HOMES[name]
    found: Any = getattr(import_module(f"nerite.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
        return
    told: dict[str, Any] = {} if name in _ALONE else {"no_args_is_help": True}
    if name in examples.EXAMPLES:
        told["epilog"] = examples.of(name)
    app.command(name, **told)(found)
