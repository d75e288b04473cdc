"""`nerite backends`: what is ready, what is missing with its command, what is broken and why."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from nerite.backends import registry
from nerite.cli.app import main


@pytest.fixture(autouse=True)
def some_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    broken = EntryPoint("broken", "nowhere_at_all:X", registry.GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [broken])


def test_json_tells_the_state_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "--json"]) == 0
    listed: Any = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert sorted(listed) == registry.available()
    assert listed["sklearn"]["state"] == "ready"
    assert listed["sklearn"]["source"] == "nerite.backends.sklearn:SklearnBackend"
    assert listed["xgboost"]["state"] == "missing"
    assert listed["xgboost"]["install"] == "pip install 'nerite[xgboost]'"
    assert listed["broken"]["state"] == "broken"
    assert listed["broken"]["source"] == "nowhere_at_all:X (from an installed package)"
    assert "which cannot be found" in listed["broken"]["reason"]


def test_people_see_the_command_beside_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("xgboost")]
    assert row.split(maxsplit=3)[1] == "missing"
    assert row.endswith("pip install 'nerite[xgboost]'")
