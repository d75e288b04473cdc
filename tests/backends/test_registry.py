"""Names of backends lead to classes, or to a sentence that says what to do."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nerite.backends import registry
from nerite.backends.identity import IdentityBackend
from nerite.errors import InvalidArgument, MissingExtra


def test_built_in_names_lead_to_their_classes() -> None:
    for name in registry.BUILT_IN:
        assert registry.find(name).__module__.startswith("nerite.backends.")


def test_an_unknown_backend_is_refused_in_tritons_words_and_told_what_there_is() -> None:
    with pytest.raises(InvalidArgument) as caught:
        registry.find("nosuch")
    assert str(caught.value).startswith(
        "unable to find backend library for backend 'nosuch', "
        "try specifying runtime on the model configuration."
    )
    assert "identity, lightgbm, onnxruntime, python, sklearn, xgboost" in str(caught.value)


def test_a_missing_package_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra) as caught:
        registry.find("onnxruntime")
    assert str(caught.value) == (
        "backend 'onnxruntime' needs the package 'onnxruntime', which is not installed; "
        "run: pip install 'nerite[onnx]'"
    )


def test_installed_packages_can_add_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "nerite.backends.identity:IdentityBackend", registry.GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])
    assert registry.find("mine") is IdentityBackend
    assert "mine" in registry.available()


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        (None, "nowhere_at_all:X", "module 'nowhere_at_all', which cannot be found"),
        ("import nowhere_at_all", "written:X", "No module named 'nowhere_at_all'; install the"),
        ("1 / 0", "written:X", "cannot be imported: ZeroDivisionError"),
        (
            "X = 1",
            "written:X",
            "is not a class; a backend is a class with load, execute and unload",
        ),
        ("class X:\n    load = unload = print", "written:X", "has no method execute"),
    ],
)
def test_a_backend_of_ones_own_that_is_wrong_says_how(
    source: str | None,
    name: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    if source is not None:
        (tmp_path / "written.py").write_text(source)
    with pytest.raises(InvalidArgument) as caught:
        registry.find(name)
    sys.modules.pop("written", None)
    assert f"backend '{name}'" in str(caught.value)
    assert text in str(caught.value)
