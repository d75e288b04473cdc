# SPDX-License-Identifier: Apache-2.0
"""Keep what is wanted running: does what `rollout` and `lifeline` decide.

One thread owns a supervisor and calls `step` (the daemon's loop; a test with a made-up clock).
Everything that happens elsewhere, an exit, an answer, a finished download, comes in through
`post`. What others may look at is `views`, which is replaced and never changed.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from nerite.local.components import Component
from nerite.local.copies import Copy, Revision
from nerite.local.copy_view import CopyView
from nerite.local.housing import Housing
from nerite.local.rollout import CopyState, next_step
from nerite.local.tenants import Lodging, Tenant
from nerite.local.tools import Tools

Happening = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class GroupView:
    """The copies of one component, and which of them answer."""

    wanted: tuple[Component, ...]
    copies: tuple[CopyView, ...] = ()
    serving: tuple[CopyView, ...] = ()
    waiting_for: str = ""


@dataclass(slots=True)
class _Group:
    wanted: tuple[Component, ...] = ()
    copies: list[Copy | Tenant] = field(default_factory=list)
    serving: tuple[int, ...] = ()
    leaving: tuple[int, ...] = ()
    """Those that are not needed any more."""
    address: str = ""
    """Where it answered last; kept while a process that crashed comes back on the same port."""
    waiting_for: str = ""


class Supervisor:
    """The running components of all services."""

    def __init__(self, tools: Tools, changed: Callable[[], None] = lambda: None) -> None:
        self._tools = tools
        self._changed = changed
        self._wanted: tuple[Component, ...] = ()
        self._housing = Housing(tools.shared)
        self._groups: dict[str, _Group] = {}
        self._inbox: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._numbers = 0
        self.views: Mapping[str, GroupView] = {}

    def post(self, happening: Happening) -> None:
        """Something happened; it is dealt with in the next step. From any thread."""
        self._inbox.put(happening)

    def wait(self, seconds: float | None) -> None:
        """Returns when something was posted, or after so long."""
        try:
            first = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return
        self._inbox.put(first)

    def want(self, components: Iterable[Component]) -> None:
        """From now on exactly these shall run; of one key the latest first. From any thread."""
        wanted = tuple(components)
        self.post(lambda _: self._want(wanted))

    def _want(self, wanted: tuple[Component, ...]) -> None:
        self._wanted = wanted
        self._housing.forget(wanted)

    def _regroup(self) -> None:
        """Every component with its group, and the processes that some of them live in."""
        runners = {key: group.copies for key, group in self._groups.items()}
        wanted: dict[str, tuple[Component, ...]] = {}
        for component in self._wanted:
            for key in self._housing.groups(component, runners):
                wanted[key] = (*wanted.get(key, ()), component)
        wanted |= self._housing.shared_hosts(self._wanted, runners)
        for key in wanted.keys() | self._groups.keys():
            self._groups.setdefault(key, _Group()).wanted = wanted.get(key, ())

    @property
    def is_idle(self) -> bool:
        """Whether no process is left."""
        return not any(group.copies for group in self._groups.values())

    def step(self, now: float) -> float:
        """Does everything that is due; the time at which something will be due again."""
        while True:
            self._drain(now)
            self._regroup()
            moved = [self._advance(key, group, now) for key, group in list(self._groups.items())]
            if any(moved) or not self._inbox.empty():
                continue
            self._groups = {k: g for k, g in self._groups.items() if g.wanted or g.copies}
            self._publish()
            # Only now: whoever sends requests knows already that these get none any more.
            if not self._stop_leaving(now):
                break
        dues = [copy.due() for group in self._groups.values() for copy in group.copies]
        return min(dues, default=float("inf"))

    def _drain(self, now: float) -> None:
        while True:
            try:
                happening = self._inbox.get_nowait()
            except queue.Empty:
                return
            happening(now)

    def _advance(self, key: str, group: _Group, now: float) -> bool:
        """Brings one component nearer to what is wanted; whether it has to be called again."""
        for copy in group.copies:
            copy.act(now)
        ended = [copy for copy in group.copies if copy.has_ended]
        for copy in ended:
            copy.clean_up()
            group.copies.remove(copy)
        group.leaving = ()
        by_revision = self._startable(key, group)
        alone = any(c.fixed_ports for component in group.wanted for c in component.containers)
        states = [self._state(copy) for copy in group.copies]
        if group.waiting_for:
            return bool(ended)
        # What cannot run is wanted all the same: the last good copy stays, as in a cluster.
        impossible = [c.name for c in group.wanted if c.obstacle]
        copies = {
            name: 1 if alone or isinstance(r, Lodging) else r.component.replicas
            for name, r in by_revision.items()
        }
        wanted = [*(name for name in by_revision for _ in range(copies[name])), *impossible]
        # One that is being put into its host may take another's place there any moment.
        in_use = self._in_use(key) | {copy.number for copy in group.copies if copy.is_moving_in}
        step = next_step(wanted, states, in_use, alone)
        group.leaving = step.stop
        startable = [revision for revision in step.start if revision in by_revision]
        for revision in startable:
            self._numbers += 1
            group.copies.append(self._started(by_revision[revision], now))
        group.serving = tuple(number for _, number in step.serving)
        for copy in group.copies:
            if group.serving and copy.number == group.serving[0]:
                group.address = copy.address
        return bool(ended or startable)

    def _stop_leaving(self, now: float) -> bool:
        """Ends the copies that are not needed any more; whether there are any."""
        leaving = [
            copy
            for group in self._groups.values()
            for copy in group.copies
            if copy.number in group.leaving and not copy.is_stopping
        ]
        for copy in leaving:
            copy.stop(now)
        return bool(leaving)

    def _started(self, what: Revision | Lodging, now: float) -> Copy | Tenant:
        if isinstance(what, Lodging):
            return Tenant(self._numbers, what, self._tools, self.post, now)
        return Copy(self._numbers, what, self._tools, self.post)

    def _state(self, copy: Copy | Tenant) -> CopyState:
        state = copy.state()
        if isinstance(copy, Tenant) or not copy.component.hosts_models or not state.ready:
            return state
        runners = {key: group.copies for key, group in self._groups.items()}
        return replace(state, ready=self._housing.is_settled(copy, self._wanted, runners))

    def _startable(self, key: str, group: _Group) -> dict[str, Revision | Lodging]:
        """What can be started, by its name."""
        runners = {key: group.copies for key, group in self._groups.items()}
        found: dict[str, Revision | Lodging] = {}
        group.waiting_for = ""
        for component in group.wanted:
            if component.obstacle:
                continue
            if component.lives_in:
                lodging = self._housing.lodging(key, component, runners)
                if lodging is None:
                    group.waiting_for = self._housing.host_of(component).rpartition("/")[2]
                else:
                    found[lodging.name] = lodging
                continue
            hosts: dict[str, str] = {}
            if component.needs:
                address = self._address(component)
                if not address:
                    group.waiting_for = component.needs
                    continue
                hosts = {f"{component.needs}.{component.namespace}": address}
            revision = Revision(component, hosts)
            found[revision.name] = revision
        return found

    def _address(self, component: Component) -> str:
        """Where the component that this one needs answers; empty if it has no address yet."""
        if self._tools.front is not None:
            return self._tools.front(component.namespace, component.needs)
        needed = self._groups.get(f"{component.namespace}/{component.needs}")
        return needed.address if needed is not None else ""

    def _in_use(self, key: str) -> set[int]:
        """The copies of a component that running copies of others were told about."""
        namespace, _, name = key.partition("/")
        told = {
            copy.hosts.get(f"{name}.{namespace}")
            for other, group in self._groups.items()
            if other != key and group.wanted
            for copy in group.copies
            if not copy.is_stopping
        }
        return {copy.number for copy in self._groups[key].copies if copy.address in told}

    def _publish(self) -> None:
        views = {}
        for key, group in self._groups.items():
            copies = {copy.number: copy.view() for copy in group.copies}
            serving = tuple(copies[number] for number in group.serving if number in copies)
            views[key] = GroupView(group.wanted, tuple(copies.values()), serving, group.waiting_for)
        if views != self.views:
            self.views = views
            self._changed()
