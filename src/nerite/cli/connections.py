# SPDX-License-Identifier: Apache-2.0
"""Where the client of the command line finds a server: over TCP, TLS, or a socket file."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from nerite import errors

DEFAULT_URL: Final = "http://localhost:8000"

Url = Annotated[
    str, typer.Option(help="Address of the server's HTTP port, or unix:PATH of its socket.")
]
CaFile = Annotated[
    str,
    typer.Option(
        help="PEM file of the authorities that vouch for an https:// server.", show_default=False
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Take any certificate of an https:// server.")
]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe that it is the server."""

    ca_file: str = ""
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """What a TLS connection is made with.

        Raises:
            InvalidArgument: The file of the authorities cannot be read, or holds none.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as why:  # as ssl.SSLError is
            reason = why.strerror or str(why)
            text = f"--ca-file: '{self.ca_file}' holds no certificates in PEM: {reason}"
            raise errors.InvalidArgument(text) from why
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """A server's place, and the connection that leads there, not opened yet."""

    shown: str
    base: str
    connection: http.client.HTTPConnection


def locate(url: str, trust: Trust, timeout: float | None) -> Address:
    """The server at `url`, which may leave out the scheme.

    Raises:
        InvalidArgument: It is no address, or no certificate is looked at there.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        address = Address(url, "", _SocketFile(path, timeout))
    else:
        address = _over_tcp(url, trust, timeout)
    if trust != Trust() and not isinstance(address.connection, http.client.HTTPSConnection):
        flag = "--ca-file" if trust.ca_file else "--insecure"
        raise errors.InvalidArgument(f"{flag} is for addresses with https://, not for '{url}'")
    return address


def _over_tcp(url: str, trust: Trust, timeout: float | None) -> Address:
    refusal = errors.InvalidArgument(
        f"'{url}' is not an address like {DEFAULT_URL} or unix:/run/nerite.sock"
    )
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refusal from None
    if parts.scheme not in ("http", "https") or not host:
        raise refusal
    made: http.client.HTTPConnection
    if parts.scheme == "https":
        made = http.client.HTTPSConnection(host, port, timeout=timeout, context=trust.context())
    else:
        made = http.client.HTTPConnection(host, port, timeout=timeout)
    return Address(f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"), made)


class _SocketFile(http.client.HTTPConnection):
    """A connection through a socket in the file system."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = Path(path).expanduser()

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
