# SPDX-License-Identifier: Apache-2.0
"""`nerite check`: every problem of the model configurations below some paths."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerite.cli import screen

if TYPE_CHECKING:
    from nerite.errors import ConfigProblem


def check(
    paths: Annotated[
        list[Path], typer.Argument(help="Model repositories, model folders or configuration files.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of problems.")
    ] = False,
) -> None:
    """Print each problem with file, line, key, value and the fix; exit with 1 if there is any."""
    from nerite.config import check_path

    problems = [problem for path in paths for problem in check_path(path)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(problem) for problem in problems], indent=2))
    else:
        _show(problems, len(paths))
    raise typer.Exit(code=1 if problems else 0)


def _show(problems: list[ConfigProblem], paths: int) -> None:
    paint = screen.Paint.for_stdout()
    for problem in problems:
        typer.echo(described(problem, paint))
    if not problems:
        typer.echo(f"no problem found in {paths} {'path' if paths == 1 else 'paths'}")
        return
    count = len(problems)
    typer.echo(f"{count} {'problem' if count == 1 else 'problems'} found", err=True)


def described(problem: ConfigProblem, paint: screen.Paint) -> str:
    """A problem on up to three lines: where and what, the key with its value, the fix."""
    place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part)
    lines = [f"{paint.bold(place)}: {problem.message}" if place else problem.message]
    if problem.key:
        value = f" = {problem.value}" if problem.value else ""
        lines.append(f"  key: {problem.key}{value}")
    if problem.fix:
        lines.append(f"  fix: {paint.green(problem.fix)}")
    return "\n".join(lines)
