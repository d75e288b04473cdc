# SPDX-License-Identifier: Apache-2.0
"""The state of every model version, as the repository index tells it.

A table and nothing else: the lifecycle writes, the control loop and the readiness read, each from
its own thread. A model whose configuration cannot be used has an entry without version, with its
reason, where Triton shows a bare name or nothing (`spec` 10.1, 4 and 5).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nerite.errors import ConfigError, NeriteError


class State(StrEnum):
    """Triton's states of a model version."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the repository index."""

    name: str
    version: int | None
    """None where the configuration could not be read, so that no version is known."""
    state: State
    reason: str = ""
    namespace: str = ""
    """The repository that the model comes from, where models have namespaces."""

    def to_dict(self) -> dict[str, str]:
        """The entry as the index endpoint answers it."""
        told = {
            "name": self.name,
            "version": "" if self.version is None else str(self.version),
            "state": self.state.value,
            "reason": self.reason,
        }
        return {key: value for key, value in told.items() if value}


#: Code -> the words before the message in reasons and logs.
CODE_TEXTS: Final = {
    "UNKNOWN": "Unknown",
    "INTERNAL": "Internal",
    "NOT_FOUND": "Not found",
    "INVALID_ARG": "Invalid argument",
    "UNAVAILABLE": "Unavailable",
    "UNSUPPORTED": "Unsupported",
    "ALREADY_EXISTS": "Already exists",
    "CANCELLED": "Cancelled",
}


def reason_of(error: BaseException) -> str:
    """An error as a reason: `Invalid argument: instance group ...`."""
    code = error.code if isinstance(error, NeriteError) else "INTERNAL"
    if isinstance(error, ConfigError) and error.problems:
        code = error.problems[0].code
    text = str(error) if isinstance(error, NeriteError) else f"{type(error).__name__}: {error}"
    return f"{CODE_TEXTS[code]}: {text}"


def key_of(name: str, namespace: str = "") -> str:
    """What tells a model from all others: its name, and its namespace where it has one."""
    return f"{name}\0{namespace}" if namespace else name


class StateTable:
    """The states of all models by their keys; safe to use from any thread."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called after every change, on the thread that made it."""
        self._changed = threading.Condition()
        self._entries: dict[str, dict[int | None, Entry]] = {}
        self._pending: set[str] = set()
        self._on_change = on_change

    def expect(self, names: Iterable[str]) -> None:
        """Says that these models are going to be loaded; the server is not ready before."""
        with self._changed:
            self._pending.update(names)
        self._on_change()

    def settle(self, name: str) -> None:
        """Says that the load of a model has ended, well or not."""
        with self._changed:
            self._pending.discard(name)
            self._changed.notify_all()
        self._on_change()

    def set(
        self, name: str, versions: Iterable[int | None], state: State, reason: str = ""
    ) -> None:
        """Gives these versions a state; entries of other versions of the model stay."""
        with self._changed:
            entries = self._entries.setdefault(name, {})
            entries.pop(None, None)
            model, _, namespace = name.partition("\0")
            for version in versions:
                entries[version] = Entry(model, version, state, reason, namespace)
            self._changed.notify_all()
        self._on_change()

    def forget(self, name: str) -> None:
        """Takes every entry of a model out."""
        with self._changed:
            self._entries.pop(name, None)
            self._changed.notify_all()
        self._on_change()

    def versions(self, name: str) -> list[int]:
        """The versions that are known of a model, whatever their state, ascending."""
        with self._changed:
            entries = self._entries.get(name, {})
            return sorted(version for version in entries if version is not None)

    def index(self, *, ready: bool = False) -> list[Entry]:
        """All entries by name and version, or only those that are ready."""
        with self._changed:
            entries = [entry for model in self._entries.values() for entry in model.values()]
        entries.sort(key=lambda e: (e.name, e.namespace, -1 if e.version is None else e.version))
        return [entry for entry in entries if not ready or entry.state is State.READY]

    def settled(self) -> bool:
        """Whether every model that was expected has ended loading."""
        with self._changed:
            return not self._pending

    def wait_settled(self, timeout: float | None = None) -> bool:
        """Waits until every model that was expected has ended loading; whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout)

    def all_ready(self) -> bool:
        """Whether no load of the start is going on, and every model serves or was unloaded.

        A model serves if a version does: loads are all or nothing, so that version is what the last
        load that went well left, and a reload that goes on or has failed changes nothing about it.
        """
        with self._changed:
            return not self._pending and all(map(_is_well, self._entries.values()))


#: The reason of a version that was unloaded because somebody wanted it.
UNLOADED: Final = "unloaded"


def _is_well(entries: Mapping[int | None, Entry]) -> bool:
    return any(entry.state is State.READY for entry in entries.values()) or all(
        entry.state is State.UNAVAILABLE and entry.reason == UNLOADED for entry in entries.values()
    )
