# SPDX-License-Identifier: Apache-2.0
"""SageMaker's multi-model mode: archives that it unpacked are loaded, invoked and unloaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from tests.keyed import IDENTITY, INFER, make_key
from tests.server.test_doors import ask

from nerite.errors import AlreadyExists
from nerite.models.control import ModelControl
from nerite.models.lifecycle import Lifecycle
from nerite.models.options import LoadOptions
from nerite.models.registering import Registering
from nerite.models.repository import Repository
from nerite.models.states import StateTable
from nerite.server.access_options import AccessOptions, Restriction
from nerite.server.door_options import DoorOptions
from nerite.server.server import Server
from nerite.testing import serve

ENSEMBLE = """platform: "ensemble"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
ensemble_scheduling { step [ { model_name: "part" model_version: -1
  input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" }
} ] }
"""
GREEDY = """
class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    def execute(self, requests):
        return []
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Stands for /opt/ml/models."""
    folder = tmp_path / "ml/models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server(root: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "repository/own/1").mkdir(parents=True)
    (tmp_path / "repository/own/config.pbtxt").write_text(IDENTITY)
    doors = DoorOptions(sagemaker=True, sagemaker_port=0, sagemaker_root=root)
    explicit = {"model_control_mode": "explicit", "load_models": ("own",)}
    with serve(tmp_path / "repository", doors=doors, **explicit) as running:
        yield running


def archive(root: Path, key: str, *models: str, text: str = IDENTITY) -> str:
    """A folder as SageMaker leaves it: the archive's models, or the archive is one; its URL."""
    folder = root / key / "model"
    for name in models or ("",):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(text)
    return str(folder)


def load(server: Server, key: str, url: Any, target: str = "", **headers: str) -> tuple[int, str]:
    if target:
        headers["X-Amzn-SageMaker-Target-Model"] = target
    body = {"model_name": key, "url": url}
    status, read, _ = ask(server, "sagemaker", "POST", "/models", body, headers)
    return status, read.decode()


def targeted(target: str) -> dict[str, str]:
    return {"X-Amzn-SageMaker-Target-Model": target}


def listed(server: Server) -> list[dict[str, str]]:
    status, read, _ = ask(server, "sagemaker", "GET", "/models")
    assert status == 200
    found: list[dict[str, str]] = json.loads(read)["models"]
    return found


def index(server: Server) -> dict[str, str]:
    status, read, _ = ask(server, "http", "POST", "/v2/repository/index")
    assert status == 200
    return {entry["name"]: entry.get("state", "") for entry in json.loads(read)}


@pytest.mark.parametrize("models", [(), ("anything",)], ids=["is a model", "holds a model"])
@pytest.mark.parametrize("target", ["", "team/ranker.tar.gz"])
def test_a_model_is_loaded_invoked_and_unloaded_by_its_hash(
    server: Server, root: Path, models: tuple[str, ...], target: str
) -> None:
    url, name = archive(root, "8f14", *models), target or "8f14"
    headers = targeted(target) if target else {}
    assert load(server, "8f14", url, target) == (200, "")
    assert listed(server) == [
        {"modelName": "8f14", "modelUrl": url},
        {"modelName": "own", "modelUrl": ""},
    ]
    status, read, _ = ask(server, "sagemaker", "GET", "/models/8f14")
    assert (status, json.loads(read)) == (200, {"modelName": "8f14", "modelUrl": url})
    status, read, _ = ask(server, "sagemaker", "POST", "/models/8f14/invoke", INFER, headers)
    assert (status, json.loads(read)["model_name"]) == (200, name)
    status, read, _ = ask(server, "sagemaker", "DELETE", "/models/8f14", None, headers)
    assert (status, read) == (200, b"")
    assert [model["modelName"] for model in listed(server)] == ["own"]
    assert index(server) == {"own": "READY"}
    for method, path in (("GET", "/models/8f14"), ("DELETE", "/models/8f14")):
        assert ask(server, "sagemaker", method, path, None, headers)[0] == 404
    assert load(server, "8f14", url, target)[0] == 200, "the folder can be taken in again"


def test_an_ensemble_gets_the_name_and_its_parts_keep_theirs(tmp_path: Path) -> None:
    archive(tmp_path, "e5", "part", "zz")
    archive(tmp_path, "e5", "all", text=ENSEMBLE)
    repository, states = Repository([]), StateTable()
    lifecycle = Lifecycle(cast(Any, Mock()), states, LoadOptions())
    control = ModelControl(repository, lifecycle, states, LoadOptions())
    registering = Registering(repository, control, lifecycle)
    path, names = registering.register(tmp_path / "e5/model", "chain")
    assert (path, names) == (tmp_path / "e5/model", ("chain", "part", "zz"))
    assert repository.names() == ["chain", "part", "zz"]
    archive(tmp_path, "e6", "part", "other")
    archive(tmp_path, "e6", "all", text=ENSEMBLE)
    with pytest.raises(AlreadyExists, match=r"model 'part' of '.*/e6/model' is in another"):
        registering.register(tmp_path / "e6/model", "second")
    registering.unregister(path, names)
    assert registering.register(tmp_path / "e6/model", "second")[1] == ("second", "other", "part")


def test_a_folder_in_the_archive_can_be_meant(server: Server, root: Path) -> None:
    url = archive(root, "s1", "a", "b") + "/b"
    assert load(server, "s1", url, "chosen") == (200, "")
    assert index(server).keys() == {"own", "chosen"}


def test_what_is_there_already_is_a_conflict(server: Server, root: Path) -> None:
    first, second = archive(root, "h1"), archive(root, "h2")
    assert load(server, "h1", first, "m")[0] == 200
    for key, url, target, part in (
        ("h1", second, "n", "'h1' is loaded already"),
        ("h2", first, "n", "has already been registered"),
        ("h2", second, "m", "model 'm' is loaded already"),
        ("h2", second, "own", "model 'own' is loaded already"),
    ):
        status, text = load(server, key, url, target)
        assert (status, part in text) == (409, True), text
    assert load(server, "h2", second, "n")[0] == 200


def test_a_load_that_fails_leaves_nothing_behind(server: Server, root: Path) -> None:
    broken = archive(root, "b1", text="backend: 5")
    status, text = load(server, "b1", broken)
    assert (status, "Expected string, got: 5" in text) == (400, True)
    greedy = archive(root, "b2", text=IDENTITY.replace("identity", "python"))
    Path(greedy, "1/model.py").write_text(GREEDY)
    status, text = load(server, "b2", greedy)
    assert (status, "CUDA out of memory" in text) == (507, True)
    missing = archive(root, "b3", text=IDENTITY.replace("identity", "python"))
    assert load(server, "b3", missing)[0] == 400
    assert index(server) == {"own": "READY"}
    assert [model["modelName"] for model in listed(server)] == ["own"]
    Path(broken, "config.pbtxt").write_text(IDENTITY)
    assert load(server, "b1", broken)[0] == 200


def test_only_what_sagemaker_unpacked_can_be_named(
    server: Server, root: Path, tmp_path: Path
) -> None:
    secret = archive(tmp_path / "elsewhere", "x")
    archive(root, "h1", "a", "b")
    for url, part in (
        (secret, "HASH/model', or a folder in it, is expected"),
        ("/dev/shm", "is expected"),
        ("/proc/self/cwd", "is expected"),
        (str(root), "is expected"),
        (str(root / "h1"), "is expected"),
        (str(root / "h1/other"), "is expected"),
        (str(root / "h1/model/a/1"), "is expected"),
        ("h1/model", "is expected"),
        (f"file://{root}/h1/model", "is expected"),
        (str(root / "h1/model/../model/a"), "is expected"),
        (str(root / "h1/model/.."), "is not a path inside"),
        (str(root / "../models/h1/model"), "is expected"),
        (str(root / "h2/model"), "where there is no folder"),
        (str(root / "h1/model"), "holds 2 models (a, b), and 0 of them are ensembles"),
        ("", "'url' is empty"),
        (5, "no model to load"),
    ):
        status, text = load(server, "h1", url, "m")
        assert (status, part in text) == (400, True), (url, text)
    status, _, _ = ask(server, "sagemaker", "POST", "/models", b"{")
    assert status == 400


@pytest.mark.parametrize("place", ["h1", "h1/model", "h1/model/1", "h1/model/1/model.py"])
def test_no_link_leads_out(server: Server, root: Path, tmp_path: Path, place: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    python = IDENTITY.replace("identity", "python")
    archive(elsewhere, "h1", text=python)
    (elsewhere / "h1/model/1/model.py").write_text(GREEDY)
    shutil.copytree(elsewhere, root, dirs_exist_ok=True)
    link = root / place
    shutil.rmtree(link) if link.is_dir() else link.unlink()
    link.symlink_to(elsewhere / place)
    status, text = load(server, "h1", str(root / "h1/model"), "m")
    assert status == 400, text
    assert "link" in text or "leads out" in text
    assert index(server) == {"own": "READY"}


@pytest.mark.parametrize("target", ["../up", "a/../b", "/root", "a//b", ".", "x\ty"])
def test_a_target_is_a_name(server: Server, root: Path, target: str) -> None:
    status, text = load(server, "h1", archive(root, "h1"), target)
    assert (status, "target model is" in text) == (400, True), text


def test_a_hash_does_not_stand_for_another_model(server: Server, root: Path) -> None:
    assert load(server, "h1", archive(root, "h1"), "m")[0] == 200
    for headers in ({}, targeted("own")):
        status, read, _ = ask(server, "sagemaker", "DELETE", "/models/h1", None, headers)
        assert (status, "was loaded as model 'm'" in read.decode()) == (400, True)
    assert index(server) == {"m": "READY", "own": "READY"}


def test_a_model_that_is_not_ready_is_listed_without_its_name(server: Server, root: Path) -> None:
    url = archive(root, "h1")
    assert load(server, "h1", url, "m")[0] == 200
    assert ask(server, "http", "POST", "/v2/repository/models/m/unload")[0] == 200
    assert listed(server) == [{}, {"modelName": "own", "modelUrl": ""}]
    assert ask(server, "sagemaker", "DELETE", "/models/h1", None, targeted("m"))[0] == 200
    assert index(server) == {"own": "READY"}


def test_loading_is_guarded(root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    file = tmp_path / "keys.txt"
    keys = {
        name: make_key(file, name, scopes, models)
        for name, scopes, models in (
            ("infer", "infer", "*"),
            ("some", "infer,manage", "m*"),
            ("all", "infer,manage", "*"),
        )
    }
    doors = DoorOptions(sagemaker=True, sagemaker_port=0, sagemaker_root=root)
    access = AccessOptions(
        api_keys=file,
        http_restricted=(Restriction(("model-repository",), "admin", "yes"),),
    )
    url = archive(root, "h1")
    explicit = {"model_control_mode": "explicit"}
    with serve(repository, doors=doors, access=access, **explicit) as server:

        def asked(key: str, **more: str) -> int:
            shown = {"Authorization": f"Bearer {keys[key]}", **more} if key else more
            return load(server, "h1", url, "m1", **shown)[0]

        assert asked("", admin="yes") == 401
        assert asked("all") == 403, "the restricted category"
        # A repository concerns the whole server, whatever the model is called.
        assert asked("infer", admin="yes") == asked("some", admin="yes") == 403
        assert asked("all", admin="yes") == 200
        shown = {"Authorization": f"Bearer {keys['some']}", "admin": "yes"}
        _, read, _ = ask(server, "sagemaker", "GET", "/models", None, shown)
        assert [model["modelName"] for model in json.loads(read)["models"]] == ["h1"]
        other = {**shown, **targeted("other")}
        assert ask(server, "sagemaker", "DELETE", "/models/h1", None, other)[0] == 403
        own = {**shown, **targeted("m1")}
        assert ask(server, "sagemaker", "DELETE", "/models/h1", None, own)[0] == 200


def test_without_explicit_control_nothing_is_loaded(root: Path, tmp_path: Path) -> None:
    (tmp_path / "own/1").mkdir(parents=True)
    (tmp_path / "own/config.pbtxt").write_text(IDENTITY)
    doors = DoorOptions(sagemaker=True, sagemaker_port=0, sagemaker_root=root)
    with serve(tmp_path / "own", doors=doors) as server:
        status, text = load(server, "h1", archive(root, "h1"))
        assert (status, "explicit model load / unload is not allowed" in text) == (400, True)
        assert ask(server, "sagemaker", "GET", "/models/h1")[0] == 404
