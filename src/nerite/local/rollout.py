# SPDX-License-Identifier: Apache-2.0
"""Which copies of a component run while it changes: the new one is ready before the old one ends.

`next_step` is a function of what is wanted and what there is; called after every change it leads
from any state to exactly one copy of each wanted revision. Usually one is wanted; two while a
canary and the last rolled-out revision share the traffic.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopyState:
    """What is known about one running copy."""

    number: int
    revision: str
    ready: bool = False
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, and which copy answers for which wanted revision (None: for want of it)."""

    start: tuple[str, ...] = ()
    stop: tuple[int, ...] = ()
    serving: tuple[tuple[str | None, int], ...] = ()


def next_step(
    wanted: Sequence[str],
    copies: Sequence[CopyState],
    in_use: Collection[int] = (),
    alone: bool = False,
) -> Step:
    """The next step towards one copy of each wanted revision, the latest of them first.

    `in_use` are copies that others still talk to. `alone` says that two copies cannot run at once
    (they listen on the same fixed port): then the old one ends first, and nothing answers for a
    while.
    """
    alive = [copy for copy in copies if not copy.stopping]
    if not wanted:
        return Step(stop=tuple(copy.number for copy in alive))
    chosen = {copy.revision: copy for copy in reversed(alive) if copy.revision in wanted}
    others = [copy for copy in alive if copy not in chosen.values()]
    missing = tuple(revision for revision in wanted if revision not in chosen)
    if missing and alone and copies:
        return Step(stop=tuple(copy.number for copy in others))
    ready = [(revision, chosen[revision]) for revision in wanted if _is_ready(chosen, revision)]
    kept = None if len(ready) == len(wanted) else _latest_ready(others)
    stop = tuple(
        copy.number for copy in others if copy.number != kept and copy.number not in in_use
    )
    serving: list[tuple[str | None, int]] = [(revision, copy.number) for revision, copy in ready]
    if kept is not None and not ready:
        serving.append((None, kept))
    return Step(missing, stop, tuple(serving))


def _is_ready(chosen: dict[str, CopyState], revision: str) -> bool:
    return revision in chosen and chosen[revision].ready


def _latest_ready(copies: Sequence[CopyState]) -> int | None:
    return max((copy.number for copy in copies if copy.ready), default=None)
