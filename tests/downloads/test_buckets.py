# SPDX-License-Identifier: Apache-2.0
"""Buckets on a real S3 server: prefixes, single objects, what breaks off, what may not be read."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.downloads.conftest import Bucket

from nerite.downloads import buckets
from nerite.downloads.fetch import Terms, fetch
from nerite.downloads.progress import Progress
from nerite.downloads.staging import PREFIX
from nerite.downloads.transfer import Courier
from nerite.errors import InvalidArgument, MissingExtra, NotFound, Unavailable


def terms(bucket: Bucket, **more: str) -> Terms:
    given = {**bucket.variables, "S3_MAX_ATTEMPTS": "1", **more}
    return Terms(given, courier=Courier(Progress(), pause=lambda _: None))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_lies_below_a_prefix_comes_without_it_and_nothing_beside_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put(
        a__iris__1__model_onnx=b"weights",
        a__iris__config_pbtxt=b"",
        a__iris__=b"",
        a__iris2__model=b"of another model",
    )
    fetched = fetch(f"s3://{bucket.name}/a/iris", tmp_path, terms(bucket))
    assert [path.name for path in fetched] == ["1", "config_pbtxt"]
    assert files(tmp_path) == {"1/model_onnx": b"weights", "config_pbtxt": b""}
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(PREFIX)]


def test_a_whole_bucket_and_a_single_object_are_sources_too(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(a__model_skops=b"one", b=b"two")
    fetch(f"s3://{bucket.name}", tmp_path / "all", terms(bucket))
    assert files(tmp_path / "all") == {"a/model_skops": b"one", "b": b"two"}
    fetch(f"s3://{bucket.name}/a/model_skops", tmp_path / "one", terms(bucket))
    assert files(tmp_path / "one") == {"model_skops": b"one"}


def test_a_single_archive_is_unpacked(bucket: Bucket, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model.skops", b"weights")
    bucket.client.put_object(Bucket=bucket.name, Key="x/iris.zip", Body=packed.getvalue())
    fetch(f"s3://{bucket.name}/x/", tmp_path, terms(bucket))
    assert files(tmp_path) == {"model.skops": b"weights"}


def test_large_objects_come_in_pieces(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PIECE", 1000)
    bodies = {f"m__part{n}": os.urandom(2500 + n) for n in range(6)}
    bucket.put(**bodies)
    fetch(f"s3://{bucket.name}/m", tmp_path, terms(bucket))
    assert files(tmp_path) == {key.removeprefix("m__"): body for key, body in bodies.items()}


def test_a_later_call_fetches_only_what_is_missing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    monkeypatch.setattr(buckets, "PIECE", 1000)
    monkeypatch.setattr(buckets, "_AT_ONCE", 1)
    bodies = {"m__a": os.urandom(1500), "m__b": os.urandom(3500), "m__c": b"c"}
    bucket.put(**bodies)
    asked: list[tuple[str, tuple[int, int]]] = []
    real = obstore.get

    def breaks_off(store: Any, path: str, *, options: Any) -> Any:
        asked.append((path, options["range"]))
        if asked[-1] == ("m/b", (2000, 3000)):
            raise obstore.exceptions.GenericError("connection reset\n\nDebug source: x")
        return real(store, path, options=options)

    monkeypatch.setattr(obstore, "get", breaks_off)
    with pytest.raises(Unavailable, match=r"^'m/b' cannot be fetched: connection reset$"):
        fetch(f"s3://{bucket.name}/m", tmp_path, terms(bucket))
    assert [e for e in tmp_path.iterdir() if not e.name.startswith(PREFIX)] == []
    kept = len(asked)

    def watched(store: Any, path: str, *, options: Any) -> Any:
        asked.append((path, options["range"]))
        return real(store, path, options=options)

    monkeypatch.setattr(obstore, "get", watched)
    fetch(f"s3://{bucket.name}/m", tmp_path, terms(bucket))
    # The third file may have come before the second one failed.
    again = [piece for piece in asked[kept:] if piece[0] != "m/c"]
    assert again == [("m/b", (2000, 3000)), ("m/b", (3000, 3500))]
    assert files(tmp_path) == {key.removeprefix("m__"): body for key, body in bodies.items()}


def test_an_object_that_is_changed_while_it_is_fetched_is_not_mixed(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    monkeypatch.setattr(buckets, "PIECE", 1000)
    bucket.put(m=b"a" * 2500)
    real = obstore.get

    def changing(store: Any, path: str, *, options: Any) -> Any:
        answer = real(store, path, options=options)
        bucket.put(m=b"b" * 2500)
        return answer

    monkeypatch.setattr(obstore, "get", changing)
    with pytest.raises(Unavailable, match="the object 'm' was changed while it was fetched"):
        fetch(f"s3://{bucket.name}/m", tmp_path, terms(bucket))
    monkeypatch.setattr(obstore, "get", real)
    fetch(f"s3://{bucket.name}/m", tmp_path, terms(bucket))
    assert files(tmp_path) == {"m": b"b" * 2500}


def test_patterns_choose_files(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(m__model=b"1", m__onnx__model=b"2", m__README=b"3")
    chosen = {"STORAGE_ALLOW_PATTERNS": '["*model"]', "STORAGE_IGNORE_PATTERNS": "onnx/*, x"}
    fetch(f"s3://{bucket.name}/m", tmp_path, terms(bucket, **chosen))
    assert files(tmp_path) == {"model": b"1"}
    with pytest.raises(NotFound, match="lies below it and is wanted by the patterns"):
        fetch(f"s3://{bucket.name}/m", tmp_path, terms(bucket, STORAGE_ALLOW_PATTERNS="z"))


def test_what_is_not_there_is_told(bucket: Bucket, tmp_path: Path) -> None:
    uri = f"s3://{bucket.name}/nothing"
    with pytest.raises(NotFound, match=f"'{uri}': no object has that name or lies below it"):
        fetch(uri, tmp_path, terms(bucket))
    with pytest.raises(NotFound, match="'s3://no-such-bucket/m': there is no such bucket"):
        fetch("s3://no-such-bucket/m", tmp_path, terms(bucket))


def test_a_name_that_would_lead_outside_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="m/..\\out", Body=b"x")
    with pytest.raises(InvalidArgument, match="which would be written outside the folder"):
        fetch(f"s3://{bucket.name}/m", tmp_path / "in", terms(bucket))
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


def test_a_storage_secret_is_understood(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(m=b"x")
    entry = {
        "type": "s3",
        "access_key_id": "k",
        "secret_access_key": "s",
        "endpoint_url": "http://x",
    }
    given = {
        "STORAGE_CONFIG": json.dumps(entry),
        "STORAGE_OVERRIDE_CONFIG": json.dumps({"endpoint_url": bucket.url}),
    }
    fetch(f"s3://{bucket.name}/m", tmp_path, Terms(given))
    assert files(tmp_path) == {"m": b"x"}


def test_google_is_read_where_its_own_libraries_would_read(bucket: Bucket, tmp_path: Path) -> None:
    """Google's buckets speak S3's protocol for this, so the same server stands in for them."""
    bucket.put(a__iris__model=b"weights")
    bucket.client.put_object_acl(Bucket=bucket.name, Key="a/iris/model", ACL="public-read")
    given = Terms({"STORAGE_EMULATOR_HOST": bucket.url})
    fetch(f"gs://{bucket.name}/a", tmp_path, given)
    assert files(tmp_path) == {"iris/model": b"weights"}


def test_what_may_not_be_read_is_told_with_what_to_set(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(private=b"x")
    uri = f"s3://{bucket.name}/private"
    anonymous = Terms({"AWS_ENDPOINT_URL": bucket.url, "awsAnonymousCredential": "true"})
    with pytest.raises(Unavailable, match="may not be read; set AWS_ACCESS_KEY_ID and AWS_SEC"):
        fetch(uri, tmp_path, anonymous)
    bucket.client.put_object_acl(Bucket=bucket.name, Key="private", ACL="public-read")
    fetch(uri, tmp_path, anonymous)
    assert files(tmp_path) == {"private": b"x"}


def test_without_obstore_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtra, match=r"run: pip install 'nerite\[storage\]'"):
        fetch("s3://bucket/m", tmp_path, Terms())
