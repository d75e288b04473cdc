# SPDX-License-Identifier: Apache-2.0
"""The InferenceServices of a daemon: which components each wants, and what its status is.

Between the catalog (what was applied) and the supervisor (what runs). Revisions are numbered here,
and with `canaryTrafficPercent` the last one that had all the traffic goes on running beside the
latest. Not safe by itself: the daemon calls it under its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from nerite.kserve.documents import Document, Object
from nerite.kserve.gateway import Component as Route
from nerite.kserve.gateway import Service
from nerite.kserve.rendering import Rendering, render_service
from nerite.kserve.resources import Resource
from nerite.local.catalog import Catalog
from nerite.local.components import Component, desired_components
from nerite.local.copy_view import CopyView
from nerite.local.database import Database
from nerite.local.decisions import Decisions
from nerite.local.events import Events, happened, readiness
from nerite.local.routes import service_route
from nerite.local.running import Running
from nerite.local.stand_ins import Machine
from nerite.local.status import service_status
from nerite.local.supervisor import GroupView

Key = tuple[str, str]
Views = Mapping[str, GroupView]


class Services:
    """See the module."""

    def __init__(
        self,
        database: Database,
        machine: Machine,
        events: Events,
        public_url: Callable[[str, str], str],
    ) -> None:
        self._database = database
        self._machine = machine
        self._events = events
        self._public_url = public_url
        self._statuses = database.statuses()
        self._decisions = Decisions()
        self._renderings: Mapping[Key, Rendering] = {}
        self._wanted: dict[Key, list[Component]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._rolled_out: dict[str, int] = {}
        self._seen: Views = {}
        self._unfit: dict[tuple[str, str], str] = {}
        """Key and digest of what was to share a process and cannot, and why."""

    # What is wanted.

    def components(self, catalog: Catalog) -> list[Component]:
        """All components that shall run."""
        self._renderings = self._decisions.about(catalog.services(), catalog.cluster)
        self._wanted = {key: self._wanted[key] for key in self._wanted if key in self._renderings}
        for key, rendering in self._renderings.items():
            if rendering.failure and self._wanted.get(key):
                continue  # what ran before goes on, as in a cluster
            self._wanted[key] = list(self._of(rendering, catalog))
        return [component for found in self._wanted.values() for component in found]

    def _of(self, rendering: Rendering, catalog: Catalog) -> Iterator[Component]:
        service = rendering.service
        share = service.spec["predictor"].get("canaryTrafficPercent", 100)
        for desired in desired_components(rendering, catalog.cluster, self._machine):
            component = self._housed(desired)
            self._number(component, service)
            previous = None
            if component.role == "predictor" and not component.canary and 0 <= share < 100:
                previous = self._previous(component, catalog)
            if previous is None:
                yield component
            else:
                yield replace(component, percent=share)
                yield replace(previous, percent=100 - share)

    def _housed(self, component: Component) -> Component:
        """The component, with a process of its own if its content needs one."""
        why = self._unfit.get((component.key, component.digest))
        if why is None:
            return component
        told = f"it has a process of its own: {why}"
        return replace(component, lives_in="", model="", warnings=(*component.warnings, told))

    def learn(self, views: Views) -> bool:
        """Notes what turned out not to be able to share; whether others are wanted therefore."""
        found = {
            (copy.component.key, copy.component.digest): copy.unfit
            for group in views.values()
            for copy in group.copies
            if copy.unfit
        }
        news = found.keys() - self._unfit.keys()
        self._unfit |= found
        return bool(news)

    def _number(self, component: Component, service: Resource) -> None:
        revision = self._database.add_revision(component.key, component.digest, service.object)
        self._numbers[component.key, component.digest] = revision.number
        rolled_out = (r.number for r in self._database.revisions(component.key) if r.rolled_out)
        self._rolled_out[component.key] = next(rolled_out, 0)

    def _previous(self, component: Component, catalog: Catalog) -> Component | None:
        """The predictor as it was when it last had all the traffic; None if that is the latest."""
        rolled_out = [r for r in self._database.revisions(component.key) if r.rolled_out]
        if not rolled_out or rolled_out[0].digest == component.digest:
            return None
        value = rolled_out[0].object
        document = Document(value, self._file_of(catalog, value))
        rendering = render_service(Resource("InferenceService", value, document), catalog.cluster)
        for desired in desired_components(rendering, catalog.cluster, self._machine):
            found = self._housed(desired)
            if found.key == component.key and found.digest != component.digest:
                self._numbers[found.key, found.digest] = rolled_out[0].number
                return None if found.obstacle else found
        return None

    def _file_of(self, catalog: Catalog, value: Object) -> str:
        metadata = value["metadata"]
        service = catalog.cluster.get("InferenceService", metadata["namespace"], metadata["name"])
        return service.document.file if service else ""

    def keys(self) -> set[str]:
        """The keys of all components that are wanted."""
        return {component.key for found in self._wanted.values() for component in found}

    def keys_of(self, key: Key) -> tuple[str, ...]:
        """The keys of a service's components."""
        return tuple(dict.fromkeys(component.key for component in self._wanted.get(key, ())))

    def hosts_of(self, key: Key) -> list[str]:
        """The keys of a service's components that take models of others."""
        found = (c.key for c in self._wanted.get(key, ()) if c.hosts_models)
        return list(dict.fromkeys(found))

    # What there is.

    def look(self, catalog: Catalog, views: Views, now: float) -> None:
        """Brings statuses and events up to date."""
        for key, happening in happened(self._seen, views):
            self._events.add(key, now, [happening])
        self._seen = views
        for key, rendering in self._renderings.items():
            self._note_rollout(key, views)
            last = self._statuses.get(key, {})
            status = service_status(rendering, self._running(key, views), last, now)
            if rendering.failure and status["modelStatus"] != last.get("modelStatus"):
                happening = ("Warning", "InternalError", rendering.failure.error)
                self._events.add(key, now, [happening])
            if status != last:
                self._events.add(key, now, readiness("InferenceService", key[1], last, status))
                self._statuses[key] = status
                self._database.put_status(*key, status)
        for key in self._statuses.keys() - self._renderings.keys():
            del self._statuses[key]

    def _note_rollout(self, key: Key, views: Views) -> None:
        for group in self._running(key, views).of("predictor"):
            latest = group.wanted[0]
            number = self._numbers.get((latest.key, latest.digest), 0)
            serves = group.serving and group.serving[0].component.digest == latest.digest
            if not serves or len(group.wanted) > 1 or self._rolled_out.get(latest.key) == number:
                continue
            self._rolled_out[latest.key] = number
            self._database.mark_rolled_out(latest.key, number)

    def _running(self, key: Key, views: Views) -> Running:
        groups = [views[k] for k in self.keys_of(key) if k in views and views[k].wanted]
        predictors = [g.wanted[0].key for g in groups if g.wanted[0].role == "predictor"]
        rolled_out = self._rolled_out.get(predictors[0], 0) if predictors else 0
        return Running(tuple(groups), self._numbers, rolled_out, self._public_url(*key))

    def status(self, key: Key) -> Object | None:
        """The status of a service; None if there is no such service."""
        return self._statuses.get(key, {}) if key in self._renderings else None

    def lone_copy(self, key: Key, views: Views) -> CopyView | None:
        """The copy in a shared process that answers alone for a service.

        None if there are others, or if the gateway does anything for it but pass requests on.
        """
        rendering = self._renderings.get(key)
        if rendering is None:
            return None
        running = self._running(key, views)
        components = service_route(rendering, running).components
        plain = [replace(c, revisions=(), absent=None) == Route("predictor") for c in components]
        copies = [c for group in running.of("predictor") for c in group.serving if c.host]
        is_one = plain == [True] and [len(r.replicas) for r in components[0].revisions] == [1]
        return copies[0] if is_one and len(copies) == 1 else None

    def routes(self, views: Views) -> list[Service]:
        """What a gateway needs to know."""
        return [
            service_route(rendering, self._running(key, views))
            for key, rendering in self._renderings.items()
        ]

    def log_keys(self, key: Key, component: str) -> tuple[str, ...]:
        """The components that are meant by a service's name, or a component's, and a role."""
        wanted = self._wanted.get(key) or [
            found
            for (namespace, _), components in self._wanted.items()
            for found in components
            if namespace == key[0] and found.name == key[1]
        ]
        return tuple(found.key for found in wanted if component in ("", found.role, found.name))

    def details(self, key: Key, views: Views) -> Object:
        """Processes and events, for `describe` and `get -o wide`."""
        running = self._running(key, views)
        copies = [copy for group in running.groups for copy in group.copies]
        return {
            "components": [
                copy.described(copy.component.name, running.name(copy.component)) for copy in copies
            ],
            "events": self._events.of(key),
        }
