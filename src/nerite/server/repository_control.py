# SPDX-License-Identifier: Apache-2.0
"""The repository's calls, as both protocols ask them: index, load, unload (`spec` 1.12, 2.3, 3.5).

Here are the words: what a request may hold, in which mode it is answered, how failures are told.
What is done is in `models.control`. Triton says that a model "failed to poll" and keeps the cause
in its log; here the cause follows the same words.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from nerite import errors
from nerite.errors import (
    ConfigError,
    InvalidArgument,
    NeriteError,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from nerite.models.control import ModelControl, Reach, everything
from nerite.models.events import Failure
from nerite.models.leaving import Leaving
from nerite.models.overrides import Sent
from nerite.models.states import StateTable
from nerite.server.envelope import parse_object

_log = logging.getLogger(__name__)

_REFUSALS: Final = {
    "poll": "explicit model load / unload is not allowed if polling is enabled",
    # Triton speaks of polling here too, although nothing is polled (`spec` 10.1, 15).
    "none": "explicit model load / unload is not allowed if the model control mode is none",
}
_FILE: Final = "file:"
_BY_CODE: Final = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, NeriteError) and kind.__base__ is NeriteError
}

Names = Callable[[], list[str]]


class RepositoryControl:
    """Answers what clients ask of the repository."""

    def __init__(self, mode: str, control: ModelControl, states: StateTable, names: Names) -> None:
        """`names`: the models that could be loaded."""
        self._mode = mode
        self._control = control
        self._states = states
        self._names = names

    def index(self, payload: Mapping[str, Any]) -> list[dict[str, str]]:
        """The state of every model version; with `{"ready": true}` of those that are ready."""
        ready = payload.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidArgument(f"'ready' is {json.dumps(ready)}; true or false is expected")
        entries = [entry.to_dict() for entry in self._states.index(ready=ready)]
        if self._mode == "explicit" and not ready:
            known = {entry["name"] for entry in entries}
            entries += [{"name": name} for name in self._present() if name not in known]
            entries.sort(key=lambda entry: entry["name"])  # stable: versions stay in order
        return entries

    def load(self, payload: Mapping[str, Any]) -> Future[None]:
        """Loads a model; done when it serves.

        Raises, or lets the future raise, what is wrong with the request or the model.
        """
        name = _model_of(payload)
        sent, reach = _sent(payload), reach_of(payload)
        self.check_mode()
        return _then(
            self._control.load(name, sent, reach), lambda failure: _raise(name, failure), name
        )

    def unload(self, payload: Mapping[str, Any]) -> Future[None]:
        """Unloads a model; done when no new request reaches it."""
        name = _model_of(payload)
        dependents = _dependents(payload)
        self.check_mode()
        if not self._control.is_known(name):
            raise NotFound(f"failed to unload '{name}': there is no model of that name")

        def ended(_: list[Leaving]) -> None:
            return None

        unloaded = self._control.unload(name, dependents=dependents, reach=reach_of(payload))
        return _then(unloaded, ended, name)

    def _present(self) -> list[str]:
        try:
            return self._names()
        except (OSError, InvalidArgument) as why:
            _log.warning("a model repository cannot be read: %s", why)
            return []

    def check_mode(self) -> None:
        """Refuses where clients do not load and unload."""
        if self._mode in _REFUSALS:
            raise Unavailable(_REFUSALS[self._mode])


def _model_of(payload: Mapping[str, Any]) -> str:
    if payload.get("repository"):
        raise errors.Unsupported("'repository_name' specification is not supported")
    name = str(payload.get("model", ""))
    if not name.strip():
        raise InvalidArgument("Model name cannot be empty")
    return name


def reach_of(payload: Mapping[str, Any]) -> Reach:
    """The models that whoever asks may touch: the patterns of a key, or all."""
    patterns = payload.get("reach")
    if patterns is None:
        return everything
    escaped = [re.escape(p).replace(r"\*", ".*").replace(r"\?", ".") for p in patterns]
    allowed = re.compile("|".join(escaped), re.DOTALL)
    return lambda name: bool(patterns) and allowed.fullmatch(name) is not None


def _parameters(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of an HTTP request's body, or those of a gRPC message."""
    if "parameters" in payload:
        parameters: Mapping[str, Any] = payload["parameters"]
        return parameters
    body = str(payload.get("body", ""))
    found = parse_object(body).get("parameters", {}) if body.strip() else {}
    if not isinstance(found, dict):
        raise InvalidArgument("attempt to get members for non-object")
    return found


def _sent(payload: Mapping[str, Any]) -> Sent | None:
    """What came along with a request to load."""
    read = _grpc_value if payload.get("transport") == "grpc" else _http_value
    config: str | None = None
    files: dict[str, bytes | memoryview] = {}
    for key, value in _parameters(payload).items():
        content = read(key, value, payload)
        if key == "config":
            config = str(content)
        else:
            files[key.removeprefix(_FILE)] = content
    return Sent(config, files) if files or config is not None else None


def _http_value(key: str, value: Any, _: Mapping[str, Any]) -> Any:
    if key != "config" and not key.startswith(_FILE):
        raise InvalidArgument(
            f"unexpected error on creating Triton parameter: '{key}' is not known; "
            "'config' and 'file:VERSION/NAME' are"
        )
    if not isinstance(value, str):
        raise InvalidArgument("attempt to access JSON non-string as string")
    if key == "config":
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as why:
        raise InvalidArgument(f"load parameter '{key}' is not base64: {why}") from None


def _grpc_value(key: str, value: Any, payload: Mapping[str, Any]) -> Any:
    if key != "config" and not key.startswith(_FILE):
        raise InvalidArgument(f"unrecognized load parameter '{key}'.")
    kind, given = next(iter(value.items())) if value else ("", "")
    expected = "string" if key == "config" else "bytes"
    if kind != expected:
        raise InvalidArgument(
            f"invalid value type for load parameter '{key}', expected {expected}_param."
        )
    if kind == "string":
        return given
    start, length = (int(number) for number in given)
    return payload["tail"][start : start + length]


def _dependents(payload: Mapping[str, Any]) -> bool:
    value = _parameters(payload).get("unload_dependents", False)
    if payload.get("transport") == "grpc" and isinstance(value, dict):
        value = value.get("bool")
    if not isinstance(value, bool):
        raise InvalidArgument(
            "invalid value type for 'unload_dependents' parameter, expected bool_param."
        )
    return value


def _raise(name: str, failure: Failure | None) -> None:
    """Tells a failed load in Triton's words."""
    if failure is None:
        return
    reason = failure.reason
    if failure.versions:
        each = (f"version {v} is at UNAVAILABLE state: {reason};" for v in failure.versions)
        raise InvalidArgument(f"load failed for model '{name}': {''.join(each)}\n")
    cause = failure.cause
    if isinstance(cause, ConfigError) and any(p.key == "version_policy" for p in cause.problems):
        raise InvalidArgument(f"load failed for model '{name}': {cause}\n")
    raise _not_polled(name, _code_of(cause), reason)


def _code_of(cause: BaseException) -> str:
    if isinstance(cause, ConfigError) and cause.problems:
        return cause.problems[0].code
    return cause.code if isinstance(cause, NeriteError) else "INTERNAL"


def _not_polled(name: str, code: str, reason: str) -> NeriteError:
    text = f"failed to load '{name}', failed to poll from model repository: {reason}"
    return _BY_CODE[code](text)


def _then(done: Future[Any], finish: Callable[[Any], None], name: str) -> Future[None]:
    """A future that is done once another one is, and `finish` took its result."""
    after: Future[None] = Future()

    def end(ended: Future[Any]) -> None:
        try:
            if ended.cancelled():
                raise Unavailable(f"model '{name}' was not touched: the server is stopping")
            finish(_result(ended, name))
        except BaseException as why:
            after.set_exception(why)
        else:
            after.set_result(None)

    done.add_done_callback(end)
    return after


def _result(ended: Future[Any], name: str) -> Any:
    try:
        return ended.result()
    except PermissionDenied:
        raise
    except NeriteError as why:
        raise _not_polled(name, why.code, str(why)) from why
