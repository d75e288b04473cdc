# SPDX-License-Identifier: Apache-2.0
"""One revision of a component on this machine: its model, its ports, its processes.

A copy fetches its model first (again and again, with growing pauses, if that fails), then runs one
process per container. It belongs to the supervisor's thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerite.kserve.defaulting import MODEL_MOUNT
from nerite.local.acquisition import Acquisition, Post
from nerite.local.components import Component
from nerite.local.containers import Container, Placement, Probe, place
from nerite.local.copy_view import CopyView
from nerite.local.lifeline import Action, Lifeline, Phase
from nerite.local.logs import Tail
from nerite.local.processes import Child
from nerite.local.rollout import CopyState
from nerite.local.storage import lay_out
from nerite.local.tools import Tools
from nerite.local.vitals import Vitals


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
        self._models = Acquisition(component, self._folder, tools, post, self._as_seen)
        self._due = 0.0
        self._port_problem = ""
        self.is_stopping = False
        self._is_proven = False
        self.owners: dict[str, int] = {}
        """Model -> the number of the tenant whose it is, where models are put into this copy."""
        self.busy: set[str] = set()
        """The models that are being loaded or unloaded."""
        self.settled_in: tuple[int, ...] = ()
        """The processes in which everything was loaded again that had been."""

    @property
    def is_moving_in(self) -> bool:
        """Never: it lives in no other component."""
        return False

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

    @property
    def grpc_port(self) -> int | None:
        """The port for gRPC, if it has one."""
        return self._ports.get(self.component.serving.grpc_port or 0)

    @property
    def problem(self) -> str:
        """Why no process was started."""
        return self._models.problem or self._port_problem

    @property
    def repository(self) -> Path:
        """The folder that models are put into, where it takes some."""
        return self._folder / "repository"

    @property
    def incarnation(self) -> tuple[int, ...]:
        """The ids of its processes, which are others after every restart; empty if none runs."""
        return tuple(run.child.pid for run in self._runs if run.child is not None)

    def state(self) -> CopyState:
        """What the rollout has to know."""
        self._is_proven |= self.is_ready
        number, revision = self.number, self.revision
        return CopyState(number, revision, self.is_ready, self.is_stopping, self._is_proven)

    def due(self) -> float:
        """When `act` has something to do."""
        if self._models.folders is None:
            return self._models.due
        if not self._ports:
            return float("inf") if self.is_stopping else self._due
        return min(min(run.lifeline.due, run.vitals.due) for run in self._runs)

    def act(self, now: float) -> None:
        """Does what is due."""
        if not self._models.act(now) or now < self.due():
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
        self._models.is_wanted = False
        for run in self._runs:
            action = run.lifeline.stop(now)
            run.vitals.end()
            if action is not None and run.child is not None:
                run.child.terminate()

    def clean_up(self) -> None:
        """Gives back what it held; its processes are gone."""
        for port in self._ports.values():
            self._tools.ports.give_back(port)
        self._models.drop()

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

    def _take_ports(self, now: float) -> bool:
        fixed = [p for run in self._runs for p in sorted(run.container.fixed_ports)]
        taken: dict[int, int] = {}
        for port in fixed:
            if not self._tools.ports.take_fixed(port):
                for other in taken.values():
                    self._tools.ports.give_back(other)
                self._port_problem = (
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
        self._ports, self._port_problem = taken, ""
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
        folders = dict(self._models.folders or {})
        if self.component.hosts_models:
            self.repository.mkdir(parents=True, exist_ok=True)
            folders[MODEL_MOUNT] = str(self.repository)
        placement = Placement(self._ports, folders, self.hosts)
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
            reason = run.tail.reason(own_model=not self.component.hosts_models)
            run.lifeline.exited(code, now, reason)

    def view(self) -> CopyView:
        """See `CopyView`."""
        serving = self.component.serving
        exits = [run.lifeline.last_exit for run in self._runs if run.lifeline.last_exit]
        return CopyView(
            self.number,
            self.component,
            self.is_ready,
            self.is_stopping,
            self._models.folders is None and not self.problem,
            self._ports.get(serving.ports[0]),
            self.grpc_port,
            self.incarnation,
            sum(run.lifeline.restarts for run in self._runs),
            any(run.lifeline.has_failed for run in self._runs) or bool(self.problem),
            self.problem,
            max(exits, key=lambda last: last.at, default=None),
            self._models.progress,
        )
