# SPDX-License-Identifier: Apache-2.0
"""The InferenceGraphs of a daemon: the gateway runs them, so each has a route and a status.

A graph is ready when every service that its steps name is; those that name URLs only are ready at
once, as in a cluster. Where a cluster leaves the conditions out, they say what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nerite.kserve.documents import Object
from nerite.kserve.gateway import Component, Service
from nerite.kserve.graphs import graph_service, own_graph
from nerite.kserve.resources import Resource
from nerite.local.catalog import Catalog
from nerite.local.components import is_stopped
from nerite.local.conditions import condition, is_ready, since
from nerite.local.hosted_graphs import CopyOf, HostedGraphs, Place, common_copy, hosted_route

Key = tuple[str, str]
StatusOf = Callable[[Key], Object | None]


class Graphs:
    """See the module. Not safe by itself: the daemon calls it under its lock."""

    def __init__(self, public_url: Callable[[str, str], str], hosted: HostedGraphs) -> None:
        self.hosted = hosted
        self._public_url = public_url
        self._statuses: dict[Key, Object] = {}

    def look(self, catalog: Catalog, status_of: StatusOf, now: float) -> None:
        """Brings statuses up to date; `status_of` tells a service's, or None for no service."""
        before, self._statuses = self._statuses, {}
        for graph in catalog.graphs():
            key = graph.namespace, graph.name
            last = before.get(key, {}).get("conditions", [])
            conditions = [_ready(graph, status_of), condition("Stopped", str(is_stopped(graph)))]
            status = {
                "conditions": since(conditions, last, now),
                "observedGeneration": graph.object["metadata"].get("generation", 1),
            }
            url = self._public_url(*key)
            if conditions[0]["status"] == "True" and url:
                status["url"] = url
            self._statuses[key] = status

    def status(self, value: Object) -> Object:
        """The status of a graph's object."""
        metadata = value["metadata"]
        return self._statuses.get((metadata["namespace"], metadata["name"]), {})

    def place(self, catalog: Catalog, status_of: StatusOf, copy_of: CopyOf) -> None:
        """Decides which graphs run in the shared process of all their steps."""
        wanted: dict[Key, Place] = {}
        for graph in _running(catalog, status_of):
            copy = None if is_stopped(graph) else common_copy(graph, copy_of)
            if copy is not None:
                wanted[graph.namespace, graph.name] = Place(
                    f"127.0.0.1:{copy.port}",
                    copy.pids,
                    copy.host.rpartition("/")[2],
                    own_graph(graph, catalog.cluster).definition,
                )
        self.hosted.want(wanted)

    def routes(self, catalog: Catalog, status_of: StatusOf) -> Iterator[Service]:
        """What a gateway needs to know. A graph has none whose name is a service's."""
        for graph in _running(catalog, status_of):
            place = self.hosted.place((graph.namespace, graph.name))
            if is_stopped(graph):
                absent = Component("graph", absent="it is stopped")
                yield Service(graph.name, graph.namespace, [absent])
            elif place is not None:
                yield hosted_route(graph.namespace, graph.name, place)
            else:
                yield graph_service(graph, catalog.cluster)

    def details(self, key: Key) -> Object:
        """Where a graph runs, for `describe`."""
        place = self.hosted.place(key)
        pids = ",".join(map(str, place.pids)) if place else ""
        return {"runs": f"in {place.process} (process {pids})" if place else "in the gateway"}


def _running(catalog: Catalog, status_of: StatusOf) -> Iterator[Resource]:
    """The graphs that get requests: those whose names are not services'."""
    return (g for g in catalog.graphs() if status_of((g.namespace, g.name)) is None)


def _ready(graph: Resource, status_of: StatusOf) -> Object:
    if status_of((graph.namespace, graph.name)) is not None:
        text = f'an InferenceService has the name "{graph.name}" too, and gets its requests'
        return condition("Ready", "False", "NameTaken", text)
    if is_stopped(graph):
        return condition("Ready", "False", "Stopped")
    for name in _services_of(graph):
        status = status_of((graph.namespace, name))
        if status is None:
            text = f'inferenceservices.serving.kserve.io "{name}" not found'
            return condition("Ready", "False", "ServiceNotFound", text)
        if not is_ready(status):
            text = f'the InferenceService "{name}" is not ready'
            return condition("Ready", "False", "ServiceNotReady", text)
    return condition("Ready", "True")


def _services_of(graph: Resource) -> list[str]:
    """The services that steps name, each once."""
    steps = [step for node in graph.spec["nodes"].values() for step in node.get("steps") or []]
    return list(dict.fromkeys(step["serviceName"] for step in steps if step.get("serviceName")))
