# SPDX-License-Identifier: Apache-2.0
"""Which copies of a component run while it changes: the new one is ready before the old one ends.

`next_step` is a function of what is wanted and what there is; called after every change it leads
from any state to exactly the wanted copies. Usually one revision is wanted; two while a canary and
the last rolled-out revision share the traffic. A revision that stands there twice has two copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopyState:
    """What is known about one running copy."""

    number: int
    revision: str
    ready: bool = False
    stopping: bool = False
    proven: bool = False
    """Whether it has been ready, so that it is worth waiting for if it is not just now."""


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
    """The next step towards the wanted copies, the latest revision of them first.

    `in_use` are copies that others still talk to. `alone` says that two copies cannot run at once
    (they listen on the same fixed port): then the old one ends first, and nothing answers for a
    while.
    """
    alive = [copy for copy in copies if not copy.stopping]
    if not wanted:
        return Step(stop=tuple(copy.number for copy in alive))
    places = Counter(wanted)
    chosen = {revision: _best(alive, revision, count) for revision, count in places.items()}
    numbers = {copy.number for found in chosen.values() for copy in found}
    others = [copy for copy in alive if copy.number not in numbers]
    missing = tuple(r for r, found in chosen.items() for _ in range(places[r] - len(found)))
    if missing and alone and copies:
        return Step(stop=tuple(copy.number for copy in others))
    ready = [(r, copy.number) for r, found in chosen.items() for copy in found if copy.ready]
    kept = [] if len(ready) == len(wanted) else _latest_ready(others)
    # One that crashed comes back sooner than one that has never run becomes ready.
    worthwhile = kept or ([] if ready else _latest([copy for copy in others if copy.proven]))
    stop = tuple(
        copy.number
        for copy in others
        if copy.number not in worthwhile and copy.number not in in_use
    )
    serving: list[tuple[str | None, int]] = [*ready] or [(None, number) for number in kept]
    return Step(missing, stop, tuple(serving))


def _best(alive: Sequence[CopyState], revision: str, count: int) -> list[CopyState]:
    """So many copies of a revision, those that are ready before others."""
    same = [copy for copy in alive if copy.revision == revision]
    return sorted(same, key=lambda copy: not copy.ready)[:count]


def _latest_ready(copies: Sequence[CopyState]) -> list[int]:
    """The ready copies of the latest revision that has any."""
    return _latest([copy for copy in copies if copy.ready])


def _latest(copies: Sequence[CopyState]) -> list[int]:
    """Those of the latest revision."""
    latest = max(copies, key=lambda copy: copy.number, default=None)
    return [copy.number for copy in copies if latest and copy.revision == latest.revision]
