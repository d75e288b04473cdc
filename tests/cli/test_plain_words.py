"""Command lines that are read without typer mean what typer takes them for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from nerite.cli import serve_command
from nerite.cli.app import main
from nerite.cli.commands import command_line
from nerite.cli.flags import FLAGS
from nerite.cli.options import Given
from nerite.cli.plain_words import read_plain

NAMES = [flag.name for flag in FLAGS]
TEXTS = st.sampled_from(["models", "a=b", "true", "", " ", "x,y", "--", "-1", "-h", "é", "\udc80"])
WORDS = st.one_of(
    TEXTS,
    st.sampled_from(NAMES),
    st.builds("{}={}".format, st.sampled_from(NAMES), TEXTS),
    st.sampled_from(["--help", "--no-such", "--http", "---http-port=1"]),
)


def as_typer(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> tuple[Any, ...] | None:
    """Paths and flags as typer reads them; None if it does anything else than to serve."""
    told: list[tuple[Any, ...]] = []

    def note(paths: Sequence[str], written: Mapping[str, Given]) -> int:
        told.append((paths, written))
        return 0

    monkeypatch.setattr(serve_command, "serve", note)
    command = typer.main.get_command(command_line("serve"))
    command.main(["serve", *words], "nerite", standalone_mode=False)
    return told[0] if told else None


@given(words=st.lists(WORDS, max_size=5))
def test_what_is_read_without_typer_is_read_the_same_by_typer(words: list[str]) -> None:
    plain = read_plain(words)
    if plain is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        read = as_typer(patch, words)
    assert read is not None
    assert plain == read
    assert list(plain[1]) == list(read[1])


@pytest.mark.parametrize("flag", FLAGS, ids=NAMES)
def test_every_flag_can_be_read_without_typer(flag: Any) -> None:
    if flag.kind == "switch":
        assert read_plain(["m", flag.name]) == (["m"], {flag.name: True})
        assert read_plain(["m", f"{flag.name}=true"]) is None
        return
    once = ["1"] if flag.kind == "list" else "1"
    last = ["1", "2"] if flag.kind == "list" else "2"
    assert read_plain([f"{flag.name}=1"]) == ([], {flag.name: once})
    assert read_plain([flag.name, "1", "m"]) == (["m"], {flag.name: once})
    assert read_plain([f"{flag.name}=1", flag.name, "2"]) == ([], {flag.name: last})
    assert read_plain([flag.name]) is None


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["m", "-h"], ["--", "m"], ["--nosuch=1"], ["m", "--http-port", "-1"]]
)
def test_what_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert read_plain(words) is None


def test_a_mistyped_flag_is_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "models", "--htpp-port=1"]) == 1
    assert "--htpp-port" in capsys.readouterr().err
