# SPDX-License-Identifier: Apache-2.0
"""What the gateway in front of the components is told, as a function of what runs.

Every service that was applied has a route, so that a client of one that is not up is told why. The
names are those a cluster has; `nerite.kserve.gateway` spells them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nerite.kserve.gateway import Component, Logger, Replica, Revision, RouteTable, Service
from nerite.kserve.rendering import Rendering
from nerite.local.copy_view import CopyView
from nerite.local.running import Running, shares
from nerite.local.sidecars import (
    batcher_of,
    concurrency_of,
    logger_of,
    logger_problem,
    timeout_of,
)
from nerite.local.status import ROLES, why_absent
from nerite.local.supervisor import GroupView


class Gateway(Protocol):
    """The one address in front of all services."""

    def open(self) -> None:
        """Takes its ports; everything else comes later."""

    def configure(self, table: RouteTable) -> None:
        """From now on requests go where this table says."""

    def url(self, namespace: str, name: str) -> str:
        """Where it answers for a service."""
        ...

    def address(self, namespace: str, component: str) -> str:
        """`host:port` that leads to one component, and stays the same wherever that runs."""
        ...

    def close(self) -> None:
        """Gives the ports back."""


def service_route(rendering: Rendering, running: Running) -> Service:
    """A service as the gateway sees it: whoever is ready, or why nobody is."""
    service = rendering.service
    roles = [role for role in ROLES if role in service.spec] or ["predictor"]
    components = []
    for role in roles:
        spec = service.spec.get(role) or {}
        groups = [*running.of(role), *running.of(role, canary=True)]
        revisions = _revisions(groups)
        components.append(
            Component(
                role,
                revisions,
                timeout_of(spec),
                batcher_of(spec),
                _logger(spec, rendering),
                concurrency=concurrency_of(spec),
                absent=None if revisions else why_absent(rendering, groups),
            )
        )
    return Service(service.name, service.namespace, components)


def _logger(spec: dict[str, object], rendering: Rendering) -> Logger | None:
    # One that cannot be used is told of as a warning of the component, and nothing else stops.
    problem = logger_problem(spec, rendering.service)
    return None if problem else logger_of(spec, rendering.service)


def _revisions(groups: Sequence[GroupView]) -> list[Revision]:
    """The copies that are ready; what one that is not would have got goes to the others."""
    found = []
    for group in groups:
        # With a share between revisions `percent` is the revision's, else the component's own.
        own = 100 if len(group.wanted) > 1 else group.wanted[0].percent
        for copies, percent in shares(group):
            replicas = [_replica(copy) for copy in copies if copy.port is not None]
            if replicas and own * percent > 0:
                found.append(Revision(replicas, own * percent))
    return found


def _replica(copy: CopyView) -> Replica:
    grpc = f"127.0.0.1:{copy.grpc_port}" if copy.grpc_port else None
    return Replica(f"127.0.0.1:{copy.port}", grpc)
