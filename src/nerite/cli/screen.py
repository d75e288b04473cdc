# SPDX-License-Identifier: Apache-2.0
"""What a person sees: colour on terminals only, and tables that stay readable when piped.

Pure text in, text out. Which facts are shown is decided by the command that shows them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours text for a terminal; gives it back as it is for anything else."""

    enabled: bool

    @classmethod
    def for_stdout(cls) -> Paint:
        """Colours if standard output is a terminal, and nobody asked for none."""
        return cls(is_terminal(sys.stdout) and not _is_refused())

    def bold(self, text: str) -> str:
        """For names that the eye looks for."""
        return self._wrap("1", text)

    def dim(self, text: str) -> str:
        """For what is said beside the point."""
        return self._wrap("2", text)

    def green(self, text: str) -> str:
        """For what is well."""
        return self._wrap("32", text)

    def red(self, text: str) -> str:
        """For what is broken."""
        return self._wrap("31", text)

    def yellow(self, text: str) -> str:
        """For what is under way."""
        return self._wrap("33", text)

    def state(self, name: str) -> str:
        """A model's state in its colour."""
        colour = {"READY": self.green, "UNAVAILABLE": self.red}.get(name, self.yellow)
        return colour(name) if name else name

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled else text


def _is_refused() -> bool:
    from nerite.server.environment import refuses_colour

    return refuses_colour()


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads this stream as it is written."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def table(header: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint) -> str:
    """Left-aligned columns, two blanks apart, without lines; states are coloured.

    What has several lines goes on below itself, in its own column.
    """
    lower = [line for row in rows for line in _unfolded(row)]
    widths = [max(map(len, column)) for column in zip(header, *lower, strict=True)]
    lines = [paint.bold(_line(header, widths))]
    for row in lower:
        state = next((cell for cell in row if cell in ("READY", "UNAVAILABLE", "LOADING")), "")
        line = _line(row, widths)
        lines.append(line.replace(state, paint.state(state), 1) if state else line)
    return "\n".join(lines)


def _unfolded(row: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip_longest(*(cell.splitlines() or [""] for cell in row), fillvalue=""))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 model`, `2 models`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
