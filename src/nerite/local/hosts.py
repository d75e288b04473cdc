# SPDX-License-Identifier: Apache-2.0
"""The processes that several services' models share: which model lives in which of them.

A process has one model of a name, so a second one of that name (of another namespace, or the
other revision of a canary) goes to another process. Pure: what lives where comes from the
supervisor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from nerite.kserve.defaulting import KSERVE_CONTAINER
from nerite.local.components import Component
from nerite.local.stand_ins import Machine, model_host

#: No namespace of a cluster has such a name, so nothing that is applied can be mistaken for one.
NAMESPACE = "_shared"


def shared_key(number: int) -> str:
    """The component's key of a shared process."""
    return f"{NAMESPACE}/shared-{number}"


def number_of(key: str) -> int | None:
    """The number of the shared process that a component's key is of."""
    head = shared_key(0)[:-1]
    return int(key.removeprefix(head)) if key.startswith(head) else None


def shared_host(number: int, machine: Machine) -> Component:
    """A process that holds whatever is put into its repository."""
    name = f"shared-{number}"
    container = model_host(KSERVE_CONTAINER, machine)
    return Component(NAMESPACE, name, "shared", name, (container,), hosts_models=True)


@dataclass(frozen=True, slots=True)
class Occupant:
    """A model that lives in a shared process, or shall."""

    key: str
    digest: str
    model: str


def assign(
    wanted: Iterable[Occupant], living: Iterable[tuple[Occupant, int]]
) -> dict[Occupant, int]:
    """The number of the shared process for each occupant that is wanted.

    The first process that is there and has no other model of that name; so one that had to move
    out of another's way comes back as soon as that one is gone, and processes do not add up. The
    revision before, if it is not wanted any more, is no hindrance: its model is replaced in place.
    """
    wanted = list(wanted)
    stays = set(wanted)
    taken: dict[int, dict[str, set[Occupant]]] = {}
    for occupant, number in living:
        taken.setdefault(number, {}).setdefault(occupant.model, set()).add(occupant)
    found: dict[Occupant, int] = {}
    for occupant in wanted:
        for number in _candidates(taken):
            others = taken.get(number, {}).get(occupant.model, set()) - {occupant}
            if all(other.key == occupant.key and other not in stays for other in others):
                break
        taken.setdefault(number, {}).setdefault(occupant.model, set()).add(occupant)
        found[occupant] = number
    return found


def _candidates(taken: Mapping[int, object]) -> Iterable[int]:
    yield from sorted(taken)
    yield from (number for number in count(1) if number not in taken)
