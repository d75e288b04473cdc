"""Model folders recorded from Triton load, or fail to, with the same words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nerite.config import Settings
from nerite.models.lifecycle import Lifecycle
from nerite.models.options import LoadOptions
from nerite.models.repository import Repository
from nerite.models.states import StateTable
from nerite.stores.local import LocalStore

VECTORS = Path(__file__).parent / "vectors"

#: Where we answer otherwise: what our reason says instead, and why.
OTHERWISE = {
    # model.pt2 is known (Triton 2.73): the backend is missing, the name is not wrong.
    "be_file_pt2": "unable to find backend library for backend 'pytorch'",
    # Nerite's backends are no C libraries, so no library is opened.
    "be_model_lib": "unable to find backend library for backend 'own'",
}


def cases() -> list[Any]:
    found = []
    for path in sorted(VECTORS.glob("*.json")):
        theme = json.loads(path.read_text())
        for case in theme["cases"]:
            found.append(pytest.param(theme, case, id=case["id"]))
    return found


def options(flags: list[str]) -> LoadOptions:
    """The flags of a theme as options."""
    settings: dict[str, dict[str, str]] = {}
    for flag in flags:
        name, _, value = flag.partition("=")
        if name == "--backend-config":
            backend, _, pair = value.rpartition(",")
            key, _, word = pair.partition("=")
            settings.setdefault(backend, {})[key] = word
    complete = "--disable-auto-complete-config" not in flags
    return LoadOptions(auto_complete=complete, settings=Settings(backend_config=settings))


def load(tmp_path: Path, engine: Any, write: Any, theme: Any, case: Any) -> list[dict[str, str]]:
    """The index entries of the case's model, without its name."""
    repository = tmp_path / "repo"
    write(repository / case["id"], case["files"])
    states = StateTable()
    lifecycle = Lifecycle(engine, states, options(theme["flags"]))
    for found in Repository([LocalStore(repository)]).scan():
        lifecycle.load(found)
    entries = [entry.to_dict() for entry in states.index()]
    for entry in entries:
        assert entry.pop("name") == case["id"]
        if "reason" in entry:
            entry["reason"] = normal(entry["reason"].replace(str(repository.resolve()), "{repo}"))
    lifecycle.close(5)
    return entries


def normal(reason: str) -> str:
    """A reason without the frames that are the backend's own, and without what is only ours."""
    reason = re.sub(r"\n  \{backends\}/[^\n]*", "", reason)
    reason = reason.replace("/opt/tritonserver/backends", "{backends}")
    return re.sub(r" Available backends: .*", "", reason)


@pytest.mark.parametrize(("theme", "case"), cases())
def test_a_model_folder_ends_as_in_triton(
    theme: Any, case: Any, tmp_path: Path, engine: Any, write: Any
) -> None:
    expect = case["expect"]
    entries = load(tmp_path, engine, write, theme, case)
    if case["id"] == "ox_two":
        return  # has a test of its own, below
    if case["id"] in OTHERWISE:
        assert OTHERWISE[case["id"]] in entries[0]["reason"]
        return
    if expect["index"] in ([], [{}]):
        # Triton hides these causes in its log; here the index tells them (`spec` 10.1, 4 and 5).
        assert [entry["state"] for entry in entries] == ["UNAVAILABLE"]
        told = expect["log"].get("poll") or expect["log"]["other"][0].split(": ", 1)[1]
        assert told in re.sub(r"(config\.pbtxt):\d+:\d+", r"\1", entries[0]["reason"])
        known = "has no available versions" in expect["metadata_error"]["error"]
        assert (case["id"] in engine.published) == known
        return
    wanted = [
        {key: normal(value) if key == "reason" else value for key, value in entry.items()}
        for entry in expect["index"]
    ]
    assert entries == wanted
    if "config" in expect:
        version = max(v for name, v in engine.versions if name == case["id"])
        assert json.loads(engine.versions[case["id"], version].config_json) == expect["config"]


def test_completed_tensors_come_in_the_files_order(tmp_path: Path, engine: Any, write: Any) -> None:
    theme = json.loads((VECTORS / "onnx_autocomplete.json").read_text())
    case = next(case for case in theme["cases"] if case["id"] == "ox_two")
    load(tmp_path, engine, write, theme, case)
    ours = json.loads(engine.versions["ox_two", 1].config_json)
    theirs = case["expect"]["config"]
    assert [tensor["name"] for tensor in ours["input"]] == ["A", "B"]
    for kind in ("input", "output"):
        key = lambda tensor: tensor["name"]  # noqa: E731
        assert sorted(ours.pop(kind), key=key) == sorted(theirs.pop(kind), key=key)
    assert ours == theirs
