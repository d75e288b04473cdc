# SPDX-License-Identifier: Apache-2.0
"""Everything that was applied, kept running: catalog, supervisor and status under one lock.

`Daemon` is what the socket's requests and the foreground command talk to. It owns one thread, in
which the supervisor lives and children are started; `start` takes the lock file, so that one folder
has one daemon, and `stop` returns when no process is left.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO

from nerite.errors import NotFound
from nerite.kserve.admission import Key
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import Document, Object
from nerite.kserve.gateway import RouteTable
from nerite.local.catalog import Catalog, Change, not_found
from nerite.local.clock import Clock
from nerite.local.components import Component
from nerite.local.database import Database
from nerite.local.events import Events
from nerite.local.fetching import FETCH_LOG
from nerite.local.graphs import Graphs
from nerite.local.hosted_graphs import HostedGraphs
from nerite.local.hosts import shared_host
from nerite.local.lock import take
from nerite.local.logs import Log
from nerite.local.ports import Ports
from nerite.local.processes import ProcessSpawner, ThreadProber
from nerite.local.routes import Gateway
from nerite.local.services import Services
from nerite.local.settings import Settings
from nerite.local.stand_ins import Machine
from nerite.local.storage import DownloadStorage, LocalStorage, Storage
from nerite.local.supervisor import Supervisor
from nerite.local.tools import Tools
from nerite.local.trained import TRAINED_SUFFIX, TrainedModels

_IDLE_SECS = 60.0


class Daemon:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        storage: Storage | None = None,
        gateway: Gateway | None = None,
    ) -> None:
        self.settings = settings
        self.clock = Clock()
        self._environment = dict(environment)
        here = LocalStorage(settings.volumes, settings.claims)
        self._storage = storage or DownloadStorage(here, environment)
        self._gateway = gateway
        self.routes = RouteTable()
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._version = 0
        self._stopping = False
        self.failure: BaseException | None = None
        """Why the supervisor ended, if it did; its children ended with it."""
        self._held: IO[str] | None = None
        self._logs: dict[str, Log] = {}

    # Life.

    def start(self) -> None:
        """Takes the folder, reads what was applied and starts it.

        Raises:
            Unavailable: Another daemon has the folder.
        """
        settings = self.settings
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held = take(settings.lock)
        if self._gateway is not None:
            self._gateway.open()
        # What a killed daemon had laid out belongs to nobody.
        shutil.rmtree(settings.run, ignore_errors=True)
        self._database = Database(settings.database)
        self._catalog = Catalog(self._database, builtin_cluster(settings.builtin))
        settings.logs.mkdir(exist_ok=True, mode=0o700)
        self._spawner = ProcessSpawner(self._environment)
        machine = Machine(self._which, sys.executable, settings.trust, settings.shared)
        tools = Tools(
            spawner=self._spawner,
            prober=ThreadProber(),
            storage=self._storage,
            ports=Ports(self._database.ports(), self._database.put_port),
            log=self._log,
            folder=settings.run,
            background=_in_background,
            front=self._gateway.address if self._gateway else None,
            shared=lambda number: shared_host(number, machine),
        )
        self._supervisor = Supervisor(tools, self._refresh)
        self.events = Events()
        public_url = self._gateway.url if self._gateway else _without_gateway
        self._services = Services(self._database, machine, self.events, public_url)
        self._trained = TrainedModels(self.events)
        hosted = HostedGraphs(tools.models, _in_background, self._settled)
        self._graphs = Graphs(public_url, hosted)
        with self._lock:
            self._reconcile()
        self._thread = threading.Thread(target=self._live, name="nerite-supervisor")
        self._thread.start()

    def stop(self) -> None:
        """Ends every process and waits until that is done."""
        with self._lock:
            self._stopping = True
            self._supervisor.want([])
            self._news.notify_all()
        self._thread.join()
        self._spawner.close()
        if self._gateway is not None:
            self._gateway.close()
        for log in self._logs.values():
            log.close()
        self._database.close()
        if self._held is not None:
            self._held.close()

    @property
    def is_stopping(self) -> bool:
        """Whether no more is to be expected."""
        return self._stopping

    def _live(self) -> None:
        """The supervisor's thread; children live no longer than it."""
        try:
            while True:
                due = self._supervisor.step(self.clock())
                if self._stopping and self._supervisor.is_idle:
                    return
                self._supervisor.wait(max(0.0, min(_IDLE_SECS, due - self.clock())))
        except BaseException as error:
            self.failure = error
            raise

    def _which(self, program: str) -> str | None:
        # The interpreter's own folder comes first, so that `python` is the one Nerite runs in.
        path = os.pathsep.join(
            [str(Path(sys.executable).parent), self._environment.get("PATH", "")]
        )
        return shutil.which(program, path=path)

    def _log(self, component: Component, container: str) -> Log:
        key = f"{component.key}/{container}"
        with self._lock:
            if key not in self._logs:
                self._logs[key] = Log(self.settings.logs / f"{key}.log")
            return self._logs[key]

    # Changes.

    def apply(self, documents: Iterable[Document], places: Mapping[str, str]) -> list[Change]:
        """Admits, keeps and starts documents; all or none."""
        with self._lock:
            changes = self._catalog.apply(documents, self.clock(), places)
            if any(change.outcome != "unchanged" for change in changes):
                self._reconcile()
            return changes

    def delete(self, key: Key, wait: float) -> None:
        """Forgets an object; returns when its processes have ended, or after `wait` seconds."""
        with self._news:
            self._catalog.delete(key)
            gone = self._components_of(key)
            self._reconcile()
            # Those that somebody applied again meanwhile are not waited for.
            self._news.wait_for(lambda: not (self._running_keys() & set(gone)) - self._keys(), wait)
            self._forget(gone)
            if gone:
                suffix = "" if key[0] == "InferenceService" else TRAINED_SUFFIX
                self.events.forget((key[1], f"{key[2]}{suffix}"))

    def _components_of(self, key: Key) -> tuple[str, ...]:
        """The keys of the components that run for an object."""
        kinds = {"InferenceService": self._services.keys_of, "TrainedModel": self._trained.keys_of}
        return kinds[key[0]]((key[1], key[2])) if key[0] in kinds else ()

    def _keys(self) -> set[str]:
        """The keys of all components that are wanted."""
        return self._services.keys() | self._trained.keys()

    def _running_keys(self) -> set[str]:
        """The keys of all components of which something is left."""
        return {key.partition("@")[0] for key in self._supervisor.views}

    def _forget(self, components: Iterable[str]) -> None:
        wanted = self._keys()
        gone = [key for key in components if key not in wanted]
        self._database.forget_components(gone)
        for component in gone:
            for key in [key for key in self._logs if key.startswith(f"{component}/")]:
                self._logs.pop(key).close()
            shutil.rmtree(self.settings.logs / component, ignore_errors=True)

    def _reconcile(self) -> None:
        self._want()
        self._refresh()

    def _want(self) -> None:
        services = self._services.components(self._catalog)
        trained = self._trained.components(self._catalog.cluster, self._services.hosts_of)
        self._supervisor.want([*services, *trained])

    def _refresh(self) -> None:
        """Something is different: statuses, events and routes follow."""
        with self._news:
            views = self._supervisor.views
            if self._services.learn(views):
                self._want()
            self._services.look(self._catalog, views, self.clock())
            services = self._services
            self._trained.look(services.status, views, self.clock())
            self._graphs.look(self._catalog, services.status, self.clock())
            copy_of = partial(services.lone_copy, views=views)
            self._graphs.place(self._catalog, services.status, copy_of)
            graphs = self._graphs.routes(self._catalog, services.status)
            routes = RouteTable([*services.routes(views), *graphs])
            if routes != self.routes:
                self.routes = routes
                if self._gateway is not None:
                    self._gateway.configure(routes)
            if self._gateway is not None and not self._stopping:
                self._graphs.hosted.work()
            self._version += 1
            self._news.notify_all()

    def _settled(self, note: Callable[[], None]) -> None:
        """Something that was done elsewhere is noted; called from there."""
        with self._lock:
            if not self._stopping:
                note()
                self._refresh()

    # Looks.

    def objects(
        self, kind: str, namespace: str | None = None, name: str | None = None
    ) -> list[Object]:
        """Objects with their status."""
        with self._lock:
            found = self._catalog.objects(kind, namespace, name)
            for value in found:
                key = value["metadata"].get("namespace", ""), value["metadata"]["name"]
                if kind == "InferenceService":
                    value["status"] = self._services.status(key) or {}
                elif kind == "TrainedModel":
                    value["status"] = self._trained.status(key)
                elif kind == "InferenceGraph":
                    value["status"] = self._graphs.status(value)
            return found

    def details(self, namespace: str, name: str, kind: str = "InferenceService") -> Object:
        """What runs for an object: its components with processes and restarts."""
        with self._lock:
            if kind == "TrainedModel":
                return self._trained.details((namespace, name), self._supervisor.views)
            if kind == "InferenceGraph":
                return self._graphs.details((namespace, name))
            return self._services.details((namespace, name), self._supervisor.views)

    def changes(self) -> Iterator[int]:
        """A number now and whenever something may be different, or half a second has passed."""
        while not self._stopping:
            with self._news:
                version = self._version
            yield version
            with self._news:
                if self._version == version and not self._stopping:
                    self._news.wait(0.5)

    def log_of(self, namespace: str, name: str, component: str, container: str) -> Log:
        """The log of a component's container; the serving one unless another is named."""
        with self._lock:
            keys = self._services.log_keys((namespace, name), component)
            keys = keys or self._trained.log_keys((namespace, name))
            if not keys:
                known = ("InferenceService", "TrainedModel")
                if not any(self._catalog.objects(kind, namespace, name) for kind in known):
                    raise NotFound(not_found("InferenceService", name))
                told = f"component '{component}'" if component else "any process"
                raise NotFound(f"there is no log of {told} of {name}: nothing was started")
            views = self._supervisor.views.items()
            copies = [c for k, g in views if k.partition("@")[0] in keys for c in g.copies]
            keys = (*keys, *(copy.host for copy in copies if copy.host))
            logs = [key for key in self._logs for prefix in keys if key.startswith(f"{prefix}/")]
            logs.sort(key=lambda key: key.endswith(f"/{FETCH_LOG}"))
            chosen = [key for key in logs if not container or key.endswith(f"/{container}")]
            if not chosen:
                there = ", ".join(key.rpartition("/")[2] for key in logs) or "nothing was started"
                told = f"container '{container}'" if container else "any process"
                raise NotFound(f"there is no log of {told} of {name} (there is: {there})")
            return self._logs[chosen[0]]


def _without_gateway(_namespace: str, _name: str) -> str:
    return ""


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
