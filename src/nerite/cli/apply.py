# SPDX-License-Identifier: Apache-2.0
"""`nerite apply` and `nerite delete`: what shall run, said to the daemon in kubectl's words."""

from __future__ import annotations

from typing import Annotated

import typer

from nerite.cli.daemons import daemon_client, namespace_of
from nerite.cli.manifests import Filenames, MaybeFilenames, Namespace, read_manifests
from nerite.cli.resource_names import named
from nerite.errors import InvalidArgument, NotFound


def apply(files: Filenames) -> None:
    """Apply files of KServe resources to the running daemon; all of them, or none.

    The daemon is `nerite up`. A relative storageUri is meant from the file that holds it.
    """
    for result in daemon_client().apply(read_manifests(files)):
        typer.echo(f"{result['shown']} {result['outcome']}")


def delete(
    words: Annotated[
        list[str] | None, typer.Argument(help="KIND NAME..., or KIND/NAME.", show_default=False)
    ] = None,
    files: MaybeFilenames = None,
    namespace: Namespace = "default",
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there is no error.")
    ] = False,
) -> None:
    """Delete resources; returns when their processes have ended."""
    if bool(words) == bool(files):
        raise InvalidArgument("name what to delete: KIND NAME, or -f FILE, and not both")
    client = daemon_client()
    keys = _in_files(files) if files else []
    for entry in named(words) if words else []:
        if not entry.names:
            raise InvalidArgument("resource(s) were provided, but no name was specified")
        where = namespace_of(entry.kind, namespace)
        keys += [(entry.kind, where, name) for name in entry.names]
    missing: list[str] = []
    for kind, where, name in keys:
        try:
            client.delete(kind, where, name)
        except NotFound as error:
            if not ignore_not_found:
                missing.append(f"Error from server (NotFound): {error.message}")
            continue
        group = ".serving.kserve.io" if kind not in ("Secret", "ServiceAccount") else ""
        typer.echo(f'{kind.lower()}{group} "{name}" deleted')
    for text in missing:
        typer.echo(text, err=True)
    raise typer.Exit(int(bool(missing)))


def _in_files(files: list[str]) -> list[tuple[str, str, str]]:
    from nerite.kserve.admission import is_foreign
    from nerite.kserve.documents import read_documents

    found = []
    for shown, _, text in read_manifests(files):
        for document in read_documents(text, shown):
            if is_foreign(document):
                continue
            metadata = document.value.get("metadata") or {}
            where = namespace_of(document.kind, str(metadata.get("namespace") or "default"))
            found.append((document.kind, where, str(metadata.get("name", ""))))
    return found
