# SPDX-License-Identifier: Apache-2.0
"""A copy of a component as it was at one moment: what everything but the supervisor sees of it."""

from __future__ import annotations

from dataclasses import dataclass

from nerite.kserve.documents import Object
from nerite.local.components import Component
from nerite.local.lifeline import Exit


@dataclass(frozen=True, slots=True)
class CopyView:
    """A copy as others may see it."""

    number: int
    component: Component
    ready: bool
    stopping: bool
    fetching: bool
    port: int | None
    grpc_port: int | None
    pids: tuple[int, ...]
    restarts: int
    failing: bool
    problem: str
    last_exit: Exit | None
    progress: str = ""
    """How far the fetching is, where something is downloaded."""
    host: str = ""
    """The key of the component in whose process it lives; empty if it has its own."""
    unfit: str = ""
    """Why its content cannot live in another's process."""

    def described(self, name: str, revision: str) -> Object:
        """It as `describe` and `get -o wide` show it."""
        return {
            "name": name,
            "revision": revision,
            "url": self.url if self.port else "",
            "ready": self.ready,
            "stopping": self.stopping,
            "pids": list(self.pids),
            "restarts": self.restarts,
            "process": self.host.rpartition("/")[2],
        }

    @property
    def url(self) -> str:
        """Its address for HTTP on this machine."""
        return f"http://127.0.0.1:{self.port}"
