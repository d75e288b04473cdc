# SPDX-License-Identifier: Apache-2.0
"""One model under a name of the operator's: what may lie there, and what is told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerite.errors import InvalidArgument, NotFound
from nerite.stores.named import NamedStore


def put(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    root.mkdir(exist_ok=True)
    return root


@pytest.mark.parametrize(
    ("files", "below", "file"),
    [
        (["m.onnx"], "m.onnx", "m.onnx"),
        (["model.joblib", "README.md"], "", "model.joblib"),
        (["model.onnx", "assets/vocabulary.txt"], "", "model.onnx"),
        (["1/model.onnx"], "", None),
        (["config.pbtxt"], "", None),
        (["densenet/config.pbtxt"], "", None),
        (["iris/model.skops"], "", "model.skops"),
    ],
)
def test_a_single_model_gets_the_name_wherever_it_lies(
    files: list[str], below: str, file: str | None, tmp_path: Path
) -> None:
    root = put(tmp_path / "models", *files)
    (model,) = NamedStore(root / below, "iris-v2").models()
    assert (model.name, model.renamed) == ("iris-v2", True)
    assert (model.file.name if model.file else None) == file


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to the files are made elsewhere, where a relative path leads nowhere."""
    put(tmp_path / "models", "model.onnx")
    monkeypatch.chdir(tmp_path)
    (model,) = NamedStore(Path("models"), "iris").models()
    assert model.folder == tmp_path / "models"
    assert model.file == tmp_path / "models/model.onnx"


def test_several_models_keep_their_names_and_it_is_told(tmp_path: Path) -> None:
    root = put(tmp_path, "a/1/model.onnx", "b/model.skops", "c/config.pbtxt")
    store = NamedStore(root, "iris")
    assert [(m.name, m.renamed, m.file) for m in store.models()] == [
        ("a", False, None),
        ("b", False, root / "b/model.skops"),
        ("c", False, None),
    ]
    assert store.unused_name() == (
        f"'{root}' is a repository of 3 models, which are served under their own names (a, b, c); "
        "none is 'iris'"
    )
    assert not NamedStore(root, "b").unused_name()
    assert not NamedStore(root).unused_name()


def test_more_than_one_model_file_is_refused_with_their_names(tmp_path: Path) -> None:
    store = NamedStore(put(tmp_path, "a.skops", "b.ubj", "notes.txt"), "x")
    with pytest.raises(InvalidArgument, match=r"more than one model file \(a\.skops, b\.ubj\)"):
        store.models()


def test_a_folder_without_a_model_is_told_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"holds no model \(found: model\.h5, notes\.md\); a"):
        NamedStore(put(tmp_path / "a", "model.h5", "notes.md"), "x").models()
    with pytest.raises(InvalidArgument, match=r"\(found: nothing\)"):
        NamedStore(put(tmp_path / "b"), "x").models()
    with pytest.raises(InvalidArgument, match=r"f7\.h5, and 2 more\)"):
        NamedStore(put(tmp_path / "c", *(f"f{n}.h5" for n in range(10))), "x").models()
    with pytest.raises(NotFound, match="there is nothing at"):
        NamedStore(tmp_path / "nowhere", "x")
