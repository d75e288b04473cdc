"""Where models lie, and the names under which Nerite sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerite.errors import NeriteError
from nerite.local.storage import LocalStorage, lay_out


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_paths_file_uris_and_claims(tmp_path: Path) -> None:
    model = touch(tmp_path / "my models/irises/model.joblib").parent
    claims = {"flowers": tmp_path / "my models"}
    storage = LocalStorage(tmp_path, claims)
    assert storage.fetch(str(model), tmp_path) == model
    assert storage.fetch(f"file://{tmp_path}/my%20models/irises", tmp_path) == model
    assert storage.fetch("pvc://flowers/irises", tmp_path) == model
    assert storage.fetch("pvc://flowers", tmp_path) == model.parent
    assert storage.fetch("pvc://my models/irises", tmp_path) == model


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("/no/such", "there is no '/no/such'"),
        ("pvc://trees/oak", "start with --pvc trees=FOLDER"),
        ("pvc://flowers/../../etc", "is not a path inside"),
        ("oci://image/x", "'oci://' is nowhere on this machine"),
    ],
)
def test_what_is_not_there_is_told(uri: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    with pytest.raises(NeriteError, match=told):
        LocalStorage(tmp_path).fetch(uri, tmp_path)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (["iris.joblib", "README.md"], "irises/1/model.joblib"),
        (["model.onnx"], "irises/1/model.onnx"),
        (["3/model.onnx"], "irises/3/model.onnx"),
    ],
)
def test_a_bare_file_gets_the_name_of_the_service(
    content: list[str], seen: str, tmp_path: Path
) -> None:
    for name in content:
        touch(tmp_path / "in" / name)
    folder = lay_out(tmp_path / "in", "irises", tmp_path / "out")
    assert folder == tmp_path / "out"
    assert (folder / seen).resolve() == (tmp_path / "in" / content[0]).resolve()
    again = lay_out(tmp_path / "in" / content[0], "irises", tmp_path / "out")
    assert list((again / "irises").iterdir())


@pytest.mark.parametrize("inside", ["digits/1/model.onnx", "config.pbtxt"])
def test_repositories_and_model_folders_keep_their_names(inside: str, tmp_path: Path) -> None:
    touch(tmp_path / "in" / inside)
    assert lay_out(tmp_path / "in", "irises", tmp_path / "out") == tmp_path / "in"


def test_two_models_or_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(NeriteError, match="holds no model"):
        lay_out(tmp_path / "in", "irises", tmp_path / "out")
    touch(tmp_path / "in/a.joblib")
    touch(tmp_path / "in/b.joblib")
    with pytest.raises(NeriteError, match=r"More than one model file .*: a.joblib, b.joblib"):
        lay_out(tmp_path / "in", "irises", tmp_path / "out")
