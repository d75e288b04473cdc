# SPDX-License-Identifier: Apache-2.0
"""Files of resources as the command line names them: `-f FILE`, a folder, a URL, or `-`."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerite.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from nerite.kserve.documents import Document

_PATIENCE_SECS = 30
_MOST_BYTES = 2**24

# Texts and no `Path`, which would make `http:/` of `http://`.
_FILENAME = typer.Option(
    "--filename", "-f", help="File, folder of files, URL, or - for the input; may be repeated."
)
Filenames = Annotated[list[str], _FILENAME]
MaybeFilenames = Annotated[list[str] | None, _FILENAME]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace to look in.")]


def read_manifests(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Each file as it is shown, its absolute path, and its text.

    Objects that nothing is done about are told of.
    """
    from nerite.kserve.documents import read_documents

    found = [entry for name in names for entry in _texts(name)]
    everything: list[Document] = []
    for shown, _, text in found:
        documents = read_documents(text, shown)
        warn_of_foreign(documents)
        everything += documents
    warn_of_repeated(everything)
    return found


def read_named(names: Sequence[str]) -> list[Document]:
    """The documents of everything that was named."""
    from nerite.kserve.documents import read_documents

    texts = [entry for name in names for entry in _texts(name)]
    return [document for shown, _, text in texts for document in read_documents(text, shown)]


def _texts(name: str) -> Iterator[tuple[str, str, str]]:
    from nerite.kserve.documents import decoded, read_texts

    if name == "-":
        text = decoded(sys.stdin.buffer.read(), "<stdin>")
        yield "<stdin>", str(Path.cwd() / "stdin"), text
    elif name.startswith(("http://", "https://")):
        yield name, str(Path.cwd() / "stdin"), decoded(_fetched(name), name)
    else:
        for file, text in read_texts([name]):
            yield str(file), str(file.absolute()), text


def _fetched(url: str) -> bytes:
    """What a URL answers, of a size that resources may have."""
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_SECS) as answer:  # noqa: S310 - as named
            content: bytes = answer.read(_MOST_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ConfigError(ConfigProblem(f"cannot be read: {error}", url)) from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(ConfigProblem("more than 16 MiB, which no resources are", url))
    return content


def warn_of_foreign(documents: Sequence[Document]) -> None:
    """Tells of objects that are another API's, which nothing is done about."""
    from nerite.kserve.admission import is_foreign

    for document in documents:
        if is_foreign(document):
            told = f"{document.value['apiVersion']} {document.kind}"
            _warn(document, f"left out: {told} is not KServe's")


def warn_of_repeated(documents: Sequence[Document]) -> None:
    """Tells of objects that are given twice, of which the last one counts."""
    last: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        metadata = document.value.get("metadata")
        if not isinstance(metadata, dict) or not metadata.get("name"):
            continue
        namespace, name = str(metadata.get("namespace") or "default"), str(metadata["name"])
        before = last.get((document.kind, namespace, name))
        if before is not None:
            where = f"{before.file}:{before.position(()).line}"
            _warn(document, f'{document.kind} "{name}" replaces the one at {where}')
        last[document.kind, namespace, name] = document


def _warn(document: Document, text: str) -> None:
    where = f"{document.file}:{document.position(()).line}"
    print(f"warning: {where}: {text}", file=sys.stderr)
