# SPDX-License-Identifier: Apache-2.0
"""Answer the calls that the data plane hands to Python: what touches models, not requests.

One thread takes them one after the other. A verb is a function from a JSON object to a JSON value,
or to a future of one where it takes long: loading a model keeps nobody else waiting.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from nerite.errors import Unsupported
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
            value = _answer(call, answers)
        except Exception as why:
            _fail(call, why)
        else:
            _reply_with(call, value)


def _reply_with(call: Call, value: Any) -> None:
    """Answers now, or when a future that came instead of a value is done."""
    if isinstance(value, Future):
        value.add_done_callback(lambda done: _reply_done(call, done))
    else:
        call.reply(json.dumps(value, separators=(",", ":")).encode())


def _reply_done(call: Call, done: Future[Any]) -> None:
    why = done.exception()
    if why is not None:
        _fail(call, why)
    else:
        _reply_with(call, done.result())


def _fail(call: Call, why: BaseException) -> None:
    _log.debug("'%s' failed: %s", call.verb, why)
    call.fail(why)


def _answer(call: Call, answers: Mapping[str, Verb]) -> Any:
    verb = answers.get(call.verb)
    if verb is None:
        raise Unsupported(f"'{call.verb}' is not offered by this version of Nerite")
    return verb(_object(call.payload))


def _object(payload: bytes) -> Mapping[str, Any]:
    """The JSON object of a payload; what follows it behind a zero byte is its `tail`."""
    if not payload.strip():
        return {}
    end = payload.find(b"\0")
    if end < 0:
        return parse_object(payload)
    return {**parse_object(payload[:end]), "tail": memoryview(payload)[end + 1 :]}
