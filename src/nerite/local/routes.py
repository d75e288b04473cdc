# SPDX-License-Identifier: Apache-2.0
"""Which host and path lead to which ports: what a gateway in front of the components needs.

A pure function of the running components. The names are those a cluster has:
`NAME-NAMESPACE.DOMAIN` for a service from outside, `NAME-predictor.NAMESPACE.svc.cluster.local` and
its short forms from inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from nerite.kserve.documents import Object
from nerite.local.status import Running, shares
from nerite.local.supervisor import GroupView

DOMAINS = ("example.com", "localhost")


@dataclass(frozen=True, slots=True)
class Backend:
    """One server, and its part of the requests relative to the others'."""

    port: int
    weight: int = 1
    grpc_port: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Requests for one of the hosts, or with the path prefix, go to the backends.

    A `verb` narrows the route to paths that end in `:verb`; such routes come first.
    """

    hosts: tuple[str, ...]
    backends: tuple[Backend, ...]
    path_prefix: str = ""
    verb: str = ""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes; the first that fits is taken."""

    routes: tuple[Route, ...] = ()

    def to_dict(self) -> Object:
        """The table as JSON can hold it."""
        return asdict(self)


class Gateway(Protocol):
    """The one address in front of all services."""

    def configure(self, table: RouteTable) -> None:
        """From now on requests go where this table says."""

    def url(self, namespace: str, name: str) -> str:
        """Where it answers for a service."""
        ...


def route_table(services: Iterable[tuple[str, str, Running]]) -> RouteTable:
    """The routes of services, each given as namespace, name and what runs."""
    routes: list[Route] = []
    for namespace, name, running in services:
        routes += _of_service(namespace, name, running)
    return RouteTable(tuple(sorted(routes, key=lambda route: not route.verb)))


def _of_service(namespace: str, name: str, running: Running) -> list[Route]:
    predictors = _weighted([*running.of("predictor"), *running.of("predictor", canary=True)])
    transformers = _weighted(running.of("transformer"))
    explainers = _weighted(running.of("explainer"))
    outside = tuple(f"{name}-{namespace}.{domain}" for domain in DOMAINS)
    prefix = f"/serving/{namespace}/{name}"
    entry = transformers if running.of("transformer") else predictors
    routes = []
    if explainers:
        routes.append(Route(outside, explainers, prefix, "explain"))
    if entry:
        routes.append(Route(outside, entry, prefix))
    by_role = (("predictor", predictors), ("transformer", transformers), ("explainer", explainers))
    for role, backends in by_role:
        groups = running.of(role)
        if groups and backends:
            routes.append(Route(_inside(groups[0].wanted[0].name, namespace), backends))
    return routes


def _inside(component: str, namespace: str) -> tuple[str, ...]:
    short = f"{component}.{namespace}"
    outside = tuple(f"{component}-{namespace}.{domain}" for domain in DOMAINS)
    return (component, short, f"{short}.svc", f"{short}.svc.cluster.local", *outside)


def _weighted(groups: Sequence[GroupView]) -> tuple[Backend, ...]:
    """The servers that are ready; what one that is not would have got goes to the others."""
    found = []
    for group in groups:
        # With a share between revisions `percent` is the revision's, else the component's own.
        own = 100 if len(group.wanted) > 1 else group.wanted[0].percent
        for copy, percent in shares(group):
            if copy.port is not None and own * percent:
                found.append(Backend(copy.port, own * percent, copy.grpc_port))
    return tuple(found)
