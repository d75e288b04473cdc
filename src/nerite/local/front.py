# SPDX-License-Identifier: Apache-2.0
"""The gateway of this machine's daemon: two ports for clients, and doors for components.

Clients reach a service by its host, or by `/serving/<namespace>/<name>` whatever the host. A
transformer is told only where its predictor is, so that gets a door: a port of the gateway all of
whose requests are to the predictor. The door stays, whichever copies of the predictor come and go.
"""

from __future__ import annotations

import threading

from nerite.errors import InvalidArgument, Unavailable
from nerite.kserve.gateway import Component, Gateway, GatewayOptions, RouteTable, Service

_ADDRESS = "127.0.0.1"
#: How long the last answers may take to reach their clients; the components are gone by then.
_DRAIN_SECS = 1.0


class Front:
    """See the module; `local.routes.Gateway` says what each method is for."""

    def __init__(self, http_port: int, grpc_port: int) -> None:
        """Ports for clients; 0 takes a free one. Each speaks HTTP/1.1 and gRPC."""
        self.http_port = http_port
        self.grpc_port = grpc_port
        self._gateway: Gateway | None = None
        self._lock = threading.Lock()
        self._doors: dict[str, str] = {}

    def open(self) -> None:
        """Takes the ports.

        Raises:
            Unavailable: One is taken; the text names its flag.
        """
        same = self.grpc_port == self.http_port != 0
        try:
            gateway = Gateway(options=GatewayOptions(_ADDRESS, self.http_port))
        except Unavailable as why:
            raise Unavailable(f"{why}; choose another --http-port (0: any)") from None
        try:
            self.grpc_port = gateway.port if same else gateway.listen(self.grpc_port)
        except Unavailable as why:
            gateway.close(0)
            raise Unavailable(f"{why}; choose another --grpc-port (0: any)") from None
        self.http_port = gateway.port
        self._gateway = gateway

    @property
    def gateway(self) -> Gateway:
        """The gateway itself, once it is open."""
        if self._gateway is None:
            raise Unavailable("the gateway is not open")
        return self._gateway

    def configure(self, table: RouteTable) -> None:
        """Replaces the routes; a service that cannot be routed answers why, and harms no other."""
        try:
            self.gateway.update(table)
        except InvalidArgument:
            # What KServe admits may still be too much, like a timeout of centuries.
            with Gateway() as trial:
                services = [_or_absent(service, trial) for service in table.services]
            self.gateway.update(RouteTable(services))

    def url(self, namespace: str, name: str) -> str:
        """A URL that needs no `Host` header."""
        return f"http://{_ADDRESS}:{self.http_port}/serving/{namespace}/{name}"

    def address(self, namespace: str, component: str) -> str:
        """The component's door, opened when it is first asked for."""
        host = f"{component}.{namespace}"
        with self._lock:
            if host not in self._doors:
                self._doors[host] = f"{_ADDRESS}:{self.gateway.listen(host=host)}"
            return self._doors[host]

    def close(self) -> None:
        """Gives everything back."""
        if self._gateway is not None:
            self._gateway.close(_DRAIN_SECS)


def _or_absent(service: Service, trial: Gateway) -> Service:
    try:
        trial.update(RouteTable([service]))
    except InvalidArgument as why:
        absent = [Component(each.name, absent=str(why)) for each in service.components]
        return Service(service.name, service.namespace, absent)
    return service
