"""HTTP servers that behave as a test says, and remember what they were asked."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from ssl import SSLContext
from typing import Any

#: Headers that say nothing about what was asked.
UNTOLD = {"host", "user-agent", "accept-encoding", "content-length", "transfer-encoding"}


@dataclass
class Call:
    """What a stub was asked."""

    stub: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def told(self) -> dict[str, str]:
        """The headers that a recording shows."""
        return {name: value for name, value in self.headers.items() if name not in UNTOLD}


Answer = Callable[["Handler", Call], None]


@dataclass
class Stubs:
    """Behaviour by name (`/a` is the stub `a`): as the vectors write it, or a function."""

    behaviours: Mapping[str, Mapping[str, Any] | Answer]
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    url: str = ""

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


class Handler(BaseHTTPRequestHandler):
    """One connection of a stub."""

    protocol_version = "HTTP/1.1"
    stubs: Stubs
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.stubs.connections += 1

    def answer(self) -> None:
        name = self.path.lstrip("/").split("?")[0].split("/")[0]
        headers = {key.lower(): value for key, value in self.headers.items()}
        call = Call(name, self.command, self.path, headers, self.read())
        self.stubs.calls.append(call)
        behaviours = self.stubs.behaviours
        behaviour = behaviours.get(name, behaviours.get("*", {"status": 404, "body": "no stub"}))
        if callable(behaviour):
            behaviour(self, call)
        else:
            self.behave(behaviour, call)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def read(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def behave(self, behaviour: Mapping[str, Any], call: Call) -> None:
        time.sleep(behaviour.get("delay_ms", 0) / 1000)
        if behaviour.get("close"):
            self.close_connection = True
            return
        body = behaviour.get("body", "").encode()
        if "body_base64" in behaviour:
            body = base64.b64decode(behaviour["body_base64"])
        if behaviour.get("echo"):
            body = call.body
        headers = {"Content-Type": "application/json", **behaviour.get("headers", {})}
        self.reply(behaviour.get("status", 200), headers, body, short=behaviour.get("short", False))

    def reply(
        self, status: int, headers: Mapping[str, str], body: bytes, *, short: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body) + (10 if short else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or short

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.stubs = handler.stubs
        self.open: set[socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)
        self.stubs.closed += 1

    def handle_error(self, *_: object) -> None:
        pass  # a client that went away is what some tests are about


@contextmanager
def stubs(
    behaviours: Mapping[str, Mapping[str, Any] | Answer], tls: SSLContext | None = None
) -> Iterator[Stubs]:
    """Stub services on a free port, gone at the end."""
    made = Stubs(behaviours)
    server = _Server(type("Bound", (Handler,), {"stubs": made}))
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        for connection in list(server.open):
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)
        thread.join()
        server.server_close()


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a port that is taken and refuses every connection."""
    with socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"
