# SPDX-License-Identifier: Apache-2.0
"""InferenceGraphs handed to the shared process in which the models of all their steps live.

There a step costs no connection and no copy of the body. Until a process has said that it has a
graph, after every restart of it, and whenever the steps live apart, the gateway runs the graph.
Not safe by itself: the daemon calls it under its lock; the processes are told elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from nerite.errors import NeriteError
from nerite.kserve.documents import Object
from nerite.kserve.gateway import Component, Replica, Revision, Service
from nerite.kserve.resources import Resource
from nerite.local.copy_view import CopyView
from nerite.local.model_control import ModelControl

_log = logging.getLogger(__name__)
Key = tuple[str, str]
CopyOf = Callable[[Key], CopyView | None]


@dataclass(frozen=True, slots=True)
class Place:
    """A graph in a process, as it was put there."""

    address: str
    pids: tuple[int, ...]
    """Other ones after a restart, which knows no graphs."""
    process: str
    definition: str


def common_copy(graph: Resource, copy_of: CopyOf) -> CopyView | None:
    """A model of the graph, if all of its steps are models of one process; None otherwise.

    `copy_of` tells the copy that answers alone for a service, with nothing in between.
    """
    first: CopyView | None = None
    for step in _steps(graph):
        if step.get("nodeName"):
            continue
        name = step.get("serviceName")
        copy = copy_of((graph.namespace, name)) if name else None
        if copy is None or not copy.pids:
            return None
        first = first or copy
        if (copy.host, copy.pids) != (first.host, first.pids):
            return None
    return first


def _steps(graph: Resource) -> Iterator[Object]:
    for node in graph.spec["nodes"].values():
        yield from node.get("steps") or []


def hosted_route(namespace: str, name: str, place: Place) -> Service:
    """The route of a graph that a process runs."""
    revision = Revision([Replica(place.address)])
    component = Component("graph", [revision], at=f"/graphs/{namespace}/{name}")
    return Service(name, namespace, [component])


class HostedGraphs:
    """See the module."""

    def __init__(
        self,
        control: ModelControl,
        background: Callable[[Callable[[], None]], None],
        settle: Callable[[Callable[[], None]], None],
    ) -> None:
        """`settle` calls what it is given under the daemon's lock, and then looks anew."""
        self._control = control
        self._background = background
        self._settle = settle
        self._wanted: dict[Key, Place] = {}
        self._there: dict[Key, Place] = {}
        self._leaving: dict[Key, list[Place]] = {}
        self._busy: set[Key] = set()
        self._refused: dict[Key, Place] = {}

    def want(self, wanted: Mapping[Key, Place]) -> None:
        """From now on graphs are to be there; those that are elsewhere are not counted on."""
        self._wanted = dict(wanted)
        for key, place in list(self._there.items()):
            if self._wanted.get(key) != place:
                self._leaving.setdefault(key, []).append(self._there.pop(key))
        self._refused = {k: p for k, p in self._refused.items() if self._wanted.get(k) == p}

    def place(self, key: Key) -> Place | None:
        """Where a graph runs; None for the gateway."""
        return self._there.get(key)

    def work(self) -> None:
        """Tells the processes, elsewhere; after clients were told that they are not counted on."""
        for key in (self._wanted.keys() | self._leaving.keys()) - self._busy:
            place = self._wanted.get(key)
            known = place in (None, self._there.get(key), self._refused.get(key))
            keeps = place.address if place else ""
            old = [p.address for p in self._leaving.pop(key, []) if p.address != keeps]
            if not known or old:
                self._busy.add(key)
                self._background(partial(self._tell, key, None if known else place, old))

    def _tell(self, key: Key, place: Place | None, old: Sequence[str]) -> None:
        failed = False
        if place is not None:
            try:
                self._control.put_graph(place.address, *key, place.definition)
            except NeriteError as why:
                # The gateway goes on with it, and tells its clients what is wrong.
                _log.warning("graph %s/%s: %s does not take it: %s", *key, place.process, why)
                failed = True
        for address in old:
            # A process that is gone took its graphs along.
            with suppress(NeriteError):
                self._control.delete_graph(address, *key)
        self._settle(partial(self._told, key, place, failed))

    def _told(self, key: Key, place: Place | None, failed: bool) -> None:
        self._busy.discard(key)
        if place is None:
            return
        if failed:
            self._refused[key] = place
        elif self._wanted.get(key) == place:
            self._there[key] = place
        else:
            self._leaving.setdefault(key, []).append(place)
