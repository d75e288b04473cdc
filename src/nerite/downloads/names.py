# SPDX-License-Identifier: Apache-2.0
"""Names that strangers chose - of archive members, of objects - as paths below a folder of ours."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from nerite.errors import InvalidArgument


def safe_relative(name: str, source: str) -> PurePosixPath:
    """The name as a path that stays below wherever it is put.

    Raises:
        InvalidArgument: It is absolute, goes up, or is no name on this system.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InvalidArgument(
            f"'{source}' holds '{name}', which would be written outside the folder; nothing of it "
            "is used"
        )
    if any(len(part.encode()) > 255 for part in path.parts):
        raise InvalidArgument(f"'{source}' holds a name of more than 255 bytes: '{name[:40]}...'")
    return path


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path, with every link resolved, lies below `root`, which is resolved already."""
    return path.resolve().is_relative_to(root)
