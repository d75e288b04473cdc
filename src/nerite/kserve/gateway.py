# SPDX-License-Identifier: Apache-2.0
"""The gateway: one port in front of every component of every service.

A `RouteTable` says which names lead to which component and where its replicas listen. It is data:
Rust carries the requests, and no Python runs for any of them. `Gateway` starts it and replaces its
table, in one step, whenever something changed. `graphs` makes a component of an InferenceGraph.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from nerite import _core

DOMAIN = "example.com"
#: What a name of a service may be followed by, inside a cluster.
_INSIDE = ("", ".svc", ".svc.cluster.local")


@dataclass(frozen=True, slots=True)
class Replica:
    """One process that serves: `host:port` of each protocol that it speaks."""

    http: str | None = None
    grpc: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """Replicas that serve the same thing, and their share of the component's requests."""

    replicas: Sequence[Replica]
    weight: int = 100


@dataclass(frozen=True, slots=True)
class Component:
    """What answers: `predictor`, `transformer`, `explainer` or `graph`, in its revisions."""

    name: str
    revisions: Sequence[Revision] = ()
    timeout: float | None = None
    """Seconds until an answer must have begun."""
    absent: str | None = None
    """Why nobody answers, told to clients when there is no replica."""


@dataclass(frozen=True, slots=True)
class Service:
    """An InferenceService or InferenceGraph: components under common names.

    Requests go to the transformer if there is one, else to the first component; `:explain` goes to
    the explainer. Each component has names of its own, as in a cluster.
    """

    name: str
    namespace: str = "default"
    components: Sequence[Component] = ()
    domain: str = DOMAIN

    def entry(self) -> str:
        """The component that answers for the service."""
        names = [component.name for component in self.components]
        return "transformer" if "transformer" in names else names[0]

    def hosts(self) -> list[str]:
        """Hosts of the service as a whole; the first is the one to show."""
        return _hosts(self.name, self.namespace, self.domain)

    def component_hosts(self, component: str) -> list[str]:
        """Hosts that lead past the entry to one component."""
        return _hosts(f"{self.name}-{component}", self.namespace, self.domain)

    def path(self) -> str:
        """The path under which the service is reached whatever the host."""
        return f"/serving/{self.namespace}/{self.name}"


def _hosts(name: str, namespace: str, domain: str) -> list[str]:
    outside = [f"{name}-{namespace}.{domain}", f"{name}.{namespace}.{domain}"]
    return [*outside, *(f"{name}.{namespace}{inside}" for inside in _INSIDE)]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All services. A single one also answers to hosts that nothing else answers to."""

    services: Sequence[Service] = ()

    def to_json(self) -> str:
        """The table as Rust reads it, with every host spelled out."""
        taken = Counter(host for host, _ in self._bare_names())
        bare = {owner: host for host, owner in self._bare_names() if taken[host] == 1}
        services = [_service(service, bare) for service in self.services]
        default = 0 if len(services) == 1 else None
        return json.dumps({"services": services, "default": default})

    def _bare_names(self) -> Iterator[tuple[str, tuple[str, str, str]]]:
        """Names without a namespace, which lead somewhere if only one namespace has them."""
        for service in self.services:
            own = (service.namespace, service.name)
            yield service.name, (*own, "")
            for component in service.components:
                yield f"{service.name}-{component.name}", (*own, component.name)


def _service(service: Service, bare: Mapping[tuple[str, str, str], str]) -> dict[str, Any]:
    def hosts(component: str, names: list[str]) -> list[str]:
        short = bare.get((service.namespace, service.name, component))
        return [*names, short] if short else names

    names = [component.name for component in service.components]
    return {
        "name": service.name,
        "namespace": service.namespace,
        "hosts": hosts("", service.hosts()),
        "entry": service.entry(),
        "explain": "explainer" if "explainer" in names else None,
        "components": [
            _component(one, hosts(one.name, service.component_hosts(one.name)))
            for one in service.components
        ],
    }


def _component(component: Component, hosts: list[str]) -> dict[str, Any]:
    return {
        "name": component.name,
        "hosts": hosts,
        "timeout_secs": component.timeout,
        "absent": component.absent,
        "revisions": [
            {
                "weight": revision.weight,
                "replicas": [
                    {"http": replica.http, "grpc": replica.grpc} for replica in revision.replicas
                ],
            }
            for revision in component.revisions
        ],
    }


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Settings of a gateway, fixed for its life."""

    address: str = "127.0.0.1"
    port: int = 0
    io_threads: int = 1
    max_request_bytes: int = 64 << 20
    max_connections: int = 65_536
    arrival_timeout_secs: float = 30.0
    connect_timeout_secs: float = 5.0
    drain_secs: float = field(default=30.0, kw_only=True)
    """How long requests under way may take when the gateway closes."""


class Gateway:
    """A running gateway. Use it as a context manager, or call `close`."""

    def __init__(self, table: RouteTable | None = None, options: GatewayOptions | None = None):
        self.options = options or GatewayOptions()
        settings = {
            name: getattr(self.options, name)
            for name in (
                "io_threads",
                "max_request_bytes",
                "max_connections",
                "arrival_timeout_secs",
                "connect_timeout_secs",
            )
        }
        self._core = _core.Gateway(json.dumps(settings))
        try:
            self.update(table or RouteTable())
            self.port = self._core.listen(self.options.address, self.options.port)
        except BaseException:
            self._core.stop()
            raise

    @property
    def url(self) -> str:
        """Where it is reached."""
        host = self.options.address
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    def update(self, table: RouteTable) -> None:
        """Replaces the routes in one step; requests under way keep the ones they began with."""
        self._core.update(table.to_json())

    def counters(self) -> dict[str, int]:
        """What happened so far; see `_core.Gateway.counters`."""
        return self._core.counters()

    def close(self, drain_secs: float | None = None) -> bool:
        """Stops accepting, lets requests finish, ends; False if some had to be cut off."""
        drained = self._core.drain(self.options.drain_secs if drain_secs is None else drain_secs)
        self._core.stop()
        return drained

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
