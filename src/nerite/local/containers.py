# SPDX-License-Identifier: Apache-2.0
"""A container of a pod as a process of this machine: its words, its variables, its ports.

Words and variables still speak of the container's ports and folders (`8080`, `/mnt/models`);
`place` puts the local ones in when the process starts, so that a component stays the same value
while its ports change. Which containers run, and why one cannot, is decided in `components`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nerite.kserve.documents import Object
from nerite.kserve.storage_paths import local_path
from nerite.kserve.workloads import first_port

_READY_SECS = 2.0
_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][\w.-]*)\)")


@dataclass(frozen=True, slots=True)
class Probe:
    """How a process is asked: an HTTP path, or (without one) whether the port is open."""

    port: int
    path: str = ""
    period: float = 10.0
    kind: Literal["http", "tcp"] = "tcp"
    timeout: float = _READY_SECS
    delay: float = 0.0
    """Liveness and startup: from the start of the process to the first question."""
    failures: int = 3
    """Liveness and startup: so many in a row, and the process is ended."""
    grace: float | None = None
    """How long it may then take to end by itself; None is as long as always."""
    once_ready: bool = False
    """Liveness: not asked before the process has been ready."""


@dataclass(frozen=True, slots=True)
class Container:
    """One process of a component, as it would be started in a container."""

    name: str
    argv: tuple[str, ...]
    probe: Probe
    environment: tuple[tuple[str, str], ...] = ()
    ports: tuple[int, ...] = ()
    """The ports it listens on, that of HTTP first."""
    fixed_ports: frozenset[int] = frozenset()
    """Ports that stand in no word of the command, so no other can be put in their place."""
    directory: str = ""
    model_name: str = ""
    """The model's name where Nerite itself serves it; a bare file is laid out under that name."""
    grpc_port: int | None = None
    liveness: Probe | None = None
    startup: Probe | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """What stands here for the ports, folders and host names of the containers."""

    ports: Mapping[int, int] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """`text` with everything replaced that is somewhere else here."""
        for host, address in sorted(self.hosts.items(), key=lambda pair: -len(pair[0])):
            suffix = r"(?:\.svc(?:\.cluster\.local)?)?(?::80)?(?![\w.-])"
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}{suffix}", address, text)
        for mount, folder in sorted(self.folders.items(), key=lambda pair: -len(pair[0])):
            text = _with_folder(text, mount, folder)
        return _with_ports(text, self.ports)


def _with_folder(text: str, mount: str, folder: str) -> str:
    if mount == "/mnt/models":
        return local_path(text, folder)
    return re.sub(rf"{re.escape(mount)}(?![\w.-])", lambda _: folder, text)


def _with_ports(text: str, ports: Mapping[int, int]) -> str:
    """A number is a port where it is the whole text or stands behind `=` or `:` at a word's end."""

    def replaced(match: re.Match[str]) -> str:
        return str(ports.get(int(match[0]), match[0]))

    return re.sub(r"(?:(?<=[=:])|(?<![^\s]))\d{2,5}(?=$|[\s/,])", replaced, text)


def mentions_port(text: str, port: int) -> bool:
    """Whether another port could be put in the place of `port` in this text."""
    return _with_ports(text, {port: -1}) != text


@dataclass(frozen=True, slots=True)
class Placed:
    """A command that can be started as it is."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str = ""


def place(container: Container, placement: Placement) -> Placed:
    """The command of a container with the ports and folders it has here."""
    environment = {name: placement.text(value) for name, value in container.environment}
    if container.ports:
        # Knative's contract; a program that reads it needs no argument for its port.
        environment.setdefault("PORT", str(placement.ports[container.ports[0]]))
    # A Nerite model folder is laid out at start; its words are placed like any others.
    return Placed(
        tuple(placement.text(word) for word in container.argv),
        environment,
        placement.text(container.directory),
    )


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced as the kubelet does: unknown names stay, `$$(NAME)` is an escape."""

    def replaced(match: re.Match[str]) -> str:
        if match[1]:
            return f"$({match[2]})"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(replaced, text)


def ports_of(container: Object) -> tuple[int, ...]:
    """The container's ports, the serving one first."""
    declared = [int(port["containerPort"]) for port in container.get("ports", [])]
    return tuple(dict.fromkeys([first_port(container), *declared]))


def fixed_ports(ports: Iterable[int], texts: Iterable[str]) -> frozenset[int]:
    """The ports that none of the texts names."""
    texts = list(texts)
    return frozenset(port for port in ports if not any(mentions_port(text, port) for text in texts))


def lone_copy(containers: Iterable[Container], copies: int) -> list[str]:
    """That there is one copy where more are asked for, since they would need the same port."""
    if copies < 2:
        return []
    found = [(c.name, port) for c in containers for port in sorted(c.fixed_ports)]
    return [
        f"one copy runs instead of {copies}: container {name} listens on port {port} wherever it "
        "runs; let its arguments or variables name the port, and each copy is given its own"
        for name, port in found[:1]
    ]


def probe_of(container: Object) -> Probe:
    """The readiness probe; what cannot be asked from here (exec, gRPC) becomes an open port."""
    given = container.get("readinessProbe", {})
    probe = _probe_of(container, given) or Probe(first_port(container), **_timing(given))
    # The kubelet's second is short where all processes share one desk.
    return replace(probe, timeout=max(probe.timeout, _READY_SECS))


def vital_probe_of(container: Object, key: str) -> Probe | None:
    """The `livenessProbe` or `startupProbe`, if it can be asked from here."""
    return _probe_of(container, container.get(key) or {})


def _timing(given: Object) -> dict[str, Any]:
    grace = given.get("terminationGracePeriodSeconds")
    return {
        "period": float(given.get("periodSeconds") or 10),
        "timeout": float(given.get("timeoutSeconds") or 1),
        "delay": float(given.get("initialDelaySeconds") or 0),
        "failures": int(given.get("failureThreshold") or 3),
        "grace": None if grace is None else float(grace),
    }


def _probe_of(container: Object, given: Object) -> Probe | None:
    named = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}

    def number(port: object) -> int:
        text = str(port)
        return int(text) if text.isdigit() else int(named.get(text, first_port(container)))

    if "httpGet" in given:
        request = given["httpGet"]
        port = number(request.get("port", first_port(container)))
        return Probe(port, str(request.get("path", "/")), kind="http", **_timing(given))
    if "tcpSocket" in given:
        port = number(given["tcpSocket"].get("port", first_port(container)))
        return Probe(port, **_timing(given))
    return None
