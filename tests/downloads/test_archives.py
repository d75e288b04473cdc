# SPDX-License-Identifier: Apache-2.0
"""Archives that were made to do harm, and those that were not."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nerite.downloads.archives import Limits, is_archive, unpack
from nerite.errors import InvalidArgument

SMALL = Limits(ratio=1, always=1 << 20, members=50)


def tar(path: Path, *members: tuple[str, bytes | str, bytes]) -> Path:
    """Members as (name, content or target of a link, type)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755 if name.endswith(".sh") else 0o600
            if isinstance(content, str):
                info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def file(name: str, content: bytes = b"x") -> tuple[str, bytes, bytes]:
    return name, content, tarfile.REGTYPE


def link(name: str, to: str) -> tuple[str, str, bytes]:
    return name, to, tarfile.SYMTYPE


def zipped(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "inner/into"
    folder.mkdir(parents=True)
    return folder


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_an_honest_tar_is_unpacked_with_its_folders_and_links(tmp_path: Path, into: Path) -> None:
    archive = tar(
        tmp_path / "a.tgz",
        (".", b"", tarfile.DIRTYPE),
        ("./m", b"", tarfile.DIRTYPE),
        file("./m/1/model.onnx", b"weights"),
        file("./m/run.sh"),
        link("./m/2", "1"),
        ("./m/same", "m/1/model.onnx", tarfile.LNKTYPE),
    )
    unpack(archive, into, SMALL, "it")
    assert (into / "m/2/model.onnx").read_bytes() == b"weights"
    assert (into / "m/same").read_bytes() == b"weights"
    assert os.access(into / "m/run.sh", os.X_OK)
    assert not os.access(into / "m/1/model.onnx", os.X_OK)


def test_an_honest_zip_is_unpacked(tmp_path: Path, into: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("m/1/model.onnx", b"weights"), ("m/empty/", b""))
    unpack(archive, into, SMALL, "it")
    assert everything(into) == ["m", "m/1", "m/1/model.onnx", "m/empty"]


def test_a_plain_tar_needs_no_compression(tmp_path: Path, into: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(gzip.decompress(tar(tmp_path / "b.tgz", file("m")).read_bytes()))
    unpack(archive, into, SMALL, "it")
    assert everything(into) == ["m"]


@pytest.mark.parametrize(
    "members",
    [
        [file("../out")],
        [file("a/../../out")],
        [file("/tmp/out")],
        [file("a\\..\\out")],
        [link("a", "/etc")],
        [link("a", "../..")],
        [link("m/a", "../../out")],
        [link("a", ".."), file("a/out")],
        # A link that is harmless until another one changes where it leads.
        [link("a", "b/../../x"), link("b", "deep/er"), file("deep/er/y")],
        [link("a", "b/../x"), link("b", ".")],
        [("a", "../../secret", tarfile.LNKTYPE)],
        [link("s", "secret"), ("a", "s", tarfile.LNKTYPE)],
        [("a", b"", tarfile.CHRTYPE)],
        [("a", b"", tarfile.FIFOTYPE)],
    ],
)
def test_a_tar_that_reaches_outside_is_refused(
    members: list[tuple[str, bytes | str, bytes]], tmp_path: Path, into: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    archive = tar(tmp_path / "a.tar.gz", *members)
    before = everything(tmp_path)
    with pytest.raises(InvalidArgument, match=r"it.*nothing of it is used"):
        unpack(archive, into, SMALL, "it")
    outside = [name for name in everything(tmp_path) if not name.startswith("inner/into/")]
    assert outside == before


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out"])
def test_a_zip_that_reaches_outside_is_refused(name: str, tmp_path: Path, into: Path) -> None:
    archive = zipped(tmp_path / "a.zip", (name, b"x"))
    with pytest.raises(InvalidArgument, match=f"'it' holds '{name}', which would be written out"):
        unpack(archive, into, SMALL, "it")
    assert everything(into) == []


def test_a_link_in_a_zip_is_refused(tmp_path: Path, into: Path) -> None:
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InvalidArgument, match="'it': 'a' is a link"):
        unpack(zipped(tmp_path / "a.zip", (info, b"/etc/passwd")), into, SMALL, "it")


ZEROS = bytes(4 << 20)
BOMBS: dict[str, Callable[[Path], Path]] = {
    "tar": lambda path: tar(path / "a.tar.gz", file("zeros", ZEROS)),
    "zip": lambda path: zipped(path / "a.zip", ("zeros", ZEROS)),
    "files": lambda path: tar(
        path / "a.tar.gz", *(file(f"{n}", ZEROS[: 1 << 18]) for n in range(9))
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_an_archive_that_swells_is_stopped(kind: str, tmp_path: Path, into: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"'it' unpacks to more than 1\.0 MB \(at '"):
        unpack(BOMBS[kind](tmp_path), into, SMALL, "it")
    assert sum(path.stat().st_size for path in into.rglob("*")) <= SMALL.always


def test_too_many_members_are_too_many(tmp_path: Path, into: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", *(file(str(n)) for n in range(51)))
    with pytest.raises(InvalidArgument, match="'it' has more than 50 members"):
        unpack(archive, into, SMALL, "it")


def test_a_header_of_a_gigabyte_is_not_read(tmp_path: Path, into: Path) -> None:
    """Extended headers are read into memory whole, before any member can be counted."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb") as out:
        out.write(info.tobuf())
        out.write(bytes(1 << 20))
    with pytest.raises(InvalidArgument, match="'it' has a header of 1073741824 bytes"):
        unpack(archive, into, SMALL, "it")


@pytest.mark.parametrize(
    ("name", "start"), [("a.zip", b"PK"), ("a.tar.gz", b"\x1f\x8b"), ("a.tar", b"")]
)
def test_what_is_no_archive_is_told(name: str, start: bytes, tmp_path: Path, into: Path) -> None:
    (tmp_path / name).write_bytes(start + b"model" * 300)
    with pytest.raises(InvalidArgument, match="'it' is damaged or no archive: "):
        unpack(tmp_path / name, into, SMALL, "it")


def test_a_tar_that_is_cut_off_is_told(tmp_path: Path, into: Path) -> None:
    whole = tar(tmp_path / "a.tar.gz", file("m", os.urandom(50_000))).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[:20_000])
    with pytest.raises(InvalidArgument, match="'it' is damaged or no archive: "):
        unpack(tmp_path / "b.tar.gz", into, SMALL, "it")


def test_only_names_that_say_so_are_archives() -> None:
    assert all(map(is_archive, ["a.tar", "a.TGZ", "a.tar.gz", "a.zip"]))
    assert not any(map(is_archive, ["a.skops", "a.npz", "a.gz", "model.onnx"]))
