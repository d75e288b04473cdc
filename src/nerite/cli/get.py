# SPDX-License-Identifier: Apache-2.0
"""`nerite get`, `describe` and `logs`: what the daemon has and runs, shown as kubectl shows it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerite.cli.daemons import daemon_client, namespace_of
from nerite.cli.manifests import Namespace
from nerite.cli.resource_names import Named, named
from nerite.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from nerite.local.client import DaemonClient

_OUTPUTS = ("", "wide", "yaml", "json", "name")
Words = Annotated[list[str], typer.Argument(help="KIND [NAME...], or KIND/NAME.")]


def get(
    words: Words,
    namespace: Namespace = "default",
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Look in all namespaces.")
    ] = False,
    output: Annotated[
        str, typer.Option("--output", "-o", help="wide, yaml, json, name or jsonpath={.a.b}.")
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with a line for every change.")
    ] = False,
) -> None:
    """Show resources: isvc, servingruntimes, clusterservingruntimes, inferencegraphs, ..."""
    path = output.removeprefix("jsonpath=") if output.startswith("jsonpath=") else None
    if path is None and output not in _OUTPUTS:
        known = ", ".join(_OUTPUTS[1:])
        raise InvalidArgument(f"-o '{output}' is not known; use {known} or jsonpath={{.a.b[0]}}")
    client, wanted = daemon_client(), named(words)
    where = None if everywhere else namespace
    if watch:
        _watch(client, wanted, where, output)
        return
    found, missing = _found(client, wanted, where)
    if path is not None:
        from nerite.local.jsonpath import value_at

        typer.echo(" ".join(value_at(value, path) for _, value in found), nl=False)
    elif output in ("json", "yaml"):
        single = len(wanted) == 1 and len(wanted[0].names) == 1
        if found or not single:
            typer.echo(_document([value for _, value in found], single, output))
    else:
        _show_tables(found, wanted, where, output)
    for text in missing:
        typer.echo(f"Error from server (NotFound): {text}", err=True)
    raise typer.Exit(int(bool(missing)))


Found = list[tuple[str, dict[str, Any]]]


def _found(
    client: DaemonClient, wanted: Sequence[Named], namespace: str | None
) -> tuple[Found, list[str]]:
    found: Found = []
    missing: list[str] = []
    for entry in wanted:
        where = namespace_of(entry.kind, namespace) if namespace else None
        for name in entry.names or (None,):
            try:
                values = client.objects(entry.kind, where, name)
            except NotFound as error:
                missing.append(error.message)
                continue
            found += [(entry.kind, value) for value in values]
    return found, missing


def _document(values: Sequence[dict[str, Any]], single: bool, output: str) -> str:
    """One object, or a list of several as kubectl writes it."""
    value: Any = (
        values[0]
        if single
        else {
            "apiVersion": "v1",
            "items": list(values),
            "kind": "List",
            "metadata": {"resourceVersion": ""},
        }
    )
    if output == "json":
        return json.dumps(value, indent=4, sort_keys=True)
    import yaml

    return yaml.safe_dump(value, default_flow_style=False, allow_unicode=True).rstrip()


def _show_tables(found: Found, wanted: Sequence[Named], namespace: str | None, output: str) -> None:
    from nerite.local import tables
    from nerite.local.catalog import Change

    if output == "name":
        for kind, value in found:
            typer.echo(Change(kind, "", value["metadata"]["name"], "").shown)
        return
    if not found and not any(entry.names for entry in wanted):
        place = f" in {namespace} namespace" if namespace else ""
        typer.echo(f"No resources found{place}.", err=True)
    shown = 0
    for kind in dict.fromkeys(entry.kind for entry in wanted):
        values = [value for each, value in found if each == kind]
        if not values:
            continue
        wide, namespaces = output == "wide", namespace is None
        rows = [tables.columns(kind, wide, namespaces)]
        rows += [tables.cells(value, kind, time.time(), wide, namespaces) for value in values]
        lines = tables.aligned(rows)
        typer.echo("\n".join([*([""] if shown else []), *lines]))
        shown += 1


def _watch(
    client: DaemonClient, wanted: Sequence[Named], namespace: str | None, output: str
) -> None:
    from nerite.local import tables

    if len(wanted) != 1 or len(wanted[0].names) > 1:
        raise InvalidArgument("you may only specify a single resource type, and one name, to watch")
    kind = wanted[0].kind
    where = namespace_of(kind, namespace) if namespace else None
    name = wanted[0].names[0] if wanted[0].names else None
    wide, namespaces = output == "wide", namespace is None
    widths: list[int] | None = None
    try:
        for change in client.watch(kind, where, name):
            value = change["object"]
            if output in ("json", "yaml"):
                typer.echo(("---\n" if output == "yaml" else "") + _document([value], True, output))
                continue
            rows = [tables.cells(value, kind, time.time(), wide, namespaces)]
            if widths is None:
                rows.insert(0, tables.columns(kind, wide, namespaces))
            lines = tables.aligned(rows, widths)
            if widths is None:
                widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            typer.echo("\n".join(lines))
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def describe(words: Words, namespace: Namespace = "default") -> None:
    """Show resources in full, with conditions, processes and events."""
    from nerite.local.describing import described

    client = daemon_client()
    found, missing = _found(client, named(words), namespace)
    texts = []
    for kind, value in found:
        metadata = value["metadata"]
        runs = kind in ("InferenceService", "TrainedModel", "InferenceGraph")
        details = client.details(metadata["namespace"], metadata["name"], kind) if runs else {}
        texts.append(described(value, details, time.time()))
    if texts:
        typer.echo("\n\n\n".join(texts))
    for text in missing:
        typer.echo(f"Error from server (NotFound): {text}", err=True)
    raise typer.Exit(int(bool(missing)))


def logs(
    name: Annotated[str, typer.Argument(help="An InferenceService, or one of its components.")],
    *,
    namespace: Namespace = "default",
    component: Annotated[
        str, typer.Option(help="predictor, transformer or explainer.", show_default="predictor")
    ] = "",
    container: Annotated[
        str, typer.Option("--container", "-c", help="A container of it.", show_default=False)
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    tail: Annotated[int, typer.Option(help="Only so many of the last lines; -1: all.")] = -1,
) -> None:
    """Show what the processes of a service have printed."""
    name = name.rpartition("/")[2]
    choices = {
        "component": component,
        "container": container,
        "follow": "true" if follow else "",
        "tail": str(tail) if tail >= 0 else "",
    }
    try:
        for line in daemon_client().logs(namespace, name, **choices):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except NotFound as error:
        typer.echo(f"Error from server (NotFound): {error.message}", err=True)
        raise typer.Exit(1) from None
