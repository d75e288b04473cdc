# SPDX-License-Identifier: Apache-2.0
"""The command line's end of the daemon's socket; refusals come back as the errors they were."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from nerite import errors
from nerite.errors import ConfigError, ConfigProblem, NeriteError, Unavailable

NO_DAEMON = "no daemon runs; start one with: nerite up"
_BY_STATUS: dict[int, type[NeriteError]] = {
    400: errors.InvalidArgument,
    404: errors.NotFound,
    503: Unavailable,
}


class DaemonClient:
    """Asks the daemon of one folder; every method raises `Unavailable` if none runs there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def about(self) -> Any:
        """Process and version of the daemon."""
        return self._json("GET", "/v1/daemon")

    def apply(self, files: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
        """Applies files, each as shown name, absolute path and text; what became of each object."""
        entries = [{"file": file, "path": path, "text": text} for file, path, text in files]
        found: list[dict[str, str]] = self._json("POST", "/v1/apply", {"files": entries})["results"]
        return found

    def objects(
        self, kind: str, namespace: str | None = None, name: str | None = None
    ) -> list[dict[str, Any]]:
        """The objects of a kind."""
        found: list[dict[str, Any]] = self._json("GET", _objects(kind, namespace, name))["items"]
        return found

    def watch(
        self, kind: str, namespace: str | None = None, name: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Changes as they come: `type` and `object`."""
        for line in self._stream(_objects(kind, namespace, name, watch="true")):
            yield json.loads(line)

    def details(self, namespace: str, name: str, kind: str = "InferenceService") -> Any:
        """Processes and events of an object."""
        return self._json("GET", f"/v1/services/{quote(namespace)}/{quote(name)}?kind={kind}")

    def routes(self) -> Any:
        """The gateway's route table."""
        return self._json("GET", "/v1/routes")

    def delete(self, kind: str, namespace: str, name: str, wait: float = 60.0) -> None:
        """Deletes an object and waits until its processes are gone."""
        query = urlencode({"namespace": namespace, "wait": wait})
        self._json("DELETE", f"/v1/objects/{quote(kind)}/{quote(name)}?{query}")

    def logs(self, namespace: str, name: str, **choices: str) -> Iterator[bytes]:
        """Lines of a log: `component`, `container`, `tail`, `follow`."""
        query = urlencode({key: value for key, value in choices.items() if value})
        return self._stream(f"/v1/logs/{quote(namespace)}/{quote(name)}?{query}")

    def _json(self, method: str, target: str, body: object = None) -> Any:
        connection = _Connection(self._path)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, target, data)
            answer = connection.getresponse()
            text = answer.read()
            _raise_for(answer.status, text)
            return json.loads(text)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the daemon stopped while it was asked ({error})") from None
        finally:
            connection.close()

    def _stream(self, target: str) -> Iterator[bytes]:
        connection = _Connection(self._path)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            if answer.status != 200:
                _raise_for(answer.status, answer.read())
            yield from answer
        except (ConnectionError, http.client.HTTPException) as error:
            raise Unavailable(f"the daemon stopped while it was asked ({error})") from None
        finally:
            connection.close()


def _objects(kind: str, namespace: str | None, name: str | None, **more: str) -> str:
    given = {"namespace": namespace, "name": name, **more}
    query = urlencode({key: value for key, value in given.items() if value})
    return f"/v1/objects/{quote(kind)}?{query}"


def _raise_for(status: int, text: bytes) -> None:
    if status < 400:
        return
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {"message": text.decode(errors="replace"), "problems": []}
    if answer.get("problems"):
        raise ConfigError(*(ConfigProblem(**problem) for problem in answer["problems"]))
    raise _BY_STATUS.get(status, errors.InternalError)(answer["message"])


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("daemon")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.connect(str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise Unavailable(NO_DAEMON) from None
        except OSError as error:
            raise Unavailable(f"the daemon's socket '{self._path}': {error.strerror}") from None
