# SPDX-License-Identifier: Apache-2.0
"""What the commands tell of themselves: examples that parse, and completion in three shells."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nerite.cli.commands import command_line
from nerite.cli.examples import EXAMPLES

ALL = [(command, line) for command, lines in EXAMPLES.items() for line in lines]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a line means, and the words that are left for it."""
    found: Any = typer.main.get_command(command_line())
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    return found, words


@pytest.mark.parametrize(("name", "line"), ALL, ids=[line for _, line in ALL])
def test_an_example_parses(name: str, line: str) -> None:
    words = shlex.split(line)
    assert words.pop(0) == "nerite"
    command, left = command_of(words)
    command.make_context(name, left, resilient_parsing=False)
    assert line in str(command_of(name.split())[0].epilog) or name == "models"


def test_every_command_that_takes_something_has_an_example() -> None:
    without = {"demo", "version", "export", "keys"}
    commands = typer.main.get_command(command_line()).commands  # type: ignore[attr-defined]
    assert commands.keys() - without == {name for name in EXAMPLES if " " not in name}


def test_help_shows_each_example_on_a_line_of_its_own() -> None:
    words = [sys.executable, "-m", "nerite", "serve", "--help"]
    variables = {**os.environ, "COLUMNS": "100"}
    shown = subprocess.run(words, env=variables, capture_output=True, text=True, check=True).stdout
    lines = [line.strip() for line in shown.splitlines()]
    assert "Examples:" in lines
    assert all(line in lines for line in EXAMPLES["serve"])


SHELLS = [
    ("bash", {"COMP_WORDS": "nerite mod", "COMP_CWORD": "1"}, "models"),
    ("bash", {"COMP_WORDS": "nerite serve --grpc-po", "COMP_CWORD": "2"}, "--grpc-port"),
    ("zsh", {"_TYPER_COMPLETE_ARGS": "nerite exp"}, "explain"),
    (
        "fish",
        {"_TYPER_COMPLETE_ARGS": "nerite st", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        "storage-initializer",
    ),
]


@pytest.mark.parametrize(("shell", "asked", "expected"), SHELLS)
def test_a_shell_is_told_how_words_go_on(shell: str, asked: dict[str, str], expected: str) -> None:
    variables = {**os.environ, **asked, "_NERITE_COMPLETE": f"complete_{shell}"}
    nerite = Path(sys.executable).with_name("nerite")
    done = subprocess.run([nerite], env=variables, capture_output=True, text=True)
    assert expected in done.stdout, done.stderr


def test_completion_can_be_installed(tmp_path: Path) -> None:
    """Into the home of whoever asks, for the shell that asks."""
    nerite = Path(sys.executable).with_name("nerite")
    path = f"{nerite.parent}:{os.environ['PATH']}"
    variables = {**os.environ, "HOME": str(tmp_path), "PATH": path}
    # The parent process is what typer takes for the shell.
    words = ["bash", "--norc", "-c", f"{nerite} --install-completion; exit $?"]
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".bash_completions/nerite.sh"
    assert "_NERITE_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
