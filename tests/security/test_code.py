# SPDX-License-Identifier: Apache-2.0
"""Nothing that a client sends is ever run: no pickle on any wire, and one place that loads one."""

from __future__ import annotations

import ast
import http.client
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.keyed import IDENTITY

from nerite.testing import serve

SOURCE = Path(__file__).parents[2] / "src/nerite"
#: Modules that turn bytes into code.
LOADERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
#: What loads a model that can run code, and only with `--trust`; and what runs a user's own file.
ALLOWED = {"backends/sklearn.py"}
RUNNERS = {"eval", "exec", "compile", "__import__"}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.name)
def test_no_module_turns_bytes_into_code(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.relative_to(SOURCE).as_posix() not in ALLOWED:
        assert not LOADERS & set(imported(tree))
    assert not RUNNERS & set(called(tree))


class Canary:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_pickle_in_a_request_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "models/own/1").mkdir(parents=True)
    (tmp_path / "models/own/config.pbtxt").write_text(IDENTITY)
    canary = tmp_path / "canary"
    body = pickle.dumps(Canary(canary))
    types = ("python-pickle", "octet-stream", "json", "x-pickle", "vnd.bentoml+pickle", "x-numpy")
    paths = ("/v2/models/own/infer", "/v1/models/own:predict", "/v2/models/own/generate")
    with serve(tmp_path / "models") as server:
        host, port = server.ports["http"]
        for kind in types:
            for path in (*paths, "/v2/repository/index", "/v2/logging"):
                connection = http.client.HTTPConnection(host, port, timeout=10)
                connection.request("POST", path, body, {"Content-Type": f"application/{kind}"})
                assert 400 <= connection.getresponse().status < 500, (kind, path)
                connection.close()
    assert not canary.exists()
    pickle.loads(body)
    assert canary.exists()
