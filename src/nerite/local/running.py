# SPDX-License-Identifier: Apache-2.0
"""What runs for one service, as its status, its routes and its events look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nerite.local.components import Component
from nerite.local.copy_view import CopyView
from nerite.local.supervisor import GroupView


@dataclass(frozen=True, slots=True)
class Running:
    """What runs for one service: its components with their copies, the predictor's first."""

    groups: tuple[GroupView, ...] = ()
    revisions: Mapping[tuple[str, str], int] | None = None
    """Number of each revision, by component key and digest."""
    rolled_out: int = 0
    """The number of the predictor's last revision that had all the traffic."""
    url: str = ""
    """Where a gateway answers for the service; empty without one."""

    def of(self, role: str, canary: bool = False) -> list[GroupView]:
        """The groups of a role; canaries are asked for by themselves."""
        return [
            group
            for group in self.groups
            if group.wanted[0].role == role and bool(group.wanted[0].canary) == canary
        ]

    def name(self, component: Component) -> str:
        """The revision's name as Knative would give it."""
        number = (self.revisions or {}).get((component.key, component.digest), 0)
        return f"{component.name}-{number:05}"


def latest_copy(group: GroupView) -> CopyView | None:
    """The copy of the latest wanted revision, or any."""
    digest = group.wanted[0].digest
    alive = [copy for copy in group.copies if not copy.stopping]
    same = [copy for copy in alive if copy.component.digest == digest]
    ready = [copy for copy in same if copy.ready]
    return next(iter([*reversed(ready), *reversed(same), *reversed(alive)]), None)


def shares(group: GroupView) -> list[tuple[list[CopyView], int]]:
    """The serving copies by revision, with each revision's per cent of this group's requests, the
    latest first."""
    percents = {component.digest: component.percent for component in group.wanted}
    revisions: dict[str, list[CopyView]] = {}
    for copy in group.serving:
        revisions.setdefault(copy.component.digest, []).append(copy)
    if len(revisions) < 2 or len(group.wanted) < 2:
        # One that is alone takes everything, whatever share it was given.
        return [(copies, 100) for copies in list(revisions.values())[:1]]
    return [(copies, percents.get(digest, 0)) for digest, copies in revisions.items()]
