"""A reverse proxy that takes its routes from a `RouteTable`, in the gateway's place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        route = self.server.route(self.headers["Host"].partition(":")[0], self.path)
        path = self.path.removeprefix(route["path_prefix"]) if route["path_prefix"] else self.path
        port = self.server.choose(route)
        try:
            with urlopen(Request(f"http://127.0.0.1:{port}{path}", body), timeout=30) as answer:
                status, text = answer.status, answer.read()
        except HTTPError as error:
            status, text = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    table: Any

    def __init__(self, table: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.table = table
        self._owed: dict[int, float] = {}

    def route(self, host: str, path: str) -> Any:
        for route in self.table["routes"]:
            prefix = route["path_prefix"]
            fits = host in route["hosts"] or (prefix and path.startswith(f"{prefix}/"))
            if fits and (not route["verb"] or path.endswith(f":{route['verb']}")):
                return route
        raise AssertionError(f"no route for {host}{path}: {self.table}")

    def choose(self, route: Any) -> int:
        """Smooth weighted round robin: exact shares after every round."""
        total = sum(backend["weight"] for backend in route["backends"])
        for backend in route["backends"]:
            port = backend["port"]
            self._owed[port] = self._owed.get(port, 0) + backend["weight"] / total
        chosen = max(route["backends"], key=lambda backend: self._owed[backend["port"]])["port"]
        self._owed[chosen] -= 1
        return int(chosen)


@contextmanager
def proxy(table: Any) -> Iterator[int]:
    """The proxy's port."""
    server = _Server(table)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
