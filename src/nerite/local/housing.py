# SPDX-License-Identifier: Apache-2.0
"""Where the models live that have no process of their own: the supervisor's register of hosts.

Decides nothing by itself (`hosts` does): it looks at the supervisor's groups, says which shared
processes are needed, and in which copy a model is to live. Same thread as the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from nerite.local.components import SHARED, Component
from nerite.local.copies import Copy
from nerite.local.hosts import Occupant, assign, number_of, shared_key
from nerite.local.tenants import Lodging, Tenant

Runners = Mapping[str, Sequence[Copy | Tenant]]


def occupant(component: Component) -> Occupant:
    """A component as one that wants to live somewhere."""
    return Occupant(component.key, component.digest, component.model)


class Housing:
    """See the module."""

    def __init__(self, shared: Callable[[int], Component] | None) -> None:
        self._shared = shared
        self._assigned: dict[Occupant, int] = {}
        self._answered: set[str] = set()
        """The lodgers of named hosts that have answered: they go on in whatever comes after."""

    def shared_hosts(
        self, wanted: Sequence[Component], runners: Runners
    ) -> dict[str, tuple[Component, ...]]:
        """The shared processes that are needed now, by key; also decides who lives in which."""
        if self._shared is None:
            return {}
        living, needed = [], set()
        for tenant in _tenants(runners):
            number = number_of(tenant.host.component.key)
            if number is not None and not tenant.has_ended:
                living.append((occupant(tenant.component), number))
                needed |= set() if tenant.is_stopping else {number}
        lodgers = [occupant(c) for c in wanted if c.lives_in == SHARED]
        self._assigned = assign(dict.fromkeys(lodgers), living)
        needed |= set(self._assigned.values())
        return {shared_key(number): (self._shared(number),) for number in sorted(needed)}

    def lodging(self, group: str, component: Component, runners: Runners) -> Lodging | None:
        """Where a model is to live; None as long as there is no such copy."""
        if component.lives_in != SHARED:
            number = int(group.rpartition("@")[2])
            copies = _copies(runners, component.lives_in)
            found = next((copy for copy in copies if copy.number == number), None)
        else:
            host = shared_key(self._assigned.get(occupant(component), 0))
            found = next((c for c in _copies(runners, host) if not c.is_stopping), None)
        return None if found is None else Lodging(component, found)

    def host_of(self, component: Component) -> str:
        """The key of the host that a model waits for."""
        if component.lives_in != SHARED:
            return component.lives_in
        return shared_key(self._assigned.get(occupant(component), 0))

    def groups(self, component: Component, runners: Runners) -> Iterator[str]:
        """The groups of a component: one, or with a named host one for each of its copies."""
        if component.lives_in in ("", SHARED):
            yield component.key
            return
        for copy in _copies(runners, component.lives_in):
            if not copy.is_stopping:
                yield f"{component.key}@{copy.number}"

    def is_settled(self, copy: Copy, wanted: Sequence[Component], runners: Runners) -> bool:
        """Whether all models that have answered are in a copy's process, or cannot be there.

        What was loaded once into another copy, or into the process before, is no less than before.
        """
        for tenant in _tenants(runners):
            if tenant.component.lives_in == copy.component.key and tenant.is_loaded:
                self._answered.add(tenant.component.key)
        if copy.settled_in and copy.settled_in == copy.incarnation:
            return True
        lodgers = {c.key for c in wanted if c.lives_in == copy.component.key and not c.obstacle}
        for key in lodgers & self._answered:
            mine = [t for t in runners.get(f"{key}@{copy.number}", ()) if isinstance(t, Tenant)]
            if not any(tenant.is_settled for tenant in mine):
                return False
        copy.settled_in = copy.incarnation
        return True

    def forget(self, wanted: Sequence[Component]) -> None:
        """Only these are wanted any more."""
        self._answered &= {component.key for component in wanted}


def _tenants(runners: Runners) -> Iterator[Tenant]:
    return (each for copies in runners.values() for each in copies if isinstance(each, Tenant))


def _copies(runners: Runners, key: str) -> list[Copy]:
    return [each for each in runners.get(key, ()) if isinstance(each, Copy)]
