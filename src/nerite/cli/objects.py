# SPDX-License-Identifier: Apache-2.0
"""Which of the daemon's objects a command line means: kinds and names, files, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerite.cli.daemons import daemon_client, namespace_of
from nerite.cli.manifests import read_named
from nerite.cli.resource_names import Named, named
from nerite.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from nerite.kserve.documents import Object

Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look in all namespaces.")]
Labels = Annotated[
    str, typer.Option("--selector", "-l", help="Only with these labels: a=b,c!=d,e in (f,g),!h.")
]
MaybeWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="[WORDS]...", help="KIND [NAME...], or KIND/NAME; all for every kind."),
]


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of what was meant, each with its kind, and what is said of the rest."""

    objects: list[tuple[str, Object]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    single: bool = False
    """Whether one object was named, and not a list of them."""

    def complain(self) -> None:
        """Tells of what is not there, and exits with 1 if there is any."""
        for text in self.missing:
            typer.echo(f"Error from server (NotFound): {text}", err=True)
        raise typer.Exit(int(bool(self.missing)))


def meant(words: Sequence[str], files: Sequence[str]) -> list[Named]:
    """What is named by words, or stands in files; one of the two."""
    if bool(words) == bool(files):
        raise InvalidArgument("say what is meant: KIND, KIND NAME or -f FILE; one of them")
    return named(words) if words else _in_files(files)


def find(wanted: Sequence[Named], namespace: str | None, labels: str = "") -> Found:
    """The objects that are meant; all namespaces if there is none given."""
    from nerite.local.labels import selector

    if labels and any(entry.names for entry in wanted):
        raise InvalidArgument("name cannot be provided when a selector is specified")
    matches, client = selector(labels), daemon_client()
    found: list[tuple[str, Object]] = []
    missing: list[str] = []
    for entry in wanted:
        here = entry.namespace or namespace
        where = namespace_of(entry.kind, here) if here else None
        for name in entry.names or (None,):
            try:
                values: list[dict[str, Any]] = client.objects(entry.kind, where, name)
            except NotFound as error:
                missing.append(error.message)
                continue
            found += [(entry.kind, value) for value in values if matches(value)]
    return Found(found, missing, len(wanted) == 1 and len(wanted[0].names) == 1)


def _in_files(files: Sequence[str]) -> list[Named]:
    from nerite.kserve.admission import is_foreign

    found = []
    for document in read_named(files):
        if is_foreign(document):
            continue
        metadata = document.value.get("metadata") or {}
        place = str(metadata.get("namespace") or "default")
        found.append(Named(document.kind, (str(metadata.get("name", "")),), place))
    return found
