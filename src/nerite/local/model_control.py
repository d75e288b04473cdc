# SPDX-License-Identifier: Apache-2.0
"""How a running Nerite of this machine is told which models and graphs to hold.

Plain HTTP over loopback, with the repository extension's paths. Each call waits until it is done,
so none belongs into the supervisor's thread.
"""

from __future__ import annotations

import http.client
import json
import re
from typing import Protocol
from urllib.parse import quote

from nerite.errors import InvalidArgument, NeriteError, Unavailable

#: A model may be compiled while it is loaded; a process that dies breaks the connection at once.
_LOAD_SECS = 3600.0
_UNLOAD_SECS = 60.0
_STATE = re.compile(r"load failed for model '(.*?)': version (\d+) is at \w+ state: (.*)", re.S)


class LoadFailed(NeriteError):
    """The model could not be loaded; the text is the server's reason."""


class ModelControl(Protocol):
    """Tells servers, given as `host:port`, to load and unload models of their repository."""

    def load(self, address: str, name: str) -> None:
        """Returns when the model answers; raises a NeriteError with the reason if it does not."""

    def unload(self, address: str, name: str) -> None:
        """Returns when the model takes no more requests."""

    def put_graph(self, address: str, namespace: str, name: str, definition: str) -> None:
        """From now on the process answers for the graph; raises if it does not take it."""

    def delete_graph(self, address: str, namespace: str, name: str) -> None:
        """The process answers for it no more."""


class HttpModelControl:
    """See `ModelControl`."""

    def load(self, address: str, name: str) -> None:
        """See `ModelControl`."""
        status, text = _ask("POST", address, f"/v2/repository/models/{quote(name)}/load")
        if status != 200:
            raise LoadFailed(reason_of(text))

    def unload(self, address: str, name: str) -> None:
        """See `ModelControl`; one that is not there is as good as unloaded."""
        _ask("POST", address, f"/v2/repository/models/{quote(name)}/unload", _UNLOAD_SECS)

    def put_graph(self, address: str, namespace: str, name: str, definition: str) -> None:
        """See `ModelControl`."""
        path = f"/graphs/{quote(namespace)}/{quote(name)}"
        status, text = _ask("PUT", address, path, _UNLOAD_SECS, definition)
        if status not in (200, 201):
            raise InvalidArgument(text)

    def delete_graph(self, address: str, namespace: str, name: str) -> None:
        """See `ModelControl`; one that is not there is as good as deleted."""
        _ask("DELETE", address, f"/graphs/{quote(namespace)}/{quote(name)}", _UNLOAD_SECS)


def reason_of(text: str) -> str:
    """The error of a load as the server's log has it, which is how a process's is told."""
    found = _STATE.match(text)
    if found is None:
        return text.strip()
    name, version, why = found.groups()
    return f"failed to load '{name}' version {version}: {why.strip().removesuffix(';')}"


def _ask(
    method: str, address: str, path: str, timeout: float = _LOAD_SECS, body: str = "{}"
) -> tuple[int, str]:
    """Status, and the error's text if it is one."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the process at {address} did not answer: {error!r}") from None
    finally:
        connection.close()
    return answer.status, text if answer.status < 300 else _error_in(text)


def _error_in(body: str) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body
