"""What a file of resources may be: lists, JSON, the input, a URL; and what ends it early."""

from __future__ import annotations

import http.server
import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nerite.errors import ConfigError
from nerite.kserve.documents import read_documents, read_files

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec: {predictor: {model: {modelFormat: {name: sklearn}, storageUri: s3://b/iris}}}
"""
RUNS = "default/iris: runs on kserve-sklearnserver\n"


def told(raised: pytest.ExceptionInfo[ConfigError]) -> str:
    (problem,) = raised.value.problems
    return str(problem)


def test_anchors_that_multiply_are_refused_before_they_fill_the_memory() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, after in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]")
    with pytest.raises(ConfigError) as raised:
        read_documents("\n".join(lines), "bomb.yaml")
    assert re.match(r"bomb\.yaml:\d.*: anchors repeat more than 100,000", told(raised))


def test_honest_anchors_are_followed() -> None:
    (found,) = read_documents("one: &a {b: 1}\ntwo: *a\nthree: {<<: *a, c: 2}\n")
    assert found.value == {"one": {"b": 1}, "two": {"b": 1}, "three": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: &a [*a]", "an anchor contains itself"),
        ("? [a]\n: b\n", "x.yaml:1:3: a key must be a text"),
        ("kind: List\nitems: [1]\n", "x.yaml:2:9: an item of a list must be an object"),
    ],
)
def test_odd_documents_are_told_with_their_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_documents(text, "x.yaml")
    assert told(raised).startswith("x.yaml")
    assert said in told(raised)


def test_a_list_is_its_objects_each_with_its_own_lines() -> None:
    """`kubectl get -o yaml` writes lists, and so does `nerite get -o yaml`."""
    items = "\n".join(f"- kind: K\n  metadata: {{name: {name}}}" for name in ("a", "b"))
    one, two = read_documents(f"apiVersion: v1\nkind: List\nitems:\n{items}\n", "x.yaml")
    assert [d.value["metadata"]["name"] for d in (one, two)] == ["a", "b"]
    assert [d.position(("metadata", "name")).line for d in (one, two)] == [5, 7]
    assert two.problem(("metadata",), "no").key == "metadata"


def test_json_is_yaml_too(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps({"from": "b.json"}, indent=1))
    (found,) = read_files([tmp_path / "b.json"])
    assert found.value == {"from": "b.json"}


def test_a_dash_is_the_input(nerite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SERVICE.encode())))
    assert nerite("explain", "-f", "-").out.startswith(RUNS)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: 1\nb: \xff\n")))
    assert nerite("explain", "-f", "-").err.startswith("error: <stdin>:2: not UTF-8 text")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    handler = partial(_Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_url_is_fetched(site: str, tmp_path: Path, nerite: Any) -> None:
    (tmp_path / "isvc.yaml").write_text(SERVICE)
    assert nerite("explain", "-f", f"{site}/isvc.yaml").out.startswith(RUNS)
    missing = nerite("explain", "-f", f"{site}/none.yaml")
    assert (missing.code, missing.out) == (1, "")
    assert f"error: {site}/none.yaml: cannot be read: HTTP Error 404" in missing.err
    (tmp_path / "wrong.yaml").write_text(SERVICE.replace("storageUri", "storageURI"))
    assert f"{site}/wrong.yaml:4:" in nerite("explain", "-f", f"{site}/wrong.yaml").err


def test_an_object_that_is_given_twice_is_told_of(tmp_path: Path, nerite: Any) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{SERVICE}---\n{SERVICE.replace('sklearn', 'xgboost')}")
    ran = nerite("explain", "-f", file)
    assert ran.out.startswith("default/iris: runs on kserve-xgbserver")
    assert ran.err == f'warning: {file}:6: InferenceService "iris" replaces the one at {file}:1\n'
