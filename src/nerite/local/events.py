# SPDX-License-Identifier: Apache-2.0
"""What happened to a service, as `describe` tells it: found by comparing two looks at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from nerite.kserve.documents import Object
from nerite.local.conditions import ready_of
from nerite.local.copy_view import CopyView
from nerite.local.supervisor import GroupView

_KEPT = 50
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """One happening; what happens again only counts."""

    kind: str
    reason: str
    message: str
    first: float
    last: float
    count: int = 1


class Events:
    """The last events of every service."""

    def __init__(self) -> None:
        self._events: dict[Key, deque[Event]] = {}

    def add(self, key: Key, now: float, happenings: Sequence[tuple[str, str, str]]) -> None:
        """Adds (kind, reason, message) of a moment."""
        events = self._events.setdefault(key, deque(maxlen=_KEPT))
        for kind, reason, message in happenings:
            same = next((e for e in events if (e.reason, e.message) == (reason, message)), None)
            if same is None:
                events.append(Event(kind, reason, message, now, now))
            else:
                events.remove(same)
                events.append(replace(same, last=now, count=same.count + 1))

    def of(self, key: Key) -> list[Object]:
        """The events of a service, the oldest first."""
        return [asdict(event) for event in self._events.get(key, ())]

    def forget(self, key: Key) -> None:
        """The service is deleted."""
        self._events.pop(key, None)


def happened(
    before: Mapping[str, GroupView], after: Mapping[str, GroupView]
) -> Iterator[tuple[Key, tuple[str, str, str]]]:
    """What must have happened between two looks at the supervisor, by service."""
    for group_key, group in after.items():
        old = before.get(group_key)
        known = {copy.number: copy for copy in old.copies} if old else {}
        for component in group.wanted:
            key = component.namespace, component.service
            seen = old.wanted if old else ()
            if component.obstacle and component.obstacle not in {c.obstacle for c in seen}:
                yield key, ("Warning", "CannotRunHere", component.obstacle)
            told = {warning for c in seen for warning in c.warnings}
            for warning in component.warnings:
                if warning not in told:
                    yield key, ("Warning", "Ignored", warning)
        for copy in group.copies:
            key = copy.component.namespace, copy.component.service
            for happening in _of_copy(known.get(copy.number), copy):
                yield key, happening


def _of_copy(old: CopyView | None, copy: CopyView) -> Iterator[tuple[str, str, str]]:
    name = copy.component.name
    if copy.problem and (old is None or old.problem != copy.problem):
        yield "Warning", "Failed", f"{name}: {copy.problem}"
    if copy.restarts > (old.restarts if old else 0) and copy.last_exit is not None:
        code, message = copy.last_exit.code, copy.last_exit.message.partition("\n")[0]
        text = f"{name} ended with exit code {code}" + (f": {message}" if message else "")
        yield "Warning", "BackOff", text
    new_pids = set(copy.pids) - set(old.pids if old else ())
    for pid in sorted(new_pids):
        if copy.host:
            place = copy.host.rpartition("/")[2]
            text = f"Loaded {copy.component.model} into {place} (process {pid}, port {copy.port})"
            yield "Normal", "Loaded", text
            continue
        yield "Normal", "Started", f"Started {name} (process {pid}) on port {copy.port}"
    if copy.stopping and not (old and old.stopping):
        yield "Normal", "Killing", f"Stopping {name}"


def readiness(kind: str, name: str, before: Object, after: Object) -> list[tuple[str, str, str]]:
    """What KServe says when something becomes ready or stops being so."""
    old, new = (ready_of(status) for status in (before, after))
    if old.get("status") == new.get("status"):
        return []
    if new.get("status") == "True":
        return [("Normal", f"{kind}Ready", f"{kind} [{name}] is Ready")]
    if old.get("status") == "True":
        why = new.get("reason", "")
        text = f"{kind} [{name}] is no longer Ready because of: {why}"
        return [("Warning", f"{kind}NotReady", text)]
    return []
