# SPDX-License-Identifier: Apache-2.0
"""The table of `nerite up`, laid out for a terminal of any width.

Reasons are long and stand in lines of their own, below what they are about; so do addresses where
they do not fit beside the names. Pure: rows and a width in, lines out, each with what it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.text import Text

    from nerite.local.overview import Row

Part = Literal["head", "service", "component", "ready", "broken", "waiting", "plain", "beside"]
_STYLES: dict[Part, str] = {
    "head": "bold", "service": "bold", "component": "", "ready": "green", "broken": "red",
    "waiting": "yellow", "plain": "", "beside": "dim",
}  # fmt: skip
_STATES: dict[str, Part] = {"True": "ready", "False": "broken"}
_HINT = "Ctrl-C stops everything; meanwhile: nerite apply, get, describe, logs, delete"
_INDENT = "    "
_READY, _RESTARTS = len("Unknown"), len("RESTARTS")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen: texts one after the other."""

    parts: tuple[tuple[str, Part], ...]

    @property
    def text(self) -> str:
        """The line without colours."""
        return "".join(text for text, _ in self.parts).rstrip()


def lines(rows: Sequence[Row], ports: str, width: int) -> list[Line]:
    """The whole screen: the rows with their heads, the ports, and what may be done."""
    if not rows:
        found = [Line((("nothing is applied yet", "plain"),))]
    else:
        longest = max(len("NAME"), *(len(row.name) for row in rows))
        column = min(longest, max(8, width - _READY - _RESTARTS - 4))
        urls = max(len(row.url) for row in rows)
        beside = column + _READY + _RESTARTS + 6 + urls <= width
        found = [_heads(column, beside)]
        for row in rows:
            found += _row(row, column, beside, width)
    told = [piece for text in (ports, _HINT) for piece in textwrap.wrap(text, width)]
    return [*found, *(Line(((text, "beside"),)) for text in told)]


def rendered(rows: Sequence[Row], ports: str, width: int) -> Text:
    """The same for rich, in colours."""
    from rich.text import Text

    shown = Text(overflow="fold")
    for index, line in enumerate(lines(rows, ports, width)):
        shown.append("\n" if index else "")
        for text, part in line.parts:
            shown.append(text, _STYLES[part])
    return shown


def _heads(column: int, beside: bool) -> Line:
    url = "  URL" if beside else ""
    return Line(((f"{'NAME':<{column}}  {'READY':<{_READY}}  RESTARTS{url}", "head"),))


def _row(row: Row, column: int, beside: bool, width: int) -> list[Line]:
    name: Part = "service" if row.is_service else "component"
    restarts = str(row.restarts) if row.restarts else ""
    state = (f"  {row.ready:<{_READY}}  ", _STATES.get(row.ready, "waiting"))
    rest = [state, (f"{restarts:<{_RESTARTS}}", "plain")]
    if beside:
        rest.append((f"  {row.url}", "plain"))
    found = []
    if len(row.name) > column:
        found.append(Line(((row.name, name),)))
        found.append(Line(((" " * column, name), *rest)))
    else:
        found.append(Line(((f"{row.name:<{column}}", name), *rest)))
    if row.url and not beside:
        found.append(Line(((f"{_INDENT}{row.url}", "plain"),)))
    room = max(20, width - len(_INDENT))
    told = textwrap.wrap(row.message, room, break_long_words=False, break_on_hyphens=False)
    found += [Line(((f"{_INDENT}{text}", "beside"),)) for text in told]
    return found
