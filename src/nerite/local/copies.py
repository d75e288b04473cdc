# SPDX-License-Identifier: Apache-2.0
"""One revision of a component on this machine: its model, its ports, its processes.

A copy fetches its model first (again and again, with growing pauses, if that fails), then runs one
process per container. It belongs to the supervisor's thread.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerite.downloads.sources import without_secrets
from nerite.errors import NeriteError
from nerite.local.components import Component
from nerite.local.containers import Container, Placement, Probe, place
from nerite.local.copy_view import CopyView
from nerite.local.fetching import FETCH_LOG, Abandoned, FetchReport
from nerite.local.lifeline import Action, Lifeline, Phase
from nerite.local.logs import Tail
from nerite.local.processes import Child
from nerite.local.rollout import CopyState
from nerite.local.storage import is_elsewhere, lay_out
from nerite.local.tools import Tools
from nerite.local.vitals import Vitals

_log = logging.getLogger(__name__)
Post = Callable[[Callable[[float], None]], None]


@dataclass(frozen=True, slots=True)
class Revision:
    """A component with the addresses its processes are told; copies of one are alike."""

    component: Component
    hosts: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Differs exactly if other processes would be started."""
        return "-".join([self.component.digest, *self.hosts.values()])


@dataclass(slots=True)
class _Run:
    container: Container
    lifeline: Lifeline
    child: Child | None = None
    tail: Tail = field(default_factory=Tail)
    vitals: Vitals = field(default_factory=Vitals)


class Copy:
    """See the module."""

    def __init__(self, number: int, revision: Revision, tools: Tools, post: Post) -> None:
        self.number = number
        self.revision = revision.name
        self.component = component = revision.component
        self.hosts = dict(revision.hosts)
        self._tools = tools
        self._post = post
        self._runs = [
            _Run(
                each,
                Lifeline(replace(tools.patience, probe_ready=each.probe.period)),
                vitals=Vitals(each.startup, each.liveness),
            )
            for each in component.containers
        ]
        self._ports: dict[int, int] = {}
        self._folder = tools.folder / component.namespace / f"{component.name}-{number}"
        self._folders: dict[str, str] | None = None
        self._fetching = False
        self._progress = ""
        self._fetch_failures = 0
        self._due = 0.0
        self.is_stopping = False
        self._is_gone = False
        self.problem = ""

    @property
    def has_ended(self) -> bool:
        """Whether it was stopped and nothing of it is left."""
        ended = all(run.lifeline.phase is Phase.ENDED for run in self._runs)
        return self.is_stopping and ended

    @property
    def is_ready(self) -> bool:
        """Whether all its processes are."""
        return bool(self._runs) and all(r.lifeline.phase is Phase.READY for r in self._runs)

    @property
    def address(self) -> str:
        """Host and port on which it answers; empty before it has a port."""
        port = self._ports.get(self.component.serving.ports[0])
        return f"127.0.0.1:{port}" if port else ""

    def state(self) -> CopyState:
        """What the rollout has to know."""
        return CopyState(self.number, self.revision, self.is_ready, self.is_stopping)

    def due(self) -> float:
        """When `act` has something to do."""
        if self._fetching:
            return float("inf")
        if self._folders is None or not self._ports:
            return float("inf") if self.is_stopping else self._due
        return min(min(run.lifeline.due, run.vitals.due) for run in self._runs)

    def act(self, now: float) -> None:
        """Does what is due."""
        if self._fetching or now < self.due():
            return
        if self._folders is None:
            self._fetch()
            return
        if not self._ports and not self._take_ports(now):
            return
        for run in self._runs:
            action = run.lifeline.act(now)
            if action is not None:
                self._perform(action, run, now)
            vital = run.vitals.ask(now)
            if vital is not None:
                self._ask(vital, run, self._alive)

    def stop(self, now: float) -> None:
        """Ends it: asked first, forced after a while."""
        self.is_stopping = True
        for run in self._runs:
            action = run.lifeline.stop(now)
            run.vitals.end()
            if action is not None and run.child is not None:
                run.child.terminate()

    def clean_up(self) -> None:
        """Gives back what it held; its processes are gone."""
        for port in self._ports.values():
            self._tools.ports.give_back(port)
        self._is_gone = True
        shutil.rmtree(self._folder, ignore_errors=True)

    # Fetching: elsewhere, and nobody waits for it once the copy is to end.

    def _fetch(self) -> None:
        self._fetching = True
        self._tools.background(self._fetch_elsewhere)

    def _fetch_elsewhere(self) -> None:
        folders: dict[str, str] = {}
        try:
            for i, source in enumerate(self.component.sources):
                content = self._content(source.uri, self._folder / f"fetched-{i}")
                folders[source.mount_path] = str(self._as_seen(content, i))
            problem = ""
        except Abandoned:
            return
        except (NeriteError, OSError) as error:
            problem = str(error)
        except Exception as error:
            # Whatever a store raises: a copy that is never told of the end of its fetch never ends.
            _log.exception("%s: fetching failed", self.component.key)
            problem = f"fetching failed: {error!r}"
        finally:
            if self._is_gone:
                shutil.rmtree(self._folder, ignore_errors=True)
        if problem:
            self._post(lambda now: self._not_fetched(problem, now))
        else:
            self._post(lambda _: self._fetched(folders))

    def _content(self, uri: str, destination: Path) -> Path:
        fetch = self._tools.storage.fetch
        if not is_elsewhere(uri):
            return fetch(uri, destination)
        log = self._tools.log(self.component, FETCH_LOG)
        told = FetchReport(self._note, log.write, lambda: self.is_stopping)
        with told.about(without_secrets(uri)):
            return fetch(uri, destination, dict(self.component.credentials), told)

    def _note(self, progress: str) -> None:
        def note(_: float) -> None:
            self._progress = progress

        self._post(note)

    def _as_seen(self, content: Path, number: int) -> Path:
        """The path that the processes are given for a source."""
        names = [run.container.model_name for run in self._runs if run.container.model_name]
        if names:
            return lay_out(content, names[0], self._folder / f"repository-{number}")
        if content.is_dir():
            return content
        # As in a container: the folder of the mount holds the file under its own name.
        shown = self._folder / f"mount-{number}"
        shutil.rmtree(shown, ignore_errors=True)
        shown.mkdir(parents=True)
        (shown / content.name).symlink_to(content.resolve())
        return shown

    def _fetched(self, folders: dict[str, str]) -> None:
        self._fetching, self._folders, self.problem, self._due = False, folders, "", 0.0

    def _not_fetched(self, problem: str, now: float) -> None:
        patience = self._tools.patience
        self._fetching, self.problem = False, problem
        delay = min(patience.longest_delay, 2 * patience.first_delay * 2**self._fetch_failures)
        self._fetch_failures = min(self._fetch_failures + 1, 30)
        self._due = now + delay

    def _take_ports(self, now: float) -> bool:
        fixed = [p for run in self._runs for p in sorted(run.container.fixed_ports)]
        taken: dict[int, int] = {}
        for port in fixed:
            if not self._tools.ports.take_fixed(port):
                for other in taken.values():
                    self._tools.ports.give_back(other)
                self.problem = (
                    f"port {port} is taken by another program, and {self.component.name} cannot "
                    "be moved to another: no argument and no variable of it names the port"
                )
                self._due = now + 1.0
                return False
            taken[port] = port
        for run in self._runs:
            for port in run.container.ports:
                if port not in taken:
                    taken[port] = self._tools.ports.take(f"{self.component.key}/{port}")
        self._ports, self.problem = taken, ""
        return True

    # Processes.

    def _perform(self, action: Action, run: _Run, now: float) -> None:
        if action is Action.SPAWN:
            self._spawn(run, now)
        elif action is Action.PROBE:
            self._ask(run.container.probe, run, self._probed)
        elif run.child is not None:
            run.child.kill()

    def _ask(self, probe: Probe, run: _Run, told: Callable[[_Run, bool, float], None]) -> None:
        child = run.child

        def answered(yes: bool) -> None:
            # About a process that has ended meanwhile nothing is to be known any more.
            self._post(lambda now: told(run, yes, now) if run.child is child else None)

        self._tools.prober.probe(probe, self._ports[probe.port], answered)

    def _spawn(self, run: _Run, now: float) -> None:
        placement = Placement(self._ports, self._folders or {}, self.hosts)
        run.tail = tail = Tail()
        log = self._tools.log(self.component, run.container.name)

        def on_output(line: bytes) -> None:
            tail.add(line)
            log.write(line)

        try:
            run.child = child = self._tools.spawner.spawn(
                place(run.container, placement),
                on_output,
                lambda code: self._post(lambda at: self._exited(run, child, code, at)),
            )
            run.vitals.begin(now)
        except OSError as error:
            run.child = None
            run.lifeline.exited(127, now, f"cannot be started: {error}")

    def _probed(self, run: _Run, ready: bool, now: float) -> None:
        run.lifeline.probed(ready and run.vitals.started, now)
        if run.lifeline.phase is Phase.READY:
            run.vitals.ready(now)

    def _alive(self, run: _Run, alive: bool, now: float) -> None:
        probe = run.container.liveness if run.vitals.started else run.container.startup
        if not run.vitals.answered(alive, now) or probe is None:
            return
        if run.lifeline.hung(run.vitals.why(), now, probe.grace) is not None and run.child:
            run.child.terminate()

    def _exited(self, run: _Run, child: Child, code: int, now: float) -> None:
        if run.child is child:
            run.child = None
            run.vitals.end()
            run.lifeline.exited(code, now, run.tail.reason())

    def view(self) -> CopyView:
        """See `CopyView`."""
        serving = self.component.serving
        grpc = serving.grpc_port
        exits = [run.lifeline.last_exit for run in self._runs if run.lifeline.last_exit]
        return CopyView(
            self.number,
            self.component,
            self.is_ready,
            self.is_stopping,
            self._folders is None and not self.problem,
            self._ports.get(serving.ports[0]),
            self._ports.get(grpc) if grpc else None,
            tuple(run.child.pid for run in self._runs if run.child is not None),
            sum(run.lifeline.restarts for run in self._runs),
            any(run.lifeline.has_failed for run in self._runs) or bool(self.problem),
            self.problem,
            max(exits, key=lambda last: last.at, default=None),
            self._progress if self._fetching else "",
        )
