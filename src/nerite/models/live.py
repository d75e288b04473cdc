# SPDX-License-Identifier: Apache-2.0
"""Models that serve, and how they end. How they come to be is in `loading`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nerite.backends.contract import Shared
from nerite.config import ModelConfig
from nerite.models.instance import Instance
from nerite.models.repository import Found
from nerite.stores.agents import Prepared

if TYPE_CHECKING:
    from nerite._core import Version

Labels = Mapping[str, list[str]]
"""Output -> class labels."""

#: As long as it takes.
FOREVER: Final = 1e9


@dataclass(frozen=True, slots=True)
class Composed:
    """A configuration with what other models decide about it, if it is an ensemble's."""

    config: ModelConfig
    labels: Labels = field(default_factory=dict)
    """Those of the steps that write its outputs."""


@dataclass(slots=True)
class LiveVersion:
    """A version that serves: its queue, its instances, and what they have in common."""

    number: int
    core: Version
    shared: Shared
    instances: list[Instance] = field(default_factory=list)

    def memory(self) -> list[tuple[str, int, int]]:
        """What its backend says that it holds: kind, device and bytes, each device once."""
        sums: dict[tuple[str, int], int] = {}
        told = [self.shared.held_memory(), *(instance.memory for instance in self.instances)]
        for kind, device, size in (held for each in told for held in each):
            sums[kind, device] = sums.get((kind, device), 0) + size
        return [(kind, device, size) for (kind, device), size in sorted(sums.items())]

    def stop(self, timeout: float | None = None) -> bool:
        """Finishes what was accepted, ends the instances; whether all ended in time.

        Requests that found the version before another took its place in the table are accepted too.
        """
        self.core.retire(FOREVER if timeout is None else timeout)
        ended = [instance.join(timeout) for instance in self.instances]
        if all(ended):
            self.shared.clear()
        return all(ended)


@dataclass(slots=True)
class LiveModel:
    """A model that serves."""

    name: str
    config: ModelConfig
    versions: list[LiveVersion]
    found: Found
    """What it was loaded from."""
    prepared: Prepared
    warnings: tuple[str, ...] = ()
    labels: Labels = field(default_factory=dict)
    """Its own, and those that it has from its steps."""
    inherited: Labels = field(default_factory=dict)
    """Those that it has from its steps, whether it has its own or not."""

    @property
    def key(self) -> str:
        """What tells it from all other models."""
        return self.found.key

    @property
    def numbers(self) -> tuple[int, ...]:
        """Its versions, ascending."""
        return tuple(version.number for version in self.versions)

    def stop(self, timeout: float | None = None) -> bool:
        """Ends every version and lets go of their files; whether all ended in time."""
        # A list: one that did not end in time must not keep the others from being told to.
        ended = all([version.stop(timeout) for version in self.versions])  # noqa: C419
        if ended:
            # Whoever still holds the model must not hold its memory.
            self.versions.clear()
            self.prepared.release()
            self.found.release()
        return ended
