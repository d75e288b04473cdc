# SPDX-License-Identifier: Apache-2.0
"""Whether a model's files are still those that they were: names, sizes and times, not contents.

Also an older file that takes a newer one's place is a change. Folders that an operator has linked
in are looked into, each once, so that a link to its own parent ends.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

#: Python writes it beside modules that it imports: no part of the model.
_IGNORED = "__pycache__"


def fingerprint(path: Path | None) -> str:
    """A text that differs once a file below `path` (or `path` itself, if it is one) does.

    Empty if the files cannot be read now: somebody is moving them.
    """
    if path is None:
        return ""
    try:
        lines = list(_walk(path, "", set())) if path.is_dir() else [_line(path.name, path.stat())]
    except OSError:
        return ""
    return hashlib.blake2b("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _walk(folder: Path, name: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    yield f"{name}/"
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == _IGNORED:
                continue
            inner = f"{name}/{entry.name}"
            if entry.is_dir():
                yield from _walk(Path(entry.path), inner, seen)
            else:
                yield _line(inner, _status(entry))


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except FileNotFoundError:  # a link that leads nowhere
        return entry.stat(follow_symlinks=False)


def _line(name: str, status: os.stat_result) -> str:
    return f"{name}\t{status.st_size}\t{status.st_mtime_ns}"
