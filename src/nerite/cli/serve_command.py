# SPDX-License-Identifier: Apache-2.0
"""`nerite serve` for typer: its help, its completion, and the reading of any command line.

The options are made from the table in `flags`. A command line that can be read without typer is
read in `plain_words`, and never gets here; what both lead to is in `serve`.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from nerite.cli.flags import FLAGS, Flag
from nerite.cli.serve import serve

HELP = (
    "Serve models: model repositories in Triton's layout, a model folder, or a single model file. "
    "Triton's own flags are taken as they are (--model-repository=..., --http-port=...)."
)


def serve_command(**given: Any) -> None:
    paths = list(given.pop("repository") or ())
    words = {
        flag.name: value
        for flag in FLAGS
        if (value := given.get(flag.variable)) not in (None, False, [], ())
    }
    raise typer.Exit(serve(paths, words))


def _parameter(flag: Flag) -> inspect.Parameter:
    kinds: dict[str, Any] = {"list": list[str] | None, "switch": bool}
    shown = flag.default or None
    option = typer.Option(
        flag.name, help=flag.help, rich_help_panel=flag.group, show_default=shown or False
    )
    return inspect.Parameter(
        flag.variable,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if flag.kind == "switch" else None,
        annotation=Annotated[kinds.get(flag.kind, str | None), option],
    )


def _signature() -> inspect.Signature:
    told = "Model repositories, model folders or model files; URIs are fetched first."
    argument = typer.Argument(help=told)
    paths = inspect.Parameter(
        "repository",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[list[str] | None, argument],
    )
    return inspect.Signature([paths, *map(_parameter, FLAGS)])


# The command line is the table of flags: typer reads the signature, so it is made from the table.
serve_command.__doc__ = HELP
serve_command.__signature__ = _signature()  # type: ignore[attr-defined]
serve_command.__annotations__ = {
    name: parameter.annotation for name, parameter in _signature().parameters.items()
}
