"""Small ONNX files, and the backend of `examples/backend` importable as its reader has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/backend"


@pytest.fixture(autouse=True)
def example_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield
    sys.modules.pop("reverse_backend", None)
