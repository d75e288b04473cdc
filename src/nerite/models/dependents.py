# SPDX-License-Identifier: Apache-2.0
"""Which models need which: what an ensemble loads with itself, what goes and falls with a model.

Values in, values out; `control` acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

Needs = Mapping[str, Collection[str]]
"""Model -> the models that it calls."""


def with_needs(name: str, needs_of: Callable[[str], Iterable[str]]) -> list[str]:
    """A model and all that it needs, each after what it needs itself; rings are cut open."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(each: str) -> None:
        if each in seen:
            return
        seen.add(each)
        for needed in needs_of(each):
            visit(needed)
        order.append(each)

    visit(name)
    return order


def fallen(name: str, needs: Needs) -> list[str]:
    """The models that cannot serve any more once `name` does not, nearest first."""
    found: list[str] = []
    queue = [name]
    while queue:
        gone = queue.pop(0)
        for user, needed in sorted(needs.items()):
            if gone in needed and user not in found and user != name:
                found.append(user)
                queue.append(user)
    return found


def orphans(gone: Iterable[str], needs: Needs, wanted: Collection[str]) -> list[str]:
    """The models that served only those that are gone: nobody wanted them for themselves, and no
    model that stays needs them."""
    left = dict(needs)
    found: list[str] = []
    queue = list(gone)
    while queue:
        for candidate in sorted(left.pop(queue.pop(0), ())):
            is_needed = any(candidate in needed for needed in left.values())
            if candidate in left and candidate not in wanted and not is_needed:
                found.append(candidate)
                queue.append(candidate)
    return found
