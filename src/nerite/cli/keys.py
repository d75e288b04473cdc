# SPDX-License-Identifier: Apache-2.0
"""`nerite keys`: API keys for the file of `--api-keys`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nerite.cli import examples

keys = typer.Typer(help="Make API keys for the file of --api-keys.", no_args_is_help=True)


@keys.callback()
def _keys() -> None:
    """Keeps `new` a command of its own while it is the only one."""


@keys.command("new", epilog=examples.of("keys new"), no_args_is_help=True)
def new(
    name: Annotated[str, typer.Argument(help="What you call the key; logs and errors name it.")],
    scopes: Annotated[
        str, typer.Option(help="What it is for: infer, manage, metrics; with commas.")
    ] = "infer",
    models: Annotated[
        str, typer.Option(help="Patterns of model names that it is for; with commas.")
    ] = "*",
    file: Annotated[str, typer.Option(help="Append its line to this file.")] = "",
) -> None:
    """Make a key, print it once, and append its line, which holds only its digest, to a file."""
    from nerite.server.key_file import append_key, new_key

    key, line = new_key(name, scopes.split(","), models.split(","))
    if file:
        append_key(file, line)
        print(f"appended key '{name}' to {file}; it is shown only this once:", file=sys.stderr)
    else:
        print(f"add this line to the file of --api-keys:\n{line}\nthe key:", file=sys.stderr)
    typer.echo(key)
