"""Model folders of the recorded configurations, written to disk."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).parent / "vectors"
Files = Mapping[str, Any]


def write_model(folder: Path, files: Files) -> Path:
    """A model folder; `None` is an empty folder, `{"b64": ...}` binary content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = base64.b64decode(content["b64"]) if isinstance(content, dict) else content.encode()
        path.write_bytes(raw)
    return folder


def theme(name: str) -> dict[str, Any]:
    """One recorded theme."""
    found: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder
