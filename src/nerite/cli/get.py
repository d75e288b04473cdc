# SPDX-License-Identifier: Apache-2.0
"""`nerite get`, `describe` and `logs`: what the daemon has and runs, shown as kubectl shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from nerite.cli import printing
from nerite.cli.daemons import daemon_client, namespace_of
from nerite.cli.manifests import MaybeFilenames, Namespace
from nerite.cli.objects import Everywhere, Labels, MaybeWords, find, meant
from nerite.cli.printing import View
from nerite.cli.resource_names import Named
from nerite.errors import InvalidArgument, NotFound


def get(
    words: MaybeWords = None,
    *,
    files: MaybeFilenames = None,
    namespace: Namespace = "default",
    everywhere: Everywhere = False,
    labels: Labels = "",
    output: Annotated[str, typer.Option("--output", "-o", help=printing.OUTPUTS)] = "",
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="Leave the headings of tables out.")
    ] = False,
    show_labels: Annotated[
        bool, typer.Option("--show-labels", help="Show the labels in a last column.")
    ] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there is no error.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with a line for every change.")
    ] = False,
) -> None:
    """Show resources: isvc, servingruntimes, clusterservingruntimes, inferencegraphs, ..."""
    printing.check_output(output)
    wanted = meant(words or [], files or [])
    where = None if everywhere else namespace
    view = View(output, everywhere, not no_headers, show_labels)
    if watch:
        _watch(wanted, where, labels, view)
        return
    found = find(wanted, where, labels)
    if ignore_not_found:
        found.missing.clear()
    text = printing.shown(found, view)
    if text:
        typer.echo(text, nl=not output.startswith("jsonpath="))
    elif not found.objects and not found.missing and not any(e.names for e in wanted):
        place = f" in {where} namespace" if where else ""
        typer.echo(f"No resources found{place}.", err=True)
    found.complain()


def _watch(wanted: Sequence[Named], namespace: str | None, labels: str, view: View) -> None:
    from nerite.local import tables
    from nerite.local.labels import selector

    if len(wanted) != 1 or len(wanted[0].names) > 1:
        raise InvalidArgument("you may only specify a single resource type, and one name, to watch")
    kind, (name, *_), matches = wanted[0].kind, [*wanted[0].names, None], selector(labels)
    where = namespace_of(kind, namespace) if namespace else None
    widths: list[int] | None = None
    try:
        for change in daemon_client().watch(kind, where, name):
            value = change["object"]
            if not matches(value):
                continue
            if view.output in ("json", "yaml"):
                typer.echo(printing.streamed(value, view.output))
                continue
            rows = [printing.row(kind, value, view)]
            if widths is None and view.headings:
                rows.insert(0, printing.heading(kind, view))
            lines = tables.aligned(rows, widths)
            if widths is None:
                widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            typer.echo("\n".join(lines))
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def describe(
    words: MaybeWords = None,
    *,
    files: MaybeFilenames = None,
    namespace: Namespace = "default",
    everywhere: Everywhere = False,
    labels: Labels = "",
) -> None:
    """Show resources in full, with conditions, processes and events."""
    from nerite.local.describing import described

    client = daemon_client()
    where = None if everywhere else namespace
    found = find(meant(words or [], files or []), where, labels)
    texts = []
    for kind, value in found.objects:
        metadata = value["metadata"]
        runs = kind in ("InferenceService", "TrainedModel", "InferenceGraph")
        details = client.details(metadata["namespace"], metadata["name"], kind) if runs else {}
        texts.append(described(value, details, time.time()))
    if texts:
        typer.echo("\n\n\n".join(texts))
    elif not found.missing:
        place = f" in {where} namespace" if where else ""
        typer.echo(f"No resources found{place}.", err=True)
    found.complain()


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
