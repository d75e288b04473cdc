# SPDX-License-Identifier: Apache-2.0
"""What a URI names, folders and claims, and what a person sees while it comes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from nerite.downloads.fetch import Terms, fetch
from nerite.downloads.progress import Progress
from nerite.downloads.sources import Source, parse
from nerite.errors import InvalidArgument, NotFound, Unsupported


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("s3://b/a/m/", ("s3", "b", "a/m")),
        ("s3a://b", ("s3", "b", "")),
        ("gs://b/m", ("gs", "b", "m")),
        ("pvc://claim/m", ("claim", "claim", "m")),
        ("file:///a%20b", ("folder", "", "/a b")),
        ("models/iris", ("folder", "", "models/iris")),
        ("https://x/a/m.onnx", ("http", "", "a/m.onnx")),
        ("https://acc.blob.core.windows.net/box/a/b", ("azure", "box", "a/b")),
        ("https://acc.z12.blob.storage.azure.net/box", ("azure", "box", "")),
    ],
)
def test_the_place_that_a_uri_names(uri: str, source: tuple[str, str, str]) -> None:
    found = parse(uri)
    assert (found.kind, found.container, found.path) == source


def test_secrets_in_a_url_are_not_shown() -> None:
    assert parse("https://me:pw@x/m.onnx?sig=secret").uri == "https://x/m.onnx?..."


@pytest.mark.parametrize(
    ("uri", "kind", "text"),
    [
        ("hf://a/b", Unsupported, "'hf://' is not offered; download it with `hf download`"),
        ("ftp://x/y", Unsupported, "'ftp://' is not offered; a path, file://, pvc://CLAIM/PATH,"),
        ("s3:///m", InvalidArgument, "names no bucket; write s3://NAME/PATH"),
        ("https://x/models/", InvalidArgument, "names no file; a folder cannot be listed"),
        ("https://x", InvalidArgument, "names no file"),
        ("https://[x/m", InvalidArgument, "this is no URL: Invalid IPv6 URL"),
        ("https:///m", InvalidArgument, "names no host"),
        ("https://a.blob.core.windows.net/", InvalidArgument, "names no container"),
    ],
)
def test_what_cannot_be_fetched_is_told(uri: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        parse(uri)
    assert text in str(caught.value)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "disk/iris/1").mkdir(parents=True)
    (tmp_path / "disk/iris/1/model.onnx").write_bytes(b"weights")
    (tmp_path / "disk/iris/config.pbtxt").touch()
    return tmp_path / "disk"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_is_linked_and_may_be_linked_again(
    form: str, models: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        fetched = fetch(form.format(models / "iris"), tmp_path / "to", Terms())
        assert [path.name for path in fetched] == ["1", "config.pbtxt"]
    assert (tmp_path / "to/1").readlink() == models / "iris/1"
    (path,) = fetch(str(models / "iris/1/model.onnx"), tmp_path / "one", Terms())
    assert path.read_bytes() == b"weights"


def test_a_folder_that_is_the_destination_is_left_alone(models: Path) -> None:
    fetch(str(models / "iris"), models / "iris", Terms())
    assert (models / "iris/1/model.onnx").read_bytes() == b"weights"


def test_a_single_archive_in_a_folder_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    with zipfile.ZipFile(tmp_path / "from/iris.zip", "w") as archive:
        archive.writestr("model.skops", b"weights")
    fetch(str(tmp_path / "from"), tmp_path / "to", Terms())
    assert [entry.name for entry in (tmp_path / "to").iterdir()] == ["model.skops"]
    (tmp_path / "from/iris.zip").write_bytes(b"PK")
    with pytest.raises(InvalidArgument, match="damaged or no archive"):
        fetch(str(tmp_path / "from"), tmp_path / "to", Terms())


def test_a_claim_is_the_folder_that_stands_for_it(models: Path, tmp_path: Path) -> None:
    terms = Terms(claims={"disk": models})
    fetch("pvc://disk/iris", tmp_path / "to", terms)
    assert (tmp_path / "to/1/model.onnx").read_bytes() == b"weights"
    with pytest.raises(InvalidArgument, match=r"with --claim other=FOLDER \(known: disk\)"):
        fetch("pvc://other/iris", tmp_path / "to", terms)
    with pytest.raises(InvalidArgument, match="would be written outside"):
        fetch("pvc://disk/../secret", tmp_path / "to", terms)
    (models / "out").symlink_to(tmp_path)
    with pytest.raises(InvalidArgument, match="leads out of the claim's folder"):
        fetch("pvc://disk/out", tmp_path / "to", terms)


def test_what_is_not_there_or_in_the_way_is_told(models: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is nothing at"):
        fetch("file:///no/such/folder", tmp_path / "to", Terms())
    (models / "empty").mkdir()
    with pytest.raises(NotFound, match="is empty"):
        fetch(str(models / "empty"), tmp_path / "to", Terms())
    (tmp_path / "to/1").mkdir(parents=True)
    with pytest.raises(InvalidArgument, match="is there already, and is not a link; remove it"):
        fetch(str(models / "iris"), tmp_path / "to", Terms())
    assert isinstance(parse(str(models)), Source)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_terminals_only() -> None:
    now = [0.0]
    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(stream, lambda: now[0])
        progress.expect(4_000_000, "model.onnx")
        progress.add(1_000_000, fetched=False)
        now[0] += 2
        progress.add(1_000_000)
        assert bool(stream.getvalue()) is drawn
        if drawn:
            expected = "model.onnx: [############------------] 2.0 MB of 4.0 MB, 500.0 kB/s"
            assert stream.getvalue() == f"\r\x1b[K{expected}"
        progress.close()
    assert not stream.getvalue()
