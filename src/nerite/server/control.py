# SPDX-License-Identifier: Apache-2.0
"""Answer the calls that the data plane hands to Python: what touches models, not requests.

One thread takes them one after the other. A verb is a function from a JSON object to a JSON value;
a later verb is a line in `verbs`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nerite.errors import InvalidArgument, Unavailable, Unsupported
from nerite.models.states import StateTable
from nerite.server.envelope import parse_object

_log = logging.getLogger(__name__)

Verb = Callable[[Mapping[str, Any]], Any]


class Call(Protocol):
    """`nerite._core.ControlCall`."""

    @property
    def verb(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    def reply(self, body: bytes) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class Calls(Protocol):
    """The part of `nerite._core.Engine` that the loop uses."""

    def next_control_call(self) -> Call | None: ...


def verbs(states: StateTable) -> dict[str, Verb]:
    """What can be asked for."""
    return {
        "repository_index": lambda payload: repository_index(states, payload),
        "repository_load": _not_explicit,
        "repository_unload": _not_explicit,
    }


def repository_index(states: StateTable, payload: Mapping[str, Any]) -> list[dict[str, str]]:
    """The state of every model version; with `{"ready": true}` of those that are ready."""
    ready = payload.get("ready", False)
    if not isinstance(ready, bool):
        raise InvalidArgument(f"'ready' is {json.dumps(ready)}; true or false is expected")
    return [entry.to_dict() for entry in states.index(ready=ready)]


def _not_explicit(_payload: Mapping[str, Any]) -> Any:
    # Triton speaks of polling here, also when nothing is polled (`spec` 10.1, 15).
    raise Unavailable(
        "explicit model load / unload is not allowed if the model control mode is none"
    )


def serve_calls(engine: Calls, answers: Mapping[str, Verb]) -> threading.Thread:
    """Starts the thread that answers calls until the engine stops."""
    thread = threading.Thread(
        target=_loop, args=(engine, answers), name="nerite-control", daemon=True
    )
    thread.start()
    return thread


def _loop(engine: Calls, answers: Mapping[str, Verb]) -> None:
    while (call := engine.next_control_call()) is not None:
        if call.verb == "warning":
            _log.warning("%s", call.payload.decode(errors="replace"))
            continue
        try:
            body = json.dumps(_answer(call, answers), separators=(",", ":")).encode()
        except Exception as why:
            _log.debug("'%s' failed: %s", call.verb, why)
            call.fail(why)
        else:
            call.reply(body)


def _answer(call: Call, answers: Mapping[str, Verb]) -> Any:
    verb = answers.get(call.verb)
    if verb is None:
        raise Unsupported(f"'{call.verb}' is not offered by this version of Nerite")
    return verb(_object(call.payload))


def _object(payload: bytes) -> Mapping[str, Any]:
    return parse_object(payload) if payload.strip() else {}
