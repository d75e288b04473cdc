# SPDX-License-Identifier: Apache-2.0
"""How each port is opened: on TCP or as a socket in the file system, shared or not, in TLS or not.

The files of TLS are read by the data plane, which reads them again when they change; this module
only says which they are, and refuses combinations that would leave a port more open than meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote

from nerite.errors import InvalidArgument
from nerite.server.door_options import DoorOptions

Spoken = Literal["http", "grpc", "metrics", "sagemaker", "vertex_ai"]
PROTOCOLS: tuple[Spoken, ...] = ("http", "grpc", "metrics")
UNIX = "unix:"

_UNUSED_ROOTS = (
    "--{0}-root-cert is not used: clients are asked for no certificate without "
    "--{0}-use-ssl-mutual=true"
)

TlsFiles = tuple[Path, Path, Path | None]
"""Certificate, key, and the roots of clients' certificates if clients need one."""


class Options(Protocol):
    """`ServerOptions`, which checks itself with this; its fields of a protocol are read by name."""

    @property
    def http_address(self) -> str: ...
    @property
    def doors(self) -> DoorOptions: ...


@dataclass(frozen=True, slots=True)
class Door:
    """One port that is to be opened."""

    protocol: Spoken
    address: str
    port: int
    """0 takes a free one; a socket in the file system has none."""
    reuse: bool = False
    tls: TlsFiles | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether it is a socket in the file system."""
        return self.address.startswith(UNIX)

    def url(self, port: int) -> str:
        """Where clients find it, as they take it: gRPC's have no scheme."""
        if self.is_file:
            path = self.address.removeprefix(UNIX)
            return self.address if self.protocol == "grpc" else f"http+unix://{quote(path, '')}"
        host = self.address.removeprefix("ipv6:").strip("[]")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        scheme = {"grpc": "", "http": "https://" if self.tls else "http://"}
        return scheme.get(self.protocol, "http://") + place

    def told(self, port: int) -> str:
        """Where it is, for the log."""
        return self.address if self.is_file else f"{self.address}:{port}"


def doors(options: Options) -> list[Door]:
    """The ports that are to be opened.

    Raises:
        InvalidArgument: A combination has no meaning; the text names the flags.
    """
    found = []
    for protocol in PROTOCOLS:
        if not getattr(options, f"allow_{protocol}"):
            continue
        address: str = getattr(options, f"{protocol}_address")
        port: int = getattr(options, f"{protocol}_port")
        if protocol == "metrics":
            found.append(Door(protocol, address or _beside(options.http_address), port))
        else:
            reuse = getattr(options, f"reuse_{protocol}_port")
            tls = _tls(options, protocol)
            unused = getattr(options, f"{protocol}_root_cert") and tls and tls[2] is None
            warnings = (_UNUSED_ROOTS.format(protocol),) if unused else ()
            found.append(Door(protocol, address, port, reuse, tls, warnings))
    clouds = options.doors
    address = _beside(options.http_address)
    if clouds.sagemaker:
        found.append(Door("sagemaker", address, clouds.sagemaker_port))
    if clouds.vertex_ai:
        found.append(Door("vertex_ai", address, clouds.vertex_ai_port))
    _check(found)
    return found


def _beside(address: str) -> str:
    # Metrics and clouds come over the network even where requests come through a file.
    return "0.0.0.0" if address.startswith(UNIX) else address  # noqa: S104


def _tls(options: Options, protocol: str) -> TlsFiles | None:
    def given(word: str) -> str:
        return str(getattr(options, f"{protocol}_{word}") or "")

    mutual = getattr(options, f"{protocol}_use_ssl_mutual")
    if not (mutual or getattr(options, f"{protocol}_use_ssl")):
        idle = [word for word in ("server_cert", "server_key", "root_cert") if given(word)]
        if idle:
            raise InvalidArgument(
                f"{_flag(protocol, idle[0])} is given, but the port would be open without TLS; "
                f"give {_flag(protocol, 'use_ssl')}=true too"
            )
        return None
    needed = ("server_cert", "server_key", *(("root_cert",) if mutual else ()))
    for word in needed:
        if not given(word):
            reason = _flag(protocol, "use_ssl_mutual" if mutual else "use_ssl")
            raise InvalidArgument(f"{reason} needs {_flag(protocol, word)}, a PEM file")
    roots = Path(given("root_cert")) if mutual else None
    return Path(given("server_cert")), Path(given("server_key")), roots


def _flag(protocol: str, word: str) -> str:
    return f"--{protocol}-{word.replace('_', '-')}"


def _check(found: list[Door]) -> None:
    taken: dict[object, Spoken] = {}
    for door in found:
        if door.address == UNIX:
            raise InvalidArgument(f"the {door.protocol} address is '{UNIX}'; a path must follow")
        if not 0 <= door.port <= 65535:
            raise InvalidArgument(
                f"the {door.protocol} port is {door.port}; it must be from 0 to 65535"
            )
        place = door.address if door.is_file else door.port
        if place and place in taken:
            raise InvalidArgument(
                f"the {taken[place]} port and the {door.protocol} port are both {place}; "
                "each protocol has a port of its own"
            )
        taken[place] = door.protocol
