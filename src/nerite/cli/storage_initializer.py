# SPDX-License-Identifier: Apache-2.0
"""`nerite storage-initializer`: brings model files to a folder, as KServe's init container does."""

from __future__ import annotations

from typing import Annotated

import typer


def storage_initializer(
    pairs: Annotated[
        list[str], typer.Argument(help="URI and folder, in turn.", metavar="SRC DEST...")
    ],
    claim: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: the folder that stands for pvc://NAME; may be repeated."),
    ] = None,
) -> None:
    """Bring model files into a folder: from a path, HTTP, S3, Google or Azure.

    What is on this machine is linked, a single .tar.gz or .zip is unpacked. Credentials come from
    the variables that KServe sets. Exits with 1 if anything cannot be fetched; a second run goes
    on where the first one broke off.
    """
    from nerite.storage_initializer import claims_of, main

    raise typer.Exit(main(pairs, claims_of(claim or ())))
