# SPDX-License-Identifier: Apache-2.0
"""What is under way lies in a hidden folder beside its destination, and is moved when it is whole.

The folder bears the name of its source, so a process that is started again finds what an earlier
one has left and goes on from there. On the destination's own file system a move is one step.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: How the hidden folders begin; stores overlook them.
PREFIX = ".nerite-download-"


@dataclass(frozen=True, slots=True)
class Part:
    """A file that is being written, and what its source said about the whole when it began."""

    path: Path
    tag_path: Path

    @property
    def tag(self) -> str:
        """The tag of what there is; empty if it is not known."""
        return self.tag_path.read_text() if self.tag_path.exists() else ""

    @property
    def size(self) -> int:
        """How much there is."""
        return self.path.stat().st_size if self.path.exists() else 0


class Staging:
    """The hidden folder of one source in one destination."""

    def __init__(self, destination: Path, uri: str) -> None:
        key = hashlib.sha256(uri.encode()).hexdigest()[:16]
        self.destination = destination
        self._root = destination / f"{PREFIX}{key}"
        self.files = self._root / "files"
        """What is whole, laid out as it will be."""
        self._parts = self._root / "parts"
        for folder in (self.files, self._parts):
            folder.mkdir(parents=True, exist_ok=True)

    def part(self, relative: PurePosixPath) -> Part:
        """Where a file is written until it is whole."""
        name = hashlib.sha256(str(relative).encode()).hexdigest()[:32]
        return Part(self._parts / name, self._parts / f"{name}.tag")

    def has(self, relative: PurePosixPath, tag: str, size: int) -> bool:
        """Whether an earlier process has fetched the whole of this very file."""
        path = self.files / relative
        whole = path.is_file() and path.stat().st_size == size
        return whole and bool(tag) and self.part(relative).tag == tag

    def keep(self, part: Part, relative: PurePosixPath) -> None:
        """Takes a part as whole."""
        target = self.files / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        part.path.touch()  # a file without content was never written
        part.path.replace(target)

    def finish(self) -> list[Path]:
        """Moves what is whole to the destination and leaves nothing behind."""
        moved = []
        for entry in sorted(self.files.iterdir()):
            target = self.destination / entry.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            if entry.is_dir() and (target.exists() or target.is_symlink()):
                target.unlink()
            entry.replace(target)
            moved.append(target)
        self.drop()
        return moved

    def drop(self) -> None:
        """Removes everything that was fetched."""
        shutil.rmtree(self._root)
