# SPDX-License-Identifier: Apache-2.0
"""Paths that clients write never lead out of the model repository (the class of CVE-2026-24208).

What Python opens is overheard by an audit hook, so a file that was looked at and then refused
counts as well. The data plane opens no file whose name a client gives, but shared memory's.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.keyed import IDENTITY, asked, called
from tritonclient.grpc import service_pb2

from nerite.server.server import Server
from nerite.testing import serve

SECRET = "this lies outside"
#: Ways in which a name could lead to `outside`, which lies beside the repository.
STEPS = ("..", "../..", "./..", "...", "....//", ".. ", " ..", "..\\", "%2e%2e", "%2e%2e%2f", "..;")
NAMES = [
    *(f"{step}{end}" for step in STEPS for end in ("", "/outside", "\\outside", "/outside/1")),
    *(f"own/{step}/{step}/outside" for step in STEPS),
    *(f"own{step}outside" for step in STEPS),
    "/outside",
    "//outside",
    "outside\0",
    "own\0/../../outside",
    "C:\\outside",
    "\\\\?\\C:\\outside",
    "file:///outside",
    "~",
    "~root",
    "$HOME",
    "${HOME}",
    "link",
    "link/1",
    "aux",
    "nul",
    ".",
    "",
    "\u2024\u2024/outside",
    "\uff0e\uff0e/outside",
    "outside" * 60,
]


class Overheard:
    """What was opened, by path; audit hooks cannot be taken off, so there is one for all tests."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is None or event not in ("open", "os.listdir", "os.scandir"):
            return
        if isinstance(arguments[0], str | bytes | os.PathLike):
            self.paths.append(os.path.realpath(os.fsdecode(arguments[0]).replace("\0", "")))

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        heard: list[str] = []
        self.paths = heard
        try:
            yield heard
        finally:
            self.paths = None


OVERHEARD = Overheard()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the repository that nothing may open, with what an attacker would want."""
    folder = tmp_path_factory.mktemp("roots") / "outside"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(IDENTITY)
    (folder / "labels.txt").write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def server(outside: Path) -> Iterator[Server]:
    repository = outside.parent / "models"
    (repository / "own/1").mkdir(parents=True)
    (repository / "own/config.pbtxt").write_text(IDENTITY)
    with serve(repository, model_control_mode="explicit", load_models=("own",)) as running:
        yield running


def refused(server: Server, name: str) -> None:
    """Asks for a model of this name in every way in which one can be asked for."""
    written = quote(name, safe="/%")
    url = server.http_url
    for method, path in (
        ("GET", f"/v2/models/{written}"),
        ("GET", f"/v2/models/{written}/config"),
        ("GET", f"/v2/models/own/versions/{written}"),
        ("POST", f"/v2/models/{written}/infer"),
        ("POST", f"/v1/models/{written}:predict"),
        ("POST", f"/v2/repository/models/{written}/load"),
        ("POST", f"/v2/repository/models/{written}/unload"),
    ):
        status, text = asked(url, method, path, body={} if method == "POST" else None)
        assert 400 <= status < 500, f"{method} {path}: {status} {text}"
        assert SECRET not in text
    message = service_pb2.RepositoryModelLoadRequest(model_name=name).SerializeToString()
    code, text = called(server, "/inference.GRPCInferenceService/RepositoryModelLoad", message)
    assert code in ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE"), text
    assert SECRET not in text
    message = service_pb2.ModelMetadataRequest(name=name).SerializeToString()
    assert called(server, "/inference.GRPCInferenceService/ModelMetadata", message)[0] != "OK"


def test_names_of_models_and_versions(server: Server, outside: Path) -> None:
    with OVERHEARD.listening() as heard:
        asked(server.http_url, "POST", "/v2/repository/models/own/load", body={})
        assert any(path.endswith("models/own/config.pbtxt") for path in heard)
        for name in NAMES:
            if name not in ("", "."):  # these are other paths, of the server itself
                refused(server, name)
    assert [path for path in heard if path.startswith(str(outside))] == []
    assert asked(server.http_url, "GET", "/v2/models/own/ready")[0] == 200


@pytest.mark.parametrize("field", ["default_model_filename", "label_filename", "op_library"])
def test_files_that_a_sent_configuration_names(server: Server, outside: Path, field: str) -> None:
    with OVERHEARD.listening() as heard:
        for name in NAMES:
            status, text = asked(
                server.http_url, "POST", "/v2/repository/models/own/load", body=load(field, name)
            )
            assert SECRET not in text
            # A name without steps is one of the model's own folder; it may be there or not.
            assert status == 200 or 400 <= status < 500, f"{name!r}: {status} {text}"
    assert [path for path in heard if path.startswith(str(outside))] == []
    status, text = asked(server.http_url, "GET", "/v2/models/own/ready")
    assert status == 200, text


def load(field: str, name: str) -> dict[str, Any]:
    """A load of `own` whose configuration names a file."""
    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    config: dict[str, Any] = {
        "backend": "identity",
        "input": [{"name": "INPUT0", **tensor}],
        "output": [{"name": "OUTPUT0", **tensor}],
    }
    if field == "label_filename":
        config["output"][0][field] = name
    elif field == "op_library":
        config["model_operations"] = {"op_library_filename": [name]}
    else:
        config[field] = name
    return {"parameters": {"config": json.dumps(config)}}


def test_files_that_are_sent_along(server: Server, outside: Path) -> None:
    before = sorted(path for path in outside.parent.rglob("*"))
    data = base64.b64encode(b"x").decode()
    with OVERHEARD.listening() as heard:
        for name in NAMES:
            body = load("label_filename", "labels.txt")
            body["parameters"][f"file:{name}"] = data
            asked(server.http_url, "POST", "/v2/repository/models/own/load", body=body)
    assert [path for path in heard if path.startswith(str(outside))] == []
    assert sorted(path for path in outside.parent.rglob("*")) == before
    assert asked(server.http_url, "GET", "/v2/models/own/ready")[0] == 200
