# SPDX-License-Identifier: Apache-2.0
"""`nerite backends`: what can run models here, from where, and what is missing for the rest."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nerite.cli import screen
from nerite.errors import MissingExtra, NeriteError


def backends(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List the backends: ready, or what to install, or why one cannot be imported."""
    listed = found()
    if as_json:
        typer.echo(json.dumps(listed))
        return
    rows = [
        [one["name"], one["state"], one["source"], one["install"] or one["reason"]]
        for one in listed
    ]
    paint = screen.Paint.for_stdout()
    typer.echo(screen.table(["BACKEND", "STATE", "FROM", "TO DO"], rows, paint))


def found() -> list[dict[str, Any]]:
    """Every backend with its state: `ready`, `missing` (a package) or `broken`."""
    from nerite.backends import registry

    return [_described(name, registry.source_of(name)) for name in registry.available()]


def _described(name: str, source: str) -> dict[str, Any]:
    from nerite.backends import registry

    told = {"name": name, "state": "ready", "source": source, "install": "", "reason": ""}
    try:
        registry.find(name)
    except MissingExtra as why:
        told |= {"state": "missing", "install": f"pip install 'nerite[{why.extra}]'"}
        told["reason"] = why.message
    except NeriteError as why:
        told |= {"state": "broken", "reason": why.message}
    except Exception as why:  # a library that breaks while it is imported: the list goes on
        told |= {"state": "broken", "reason": f"{type(why).__name__}: {why}"}
    return told
