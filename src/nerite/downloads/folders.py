# SPDX-License-Identifier: Apache-2.0
"""Model files that are on this machine already: linked into the destination, not copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nerite.downloads.archives import Limits, is_archive, unpack
from nerite.downloads.names import is_inside, safe_relative
from nerite.downloads.sources import Source
from nerite.downloads.staging import Staging
from nerite.errors import InvalidArgument, NotFound


def folder_of_claim(source: Source, claims: Mapping[str, Path]) -> Path:
    """The folder of this machine that stands for `pvc://CLAIM/PATH`.

    Raises:
        InvalidArgument: The claim is not mapped, or the path leads out of it.
        NotFound: There is nothing.
    """
    if source.container not in claims:
        known = ", ".join(sorted(claims)) or "none"
        raise InvalidArgument(
            f"'{source.uri}': a cluster mounts a claim, nothing is downloaded; say which folder "
            f"stands for it with --claim {source.container}=FOLDER (known: {known})"
        )
    root = claims[source.container].resolve()
    path = root / safe_relative(source.path or ".", source.uri)
    if not is_inside(path, root):
        raise InvalidArgument(f"'{source.uri}' leads out of the claim's folder through a link")
    return path


def link(path: Path, destination: Path, uri: str, limits: Limits) -> list[Path]:
    """Links a file, or what a folder holds, into the destination; unpacks a single archive.

    Raises:
        NotFound: There is nothing.
    """
    if not path.exists():
        raise NotFound(f"'{uri}': there is nothing at '{path}'")
    path = path.resolve()
    if path == destination.resolve():
        return sorted(path.iterdir())
    entries = [path] if path.is_file() else sorted(path.iterdir())
    if not entries:
        raise NotFound(f"'{uri}': the folder '{path}' is empty")
    if len(entries) == 1 and entries[0].is_file() and is_archive(entries[0].name):
        staging = Staging(destination, uri)
        try:
            unpack(entries[0], staging.files, limits, uri)
        except BaseException:
            staging.drop()
            raise
        return staging.finish()
    return [_linked(entry, destination / entry.name) for entry in entries]


def _linked(entry: Path, target: Path) -> Path:
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        raise InvalidArgument(f"'{target}' is there already, and is not a link; remove it")
    target.symlink_to(entry)
    return target
