# SPDX-License-Identifier: Apache-2.0
"""`nerite models`: what a running server knows, in which state, and why not ready."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nerite.cli import screen
from nerite.cli.client import API_KEY, DEFAULT_URL, Client


def models(
    url: Annotated[str, typer.Option(help="Address of the server's HTTP port.")] = DEFAULT_URL,
    api_key: Annotated[str, typer.Option(envvar=API_KEY, help="API key to show.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the index as JSON.")] = False,
) -> None:
    """List the models of a running server with their states and, if not ready, the reasons."""
    with Client(url, api_key) as client:
        index = client.index()
    if as_json:
        typer.echo(json.dumps(index))
        return
    if not index:
        typer.echo(f"the server at {url} has no models")
        return
    rows = [
        [entry.get(key, "") for key in ("name", "version", "state", "reason")] for entry in index
    ]
    typer.echo(
        screen.table(["MODEL", "VERSION", "STATE", "REASON"], rows, screen.Paint.for_stdout())
    )
