# SPDX-License-Identifier: Apache-2.0
"""Tar and zip files unpacked so that nothing lands outside, points outside, or fills the disk.

Whatever is wrong with one member spoils the whole archive: half a model is none. Names are
checked before anything is written; links once more when all of them are there, because one can
change where another one leads.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from nerite.downloads.names import is_inside, safe_relative
from nerite.downloads.progress import megabytes
from nerite.errors import InvalidArgument

_TAR = (".tar", ".tar.gz", ".tgz")
_CHUNK = 1 << 20
#: A single read of a tar file's headers; no honest one is larger.
_LARGEST_HEADER = 16 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may come out of an archive."""

    ratio: int = 200
    """Times the archive's own size, above `always`."""
    always: int = 1 << 30
    """So many bytes are never too many."""
    members: int = 100_000

    def for_size(self, size: int) -> int:
        """The bytes that may come out of an archive of this size."""
        return max(self.always, self.ratio * size)


class _Reads(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.lower().endswith((*_TAR, ".zip"))


def unpack(archive: Path, into: Path, limits: Limits, source: str) -> None:
    """Unpacks into an empty folder; `source` is what messages call the archive.

    Raises:
        InvalidArgument: It is damaged, too large, or has a member that is not to be trusted.
    """
    root = into.resolve()
    room = _Room(root, limits, limits.for_size(archive.stat().st_size), source)
    try:
        if archive.name.lower().endswith(".zip"):
            _unpack_zip(archive, room)
        else:
            _unpack_tar(archive, room)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as why:
        raise InvalidArgument(f"'{source}' is damaged or no archive: {why}") from why
    except (NotImplementedError, RuntimeError) as why:  # encrypted, or an unknown compression
        raise InvalidArgument(f"'{source}' cannot be unpacked: {why}") from why
    room.check_links()


class _Room:
    """The folder that is unpacked into, and what may still be put there."""

    def __init__(self, root: Path, limits: Limits, size: int, source: str) -> None:
        self.root = root
        self.source = source
        self._left = min(size, shutil.disk_usage(root).free)
        self._limit = self._left
        self._members = limits.members
        self._most = limits.members

    def place(self, name: str) -> Path:
        """Where a member goes; its folders are there then."""
        self._members -= 1
        if self._members < 0:
            raise InvalidArgument(f"'{self.source}' has more than {self._most} members")
        target = self.root / safe_relative(name, self.source)
        if not is_inside(target.parent, self.root):
            raise self.refusal(name, "lies behind a link that leads outside")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        return target

    def folder(self, name: str) -> None:
        """Makes a folder."""
        if name.strip("./"):
            self.place(name).mkdir(exist_ok=True)

    def write(self, name: str, content: _Reads, *, executable: bool) -> None:
        """Writes a file, counting what really comes."""
        with self.place(name).open("wb") as file:
            while chunk := content.read(_CHUNK):
                self._left -= len(chunk)
                if self._left < 0:
                    raise InvalidArgument(
                        f"'{self.source}' unpacks to more than {megabytes(self._limit)} "
                        f"(at '{name}'), which is more than its size or the disk allows"
                    )
                file.write(chunk)
            if executable:
                os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) | 0o111)

    def link(self, name: str, to: str) -> None:
        """Makes a symbolic link."""
        target = self.place(name)
        if Path(to).is_absolute() or not is_inside(target.parent / to, self.root):
            raise self.refusal(name, f"is a link to '{to}', outside")
        target.symlink_to(to)

    def second_name(self, name: str, of: str) -> None:
        """Makes a hard link to a member that is there already."""
        first, target = self.root / safe_relative(of, self.source), self.place(name)
        if first.is_symlink() or not first.is_file() or not is_inside(first, self.root):
            raise self.refusal(name, f"is a link to '{of}', which is no file of the archive")
        target.unlink(missing_ok=True)
        os.link(first, target)

    def check_links(self) -> None:
        """Where each link leads now that all are there."""
        for folder, folders, files in os.walk(self.root):
            for entry in (*folders, *files):
                path = Path(folder) / entry
                if path.is_symlink() and not is_inside(path, self.root):
                    raise self.refusal(str(path.relative_to(self.root)), "leads outside")

    def refusal(self, name: str, why: str) -> InvalidArgument:
        """What is wrong with a member."""
        return InvalidArgument(f"'{self.source}': '{name}' {why}; nothing of it is used")


def _unpack_zip(archive: Path, room: _Room) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise room.refusal(member.filename, "is a link, which zip files may not have here")
            if member.is_dir():
                room.folder(member.filename)
                continue
            with opened.open(member) as content:
                room.write(member.filename, content, executable=bool(mode & 0o100))


def _unpack_tar(archive: Path, room: _Room) -> None:
    with _plain(archive, room) as plain, tarfile.open(fileobj=plain, mode="r:") as opened:
        for member in opened:
            if member.isdir():
                room.folder(member.name)
            elif member.isreg():
                content = opened.extractfile(member)
                assert content is not None
                room.write(member.name, content, executable=bool(member.mode & 0o100))
            elif member.issym():
                room.link(member.name, member.linkname)
            elif member.islnk():
                room.second_name(member.name, member.linkname)
            else:
                raise room.refusal(member.name, "is a device or a pipe")


@contextmanager
def _plain(archive: Path, room: _Room) -> Iterator[IO[bytes]]:
    with archive.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=file) as content:
                yield _Wary(content, room)  # type: ignore[misc]
        else:
            yield file


class _Wary:
    """A decompressed tar file whose headers cannot ask for gigabytes of memory."""

    def __init__(self, content: gzip.GzipFile, room: _Room) -> None:
        self._content = content
        self._room = room
        self.seek = content.seek
        self.tell = content.tell

    def read(self, size: int = -1) -> bytes:
        """Some bytes, if they are not absurdly many."""
        if not 0 <= size <= _LARGEST_HEADER:
            raise InvalidArgument(f"'{self._room.source}' has a header of {size} bytes")
        return self._content.read(size)
