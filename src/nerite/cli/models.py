# SPDX-License-Identifier: Apache-2.0
"""`nerite models`: what a running server knows, in which state, and why not ready; load and unload.

Loading and unloading need a server in explicit mode; it says so itself.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from nerite.cli import examples, screen
from nerite.cli.client import API_KEY, Client
from nerite.cli.connections import DEFAULT_URL, CaFile, Insecure, Trust, Url
from nerite.errors import InvalidArgument

ApiKey = Annotated[str, typer.Option(envvar=API_KEY, help="API key to show.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print entries of the index as JSON.")]
Name = Annotated[str, typer.Argument(help="The model.", show_default=False)]


class _Asked(NamedTuple):
    """The options that all subcommands have."""

    url: str = DEFAULT_URL
    api_key: str = ""
    as_json: bool = False
    ca_file: str = ""
    insecure: bool = False

    def or_before(self, context: typer.Context) -> _Asked:
        """Options count before the word `load` too: `nerite models --url U load M`."""
        before = context.obj or _Asked()
        return _Asked(
            self.url if self.url != DEFAULT_URL else before.url,
            self.api_key or before.api_key,
            self.as_json or before.as_json,
            self.ca_file or before.ca_file,
            self.insecure or before.insecure,
        )

    def client(self, timeout: float | None = 60.0) -> Client:
        """A client of the server."""
        return Client(self.url, self.api_key, timeout, Trust(self.ca_file, self.insecure))


app = typer.Typer(help="List, load and unload the models of a running server.")


@app.callback(invoke_without_command=True, epilog=examples.of("models"))
def models(
    context: typer.Context,
    *,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    as_json: AsJson = False,
    ca_file: CaFile = "",
    insecure: Insecure = False,
) -> None:
    """List the models of a running server with their states and, if not ready, the reasons."""
    if context.invoked_subcommand is not None:
        context.obj = _Asked(url, api_key, as_json, ca_file, insecure)
        return
    with _Asked(url, api_key, as_json, ca_file, insecure).client() as client:
        index = client.index()
    if not index and not as_json:
        typer.echo(f"the server at {url} has no models")
    else:
        _show(index, as_json)


@app.command("load", epilog=examples.of("models load"), no_args_is_help=True)
def load(
    context: typer.Context,
    name: Name,
    *,
    config: Annotated[
        str,
        typer.Option(
            help="A configuration instead of the repository's: a file, or JSON as it is.",
            show_default=False,
        ),
    ] = "",
    file: Annotated[
        list[str] | None,
        typer.Option(
            help="VERSION/NAME=FILE: send this file; with --config, may be repeated. "
            "Files that are sent take the place of all of the repository's.",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    as_json: AsJson = False,
    ca_file: CaFile = "",
    insecure: Insecure = False,
) -> None:
    """Load a model, or load it again if it has changed; waits until it serves."""
    asked = _Asked(url, api_key, as_json, ca_file, insecure).or_before(context)
    parameters: dict[str, str] = {}
    if config:
        parameters["config"] = _config_json(config)
    for word in file or ():
        parameters |= _file_parameter(word)
    with asked.client(timeout=None) as client:  # it may take minutes
        client.load(name, parameters)
        _show([each for each in client.index() if each["name"] == name], asked.as_json)


@app.command("unload", epilog=examples.of("models unload"), no_args_is_help=True)
def unload(
    context: typer.Context,
    name: Name,
    *,
    dependents: Annotated[
        bool, typer.Option(help="Unload also what was loaded only because of it.")
    ] = False,
    wait: Annotated[
        float, typer.Option(help="How long to wait for its last requests, in seconds.")
    ] = 30.0,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    as_json: AsJson = False,
    ca_file: CaFile = "",
    insecure: Insecure = False,
) -> None:
    """Unload a model; new requests are refused at once, accepted ones are answered."""
    asked = _Asked(url, api_key, as_json, ca_file, insecure).or_before(context)
    with asked.client() as client:
        client.unload(name, dependents=dependents)
        end = time.monotonic() + wait
        while True:
            entries = [each for each in client.index() if each["name"] == name]
            is_ending = any(each.get("state") == "UNLOADING" for each in entries)
            if not is_ending or time.monotonic() > end:
                break
            time.sleep(0.05)
    _show(entries, asked.as_json)


def _show(index: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(index))
        return
    rows = [
        [entry.get(key, "") for key in ("name", "version", "state", "reason")] for entry in index
    ]
    typer.echo(
        screen.table(["MODEL", "VERSION", "STATE", "REASON"], rows, screen.Paint.for_stdout())
    )


def _config_json(given: str) -> str:
    """JSON as it is, or what a configuration file says, in whichever form it is written."""
    if given.lstrip().startswith("{"):
        return given
    from nerite.config.model import ModelConfig
    from nerite.config.read import read_config_file

    path = Path(given)
    if not path.is_file():
        raise InvalidArgument(f"--config: there is no file '{given}', and it is not a JSON object")
    return ModelConfig(read_config_file(path)[0]).to_json()


def _file_parameter(word: str) -> dict[str, Any]:
    name, equals, path = word.partition("=")
    if not equals or not name:
        raise InvalidArgument(f"--file: '{word}' is not VERSION/NAME=FILE")
    try:
        content = Path(path).read_bytes()
    except OSError as why:
        raise InvalidArgument(f"--file: '{path}' cannot be read: {why.strerror}") from why
    return {f"file:{name}": base64.b64encode(content).decode()}
