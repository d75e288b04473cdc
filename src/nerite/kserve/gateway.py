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
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from nerite import _core
from nerite.errors import InvalidArgument

DOMAIN = "example.com"
#: Names below it are this machine's, for curl and browsers without any DNS (RFC 6761).
_HERE = "localhost"
LOGGER_MODES = ("all", "request", "response")
#: What a name of a service may be followed by, inside a cluster.
_INSIDE = ("", ".svc", ".svc.cluster.local")


@dataclass(frozen=True, slots=True)
class Replica:
    """One process that serves: `host:port` or `unix:/path` of each protocol that it speaks."""

    http: str | None = None
    grpc: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """Replicas that serve the same thing, and their share of the component's requests."""

    replicas: Sequence[Replica]
    weight: int = 100


@dataclass(frozen=True, slots=True)
class Batcher:
    """Joins V1 predictions: a batch goes when it has so many instances or is so old."""

    max_batch_size: int = 32
    max_latency_ms: int = 5000


@dataclass(frozen=True, slots=True)
class Logger:
    """Tells a sink of requests and answers as CloudEvents."""

    url: str
    mode: str = "all"
    source: str = ""
    metadata_headers: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> tuple[str, str]:
        """`host:port` and path of the sink."""
        try:
            url = urlsplit(self.url)
            port = url.port or 80
        except ValueError as why:
            raise InvalidArgument(f'logger.url "{self.url}" is no URL: {why}') from None
        if url.scheme != "http" or not url.hostname:
            raise InvalidArgument(f'logger.url "{self.url}" is not usable; write http://host:port/')
        if self.mode not in LOGGER_MODES:
            known = ", ".join(LOGGER_MODES)
            raise InvalidArgument(f'logger.mode is "{self.mode}"; known: {known}')
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        return f"{host}:{port}", (url.path or "/") + (f"?{url.query}" if url.query else "")


@dataclass(frozen=True, slots=True)
class Graph:
    """An InferenceGraph as steps of URLs; `graphs` makes it of the resource."""

    nodes: Mapping[str, Any]
    timeout: float | None = None
    """Seconds until the whole must be done."""
    step_timeout: float | None = None
    propagate_headers: Sequence[str] = ()
    """Regular expressions of the headers that steps are sent, as `PROPAGATE_HEADERS` has them."""

    def written(self) -> dict[str, Any]:
        """The graph as Rust reads it."""
        return {
            "nodes": self.nodes,
            "timeoutSecs": self.timeout,
            "stepTimeoutSecs": self.step_timeout,
            "propagateHeaders": list(self.propagate_headers),
        }

    def to_json(self) -> str:
        """The same as text: what `PUT /graphs/<namespace>/<name>` of a server takes."""
        return json.dumps(self.written())


@dataclass(frozen=True, slots=True)
class Component:
    """What answers: `predictor`, `transformer`, `explainer` or `graph`, in its revisions."""

    name: str
    revisions: Sequence[Revision] = ()
    timeout: float | None = None
    """Seconds until an answer must have begun."""
    batcher: Batcher | None = None
    logger: Logger | None = None
    concurrency: int = 0
    """Requests that each replica works on at a time; the others wait, ten times as many at most."""
    graph: Graph | None = None
    """What answers in the place of replicas."""
    absent: str | None = None
    """Why nobody answers, told to clients when there is no replica."""
    at: str = ""
    """What goes before the path of every request to its replicas: `/graphs/default/name` leads to a
    graph that a Nerite server runs."""


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
    outside = [
        f"{name}{between}{namespace}.{ending}" for ending in (domain, _HERE) for between in "-."
    ]
    return [*outside, *(f"{name}.{namespace}{inside}" for inside in _INSIDE)]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All services. `default`, or a single one, answers to hosts that nobody is known by.

    A host that two would have (`b` in namespace `c-d` and `b-c` in `d`) leads to the first.
    """

    services: Sequence[Service] = ()
    default: int | None = None

    def to_json(self) -> str:
        """The table as Rust reads it, with every host spelled out."""
        taken = Counter(host for host, _ in self._bare_names())
        bare = {owner: host for host, owner in self._bare_names() if taken[host] == 1}
        seen: set[str] = set()
        services = [_service(service, bare, seen) for service in self.services]
        default = 0 if self.default is None and len(services) == 1 else self.default
        return json.dumps({"services": services, "default": default})

    def _bare_names(self) -> Iterator[tuple[str, tuple[str, str, str]]]:
        """Names without a namespace, which lead somewhere if only one namespace has them."""
        for service in self.services:
            own = (service.namespace, service.name)
            yield service.name, (*own, "")
            for component in service.components:
                yield f"{service.name}-{component.name}", (*own, component.name)


def _service(
    service: Service, bare: Mapping[tuple[str, str, str], str], seen: set[str]
) -> dict[str, Any]:
    def hosts(component: str, names: list[str]) -> list[str]:
        short = bare.get((service.namespace, service.name, component))
        free = [name for name in (*names, *([short] if short else ())) if name not in seen]
        seen.update(free)
        return free

    names = [component.name for component in service.components]
    return {
        "name": service.name,
        "namespace": service.namespace,
        "hosts": hosts("", service.hosts()),
        "entry": service.entry(),
        "explain": "explainer" if "explainer" in names else None,
        "components": [
            _component(service, one, hosts(one.name, service.component_hosts(one.name)))
            for one in service.components
        ],
    }


def _component(service: Service, component: Component, hosts: list[str]) -> dict[str, Any]:
    return {
        "name": component.name,
        "hosts": hosts,
        "at": component.at,
        "timeout_secs": component.timeout,
        "absent": component.absent,
        "concurrency": component.concurrency,
        "batcher": component.batcher and asdict(component.batcher),
        "logger": component.logger and _logger(service, component.name, component.logger),
        "graph": component.graph and component.graph.written(),
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


def _logger(service: Service, component: str, logger: Logger) -> dict[str, Any]:
    authority, path = logger.parts()
    attributes = {
        "ce-source": logger.source or f"http://{service.hosts()[0]}/",
        "ce-inferenceservicename": service.name,
        "ce-namespace": service.namespace,
        "ce-component": component,
        "ce-endpoint": service.name,
    }
    if logger.annotations:
        attributes["ce-annotations"] = json.dumps(dict(logger.annotations))
    return {
        "authority": authority,
        "path": path,
        "requests": logger.mode in ("all", "request"),
        "responses": logger.mode in ("all", "response"),
        "attributes": list(attributes.items()),
        "metadata_headers": list(logger.metadata_headers),
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
    """As `header_timeout_secs` of a server; over HTTP also for bodies that pass to a component."""
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

    def listen(self, port: int = 0, host: str | None = None) -> int:
        """Opens another port and returns it; with `host`, all its requests are to that host."""
        return self._core.listen(self.options.address, port, host)

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
