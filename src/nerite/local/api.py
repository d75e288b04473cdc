# SPDX-License-Identifier: Apache-2.0
"""The daemon's end of the socket: HTTP with JSON, for this user only.

    GET    /v1/daemon                                   who it is
    POST   /v1/apply                                    {"files": [{"file", "path", "text"}]}
    GET    /v1/objects/KIND?namespace=&name=&watch=     objects, or one line for every change
    DELETE /v1/objects/KIND/NAME?namespace=&wait=
    GET    /v1/services/NAMESPACE/NAME?kind=            processes and events
    GET    /v1/routes                                   what a gateway would be told
    GET    /v1/logs/NAMESPACE/NAME?component=&container=&tail=&follow=

Errors are `{"message", "problems"}` with the status a cluster would answer. What is done is the
daemon's business; this module only speaks.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from nerite.errors import ConfigError, InvalidArgument, NeriteError, NotFound, Unavailable
from nerite.kserve.documents import Document, Object, read_documents
from nerite.kserve.refusals import Refused
from nerite.local.catalog import PLURALS, not_found
from nerite.local.daemon import Daemon

_CREDENTIALS = struct.Struct("3i")  # process, user, group
_log = logging.getLogger(__name__)
_LARGEST_BODY = 32 * 2**20
_STATUSES = ((NotFound, 404), (InvalidArgument, 400), (Unavailable, 503))


class ApiServer:
    """Answers on a socket in the background."""

    def __init__(self, daemon: Daemon, path: Path) -> None:
        self._path = path
        # The daemon holds the lock of this folder, so a socket that is there is a dead one's.
        path.unlink(missing_ok=True)
        self._server = _Server(str(path), _Handler)
        path.chmod(0o600)
        self._server.daemon = daemon
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="nerite-api", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Takes no more requests and removes the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    daemon: Daemon

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Only this user and root are answered, whatever the folder's permissions are."""
        credentials = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(credentials)
        return user in (0, os.getuid())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def log_message(self, *_: Any) -> None:
        """Requests of one's own command line are not logged."""

    def address_string(self) -> str:
        return "local"

    def _answer(self, action: Any) -> None:
        parts = urlsplit(self.path)
        self.words = [unquote(word) for word in parts.path.strip("/").split("/")]
        self.query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            if self.words[0] != "v1":
                raise NotFound(f"there is no {self.path} here")
            action()
        except Refused as refused:
            self._refuse(refused.status, refused)
        except NeriteError as error:
            status = next((s for kind, s in _STATUSES if isinstance(error, kind)), 500)
            self._refuse(status, error)
        except (ValueError, KeyError, TypeError) as error:
            _log.exception("%s %s", self.command, self.path)
            self._refuse(400, InvalidArgument(f"the request cannot be read: {error!r}"))

    def _refuse(self, status: int, error: NeriteError) -> None:
        problems = error.problems if isinstance(error, ConfigError) else ()
        value = {"message": error.message, "problems": [asdict(problem) for problem in problems]}
        self._send(value, status)

    def _send(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # Verbs.

    def _get(self) -> None:
        daemon = self.server.daemon
        match self.words[1:]:
            case ["daemon"]:
                self._send({"pid": os.getpid(), "version": version("nerite")})
            case ["objects", kind]:
                self._objects(_known(kind))
            case ["services", namespace, name]:
                kind = _known(self.query.get("kind", "InferenceService"))
                if not daemon.objects(kind, namespace, name):
                    raise NotFound(not_found(kind, name))
                self._send(daemon.details(namespace, name, kind))
            case ["routes"]:
                self._send(json.loads(daemon.routes.to_json()))
            case ["logs", namespace, name]:
                self._logs(namespace, name)
            case _:
                raise NotFound(f"there is no {self.path} here")

    def _post(self) -> None:
        if self.words[1:] != ["apply"]:
            raise NotFound(f"there is no {self.path} here")
        documents: list[Document] = []
        places: dict[str, str] = {}
        for entry in self._body()["files"]:
            documents += read_documents(entry["text"], entry["file"])
            places[entry["file"]] = entry["path"]
        changes = self.server.daemon.apply(documents, places)
        results = [{**asdict(change), "shown": change.shown} for change in changes]
        self._send({"results": results})

    def _delete(self) -> None:
        match self.words[1:]:
            case ["objects", kind, name]:
                key = (_known(kind), self.query.get("namespace", ""), name)
                self.server.daemon.delete(key, float(self.query.get("wait", 60)))
                self._send({})
            case _:
                raise NotFound(f"there is no {self.path} here")

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length", 0))
        if length > _LARGEST_BODY:
            raise InvalidArgument(f"more than {_LARGEST_BODY} bytes of files at once")
        return json.loads(self.rfile.read(length))

    def _objects(self, kind: str) -> None:
        namespace, name = self.query.get("namespace"), self.query.get("name")
        daemon = self.server.daemon
        found = daemon.objects(kind, namespace, name)
        if name and not found:
            raise NotFound(not_found(kind, name))
        if not self.query.get("watch"):
            self._send({"items": found})
            return
        self._stream(
            json.dumps(change).encode() + b"\n"
            for change in _changes(daemon, kind, namespace, name, self._is_wanted)
        )

    def _logs(self, namespace: str, name: str) -> None:
        query = self.query
        component, container = query.get("component", ""), query.get("container", "")
        log = self.server.daemon.log_of(namespace, name, component, container)
        tail = int(query["tail"]) if "tail" in query else None
        # Followed to its end: what is said while the daemon stops is often what is wanted.
        self._stream(
            log.follow(tail, self._listens) if query.get("follow") else iter(log.lines(tail))
        )

    def _stream(self, parts: Iterator[bytes]) -> None:
        """Sends parts as they come; the connection ends with the last."""
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with suppress(ConnectionError):
            for part in parts:
                self.wfile.write(part)

    def _is_wanted(self) -> bool:
        """Whether there is somebody to tell, and something to come."""
        return not self.server.daemon.is_stopping and self._listens()

    def _listens(self) -> bool:
        """Whether the client is still there; one that says something now has left."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))


def _known(kind: str) -> str:
    if kind not in PLURALS:
        raise NotFound(f'the server doesn\'t have a resource type "{kind}"')
    return kind


def _changes(
    daemon: Daemon, kind: str, namespace: str | None, name: str | None, is_wanted: Any
) -> Iterator[Object]:
    """Every object once, then again whenever it is different; at last those that are deleted."""
    seen: dict[tuple[str, str], Object] = {}
    for _ in daemon.changes():
        if not is_wanted():
            return
        found = {_identity(value): value for value in daemon.objects(kind, namespace, name)}
        for key, value in found.items():
            if seen.get(key) != value:
                yield {"type": "MODIFIED" if key in seen else "ADDED", "object": value}
        for key in seen.keys() - found.keys():
            yield {"type": "DELETED", "object": seen[key]}
        seen = found


def _identity(value: Object) -> tuple[str, str]:
    return str(value["metadata"].get("namespace", "")), str(value["metadata"]["name"])
