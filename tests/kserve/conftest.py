"""A `nerite` command line run inside the test, its two streams kept apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nerite.cli.app import main


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def nerite(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*words: object) -> Ran:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run
