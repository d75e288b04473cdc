# SPDX-License-Identifier: Apache-2.0
"""Files of resources as the command line names them: `-f FILE`, a folder, or `-` for the input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nerite.kserve.documents import Document

Filenames = Annotated[
    list[Path],
    typer.Option(
        "--filename", "-f", help="File, folder of files, or - for the input; may be repeated."
    ),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace to look in.")]


def read_manifests(paths: Sequence[Path]) -> list[tuple[str, str, str]]:
    """Each file as it is shown, its absolute path, and its text.

    Objects that nothing is done about are told of.
    """
    from nerite.kserve.documents import read_documents, read_texts

    found: list[tuple[str, str, str]] = []
    for path in paths:
        if str(path) == "-":
            found.append(("<stdin>", str(Path.cwd() / "stdin"), sys.stdin.read()))
        else:
            texts = read_texts([path])
            found += [(str(file), str(file.absolute()), text) for file, text in texts]
    for shown, _, text in found:
        warn_of_foreign(read_documents(text, shown))
    return found


def warn_of_foreign(documents: Sequence[Document]) -> None:
    """Tells of objects that are another API's, which nothing is done about."""
    from nerite.kserve.admission import is_foreign

    for document in documents:
        if is_foreign(document):
            told = f"{document.value['apiVersion']} {document.kind}"
            _warn(document, f"left out: {told} is not KServe's")


def _warn(document: Document, text: str) -> None:
    where = f"{document.file}:{document.position(()).line}"
    print(f"warning: {where}: {text}", file=sys.stderr)
