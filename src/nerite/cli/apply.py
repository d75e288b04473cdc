# SPDX-License-Identifier: Apache-2.0
"""`nerite apply` and `nerite delete`: what shall run, said to the daemon in kubectl's words."""

from __future__ import annotations

from typing import Annotated

import typer

from nerite.cli.daemons import daemon_client, namespace_of
from nerite.cli.manifests import Filenames, MaybeFilenames, Namespace, read_manifests
from nerite.cli.objects import Everywhere, Labels, MaybeWords, find, meant
from nerite.cli.resource_names import Named
from nerite.errors import InvalidArgument, NotFound


def apply(files: Filenames) -> None:
    """Apply files of KServe resources to the running daemon; all of them, or none.

    The daemon is `nerite up`. A relative storageUri is meant from the file that holds it.
    """
    from nerite.kserve.documents import read_documents

    manifests = read_manifests(files)
    if not any(read_documents(text, shown) for shown, _, text in manifests):
        raise InvalidArgument(f"no objects passed to apply: {', '.join(files)}")
    for result in daemon_client().apply(manifests):
        typer.echo(f"{result['shown']} {result['outcome']}")


def delete(
    words: MaybeWords = None,
    *,
    files: MaybeFilenames = None,
    namespace: Namespace = "default",
    everywhere: Everywhere = False,
    labels: Labels = "",
    every: Annotated[bool, typer.Option("--all", help="All objects of the kind.")] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there is no error.")
    ] = False,
) -> None:
    """Delete resources; returns when their processes have ended."""
    wanted = meant(words or [], files or [])
    where = None if everywhere else namespace
    if every or labels:
        keys = _chosen(wanted, where, labels)
    elif everywhere:
        raise InvalidArgument("a resource cannot be retrieved by name across all namespaces")
    else:
        keys = _named(wanted, namespace)
    client = daemon_client()
    missing: list[str] = []
    for kind, place, name in keys:
        try:
            client.delete(kind, place, name)
        except NotFound as error:
            if not ignore_not_found:
                missing.append(f"Error from server (NotFound): {error.message}")
            continue
        group = ".serving.kserve.io" if kind not in ("Secret", "ServiceAccount") else ""
        typer.echo(f'{kind.lower()}{group} "{name}" deleted')
    for text in missing:
        typer.echo(text, err=True)
    raise typer.Exit(int(bool(missing)))


Key = tuple[str, str, str]


def _named(wanted: list[Named], namespace: str) -> list[Key]:
    keys = []
    for entry in wanted:
        if not entry.names:
            raise InvalidArgument(
                "resource(s) were provided, but no name was specified; --all means all of them"
            )
        where = namespace_of(entry.kind, entry.namespace or namespace)
        keys += [(entry.kind, where, name) for name in entry.names]
    return keys


def _chosen(wanted: list[Named], namespace: str | None, labels: str) -> list[Key]:
    """Everything of the kinds, or what has the labels; runtimes of KServe's own stay."""
    if any(entry.names for entry in wanted):
        raise InvalidArgument("name cannot be provided when a selector or --all is specified")
    found = find(wanted, namespace, labels).objects
    # What was not created here has no age: the built-in runtimes.
    metadata = [(kind, value["metadata"]) for kind, value in found]
    return [
        (kind, str(told.get("namespace", "")), str(told["name"]))
        for kind, told in metadata
        if "creationTimestamp" in told
    ]
