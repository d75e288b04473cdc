# SPDX-License-Identifier: Apache-2.0
"""Files over HTTP from a real server: redirects, statuses, cut-off bodies, archives."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.downloads.web import Web, web

from nerite.downloads.fetch import Terms, fetch
from nerite.downloads.progress import Progress
from nerite.downloads.staging import PREFIX
from nerite.downloads.transfer import Courier
from nerite.errors import InvalidArgument, NotFound, Unavailable

BODY = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[Web]:
    with web() as running:
        running.files["/m/model.onnx"] = BODY
        yield running


def terms(**variables: str) -> Terms:
    """Without a pause between tries."""
    names = {name.replace("_at_", ".").replace("__", "-"): v for name, v in variables.items()}
    return Terms(names, courier=Courier(Progress(), pause=lambda _: None))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_there_under_its_name_whatever_its_type(server: Web, tmp_path: Path) -> None:
    (path,) = fetch(f"{server.url}/m/model.onnx?version=3", tmp_path / "new/models", terms())
    assert path == tmp_path / "new/models/model.onnx"
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["model.onnx"]


def test_redirects_are_followed(server: Web, tmp_path: Path) -> None:
    server.redirects["/latest/model.onnx"] = "/m/model.onnx"
    (path,) = fetch(f"{server.url}/latest/model.onnx", tmp_path, terms())
    assert path.read_bytes() == BODY


def test_headers_of_one_host_do_not_go_to_another(server: Web, tmp_path: Path) -> None:
    secret = {"127.0.0.1-headers": json.dumps({"Authorization": "Bearer x"})}
    other = server.url.replace("127.0.0.1", "localhost")
    server.redirects["/here/model.onnx"] = f"{other}/m/model.onnx"
    given = Terms(secret, courier=Courier(Progress()))
    fetch(f"{server.url}/here/model.onnx", tmp_path, given)
    (_, first), (_, second) = server.asked
    assert first["authorization"] == "Bearer x"
    assert "authorization" not in second
    assert second["host"].startswith("localhost:")


def test_a_login_in_the_url_is_sent_and_never_shown(server: Web, tmp_path: Path) -> None:
    url = server.url.replace("//", "//me:p%40ss@")
    fetch(f"{url}/m/model.onnx", tmp_path, terms())
    assert server.asked[0][1]["authorization"] == "Basic bWU6cEBzcw=="
    with pytest.raises(NotFound) as caught:
        fetch(f"{url}/nothing?key=secret", tmp_path, terms())
    assert str(caught.value).startswith(f"'{server.url}/nothing?...' is not there")


def test_no_redirect_leads_to_a_file_or_round_in_circles(server: Web, tmp_path: Path) -> None:
    server.redirects["/a/model.onnx"] = "file:///etc/passwd"
    server.redirects["/b/model.onnx"] = "/b/model.onnx"
    for path in ("a", "b"):
        with pytest.raises(Unavailable, match="answers 302"):
            fetch(f"{server.url}/{path}/model.onnx", tmp_path, terms())


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (404, NotFound, "is not there: the server answers 404"),
        (403, Unavailable, r"set the variable '127\.0\.0\.1-headers' to a JSON object of headers"),
        (418, Unavailable, "cannot be fetched: the server answers 418"),
    ],
)
def test_a_wrong_status_is_told_and_not_tried_again(
    status: int, kind: type[Exception], text: str, server: Web, tmp_path: Path
) -> None:
    server.statuses["/m/model.onnx"] = [status]
    with pytest.raises(kind, match=text):
        fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again_but_not_for_ever(server: Web, tmp_path: Path) -> None:
    server.statuses["/m/model.onnx"] = [503, 500]
    fetch(f"{server.url}/m/model.onnx", tmp_path / "a", terms())
    server.statuses["/m/model.onnx"] = [503] * 9
    with pytest.raises(Unavailable, match="cannot be fetched: the server answers 503"):
        fetch(f"{server.url}/m/model.onnx", tmp_path / "b", terms())
    assert len(server.statuses["/m/model.onnx"]) == 6


def test_a_body_that_is_cut_off_goes_on_where_it_ended(server: Web, tmp_path: Path) -> None:
    server.cuts = [1000, 2000, 3000]
    (path,) = fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    assert path.read_bytes() == BODY
    assert server.ranges() == ["", "bytes=1000-", "bytes=3000-", "bytes=6000-"]


def test_a_body_that_is_always_cut_off_leaves_nothing_that_looks_whole(
    server: Web, tmp_path: Path
) -> None:
    server.takes_ranges = False
    server.cuts = [100] * 9
    with pytest.raises(Unavailable, match="it ended after 100 of 10240 bytes"):
        fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    assert [name for name in names(tmp_path) if not name.startswith(PREFIX)] == []


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server: Web, tmp_path: Path) -> None:
    server.cuts = [4000, 0, 0, 0]
    with pytest.raises(Unavailable):
        fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    (path,) = fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    assert path.read_bytes() == BODY
    assert server.ranges()[-1] == "bytes=4000-"
    assert names(tmp_path) == ["model.onnx"]


def test_what_was_changed_meanwhile_is_fetched_from_the_beginning(
    server: Web, tmp_path: Path
) -> None:
    server.cuts = [4000, 0, 0, 0]
    with pytest.raises(Unavailable):
        fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    server.files["/m/model.onnx"], server.tag = BODY[::-1], '"two"'
    (path,) = fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    assert path.read_bytes() == BODY[::-1]


def test_a_page_is_no_model(server: Web, tmp_path: Path) -> None:
    server.files["/login"] = b"<html>"
    server.types["/login"] = "text/html; charset=utf-8"
    server.redirects["/private/model.onnx"] = "/login"
    with pytest.raises(InvalidArgument, match=r"is a page \(text/html\), not a model file; is a"):
        fetch(f"{server.url}/private/model.onnx", tmp_path, terms())


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with web() as gone:
        url = f"{gone.url}/model.onnx"
    with pytest.raises(Unavailable, match=r"cannot be fetched: no connection: .*refused"):
        fetch(url, tmp_path, terms())


def test_headers_that_are_no_json_are_told_by_the_name_of_the_variable(
    server: Web, tmp_path: Path
) -> None:
    for text in ("{", "[]", '{"a": 1}'):
        given = Terms({"127.0.0.1-headers": text})
        with pytest.raises(InvalidArgument, match=r"variable '127\.0\.0\.1-headers' "):
            fetch(f"{server.url}/m/model.onnx", tmp_path, given)


def test_an_archive_is_unpacked_and_does_not_stay(server: Web, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("iris/1/model.onnx")
        info.size = len(BODY)
        archive.addfile(info, io.BytesIO(BODY))
    server.files["/iris.tar.gz"] = packed.getvalue()
    assert fetch(f"{server.url}/iris.tar.gz", tmp_path, terms()) == [tmp_path / "iris"]
    assert (tmp_path / "iris/1/model.onnx").read_bytes() == BODY
    assert names(tmp_path) == ["iris"]


def test_a_damaged_archive_leaves_nothing(server: Web, tmp_path: Path) -> None:
    server.files["/iris.tar.gz"] = b"\x1f\x8b" + b"no archive" * 20
    with pytest.raises(InvalidArgument, match=r"/iris\.tar\.gz' is damaged or no archive"):
        fetch(f"{server.url}/iris.tar.gz", tmp_path, terms())
    assert names(tmp_path) == []


def test_what_is_there_already_is_replaced(server: Web, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    (tmp_path / "model.onnx/old").touch()
    (tmp_path / "other").touch()
    fetch(f"{server.url}/m/model.onnx", tmp_path, terms())
    assert (tmp_path / "model.onnx").read_bytes() == BODY
    assert names(tmp_path) == ["model.onnx", "other"]
