# SPDX-License-Identifier: Apache-2.0
"""Load and unload models, several at a time, and keep the states true.

A model that fails takes nobody with it: its error becomes its reason. Events go to one observer,
for the log and the start-up screen. How one model is loaded is in `loading`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nerite.config import LoadedConfig
from nerite.errors import ConfigError, NeriteError
from nerite.models.loading import Adds, LiveModel, Loading
from nerite.models.options import LoadOptions
from nerite.models.repository import Found
from nerite.models.states import State, StateTable, reason_of

if TYPE_CHECKING:
    from nerite._core import Version
    from nerite.config import ModelConfig

_log = logging.getLogger(__name__)


class Publishes(Adds, Protocol):
    """The part of `nerite._core.Engine` that the lifecycle uses."""

    def publish(self, name: str, ready: Sequence[Version], unready: Sequence[int]) -> None: ...
    def forget(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """Something that happened to a model."""

    name: str
    state: State
    versions: tuple[int, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    """How long loading took."""
    config: ModelConfig | None = None


Observer = Callable[[ModelEvent], None]


class Lifecycle:
    """The models of one server."""

    def __init__(
        self,
        engine: Publishes,
        states: StateTable,
        options: LoadOptions,
        observer: Observer = lambda event: None,
    ) -> None:
        self._engine = engine
        self._states = states
        self._options = options
        self._observer = observer
        self._lock = threading.Lock()
        self._live: dict[str, LiveModel] = {}
        self._closing = False
        self._waiting: queue.SimpleQueue[Found] = queue.SimpleQueue()

    def load_all(self, found: Iterable[Found]) -> None:
        """Starts loading these models; `StateTable.wait_settled` waits for the end of it."""
        models = list(found)
        self._states.expect(model.name for model in models)
        for model in models:
            self._waiting.put(model)
        # Daemon threads, and not an executor, whose threads Python joins at exit: a model whose
        # load hangs must not keep a server alive that was told to end.
        for index in range(min(self._options.threads, len(models))):
            threading.Thread(target=self._loader, name=f"nerite-load-{index}", daemon=True).start()

    def load(self, found: Found) -> bool:
        """Loads a model and publishes it; whether it is ready. Never raises."""
        started = time.monotonic()
        try:
            for attempt in range(self._options.retries + 1):
                if self._attempt(found, started, last=attempt == self._options.retries):
                    return True
            return False
        finally:
            self._states.settle(found.name)

    def unload(self, name: str, timeout: float | None = None) -> bool:
        """Ends a model once what it accepted is answered; whether it ended in time."""
        with self._lock:
            live = self._live.pop(name, None)
        if live is None:
            return True
        numbers = [version.number for version in live.versions]
        self._tell(ModelEvent(name, State.UNLOADING, tuple(numbers)))
        self._engine.publish(name, [], numbers)
        deadline = None if timeout is None else time.monotonic() + timeout
        for version in live.versions:
            version.core.close()
        ended = all([version.stop(_left(deadline)) for version in live.versions])  # noqa: C419
        reason = "unloaded" if ended else "unloading did not end in time"
        self._tell(ModelEvent(name, State.UNAVAILABLE, tuple(numbers), reason))
        return ended

    def names(self) -> list[str]:
        """The models that serve."""
        with self._lock:
            return sorted(self._live)

    def model(self, name: str) -> LiveModel | None:
        """A model that serves, or None."""
        with self._lock:
            return self._live.get(name)

    def close(self, timeout: float | None = None) -> bool:
        """Unloads everything, models that are still loading included; whether all ended in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            self._closing = True
        # A list: one that did not end in time must not keep the others from being told to.
        return all([self.unload(name, _left(deadline)) for name in self.names()])  # noqa: C419

    def _loader(self) -> None:
        """Loads what waits until nothing does."""
        while not self._closing:
            try:
                found = self._waiting.get_nowait()
            except queue.Empty:
                return
            self.load(found)

    def _attempt(self, found: Found, started: float, *, last: bool) -> bool:
        loading = Loading(found, self._options)
        try:
            if found.problem:
                raise _Refused(found.problem)
            loaded = loading.read()
            self._tell(ModelEvent(found.name, State.LOADING, loaded.versions))
            live = loading.serve(self._engine, loaded)
        except BaseException as why:
            loading.close()
            if last:
                self._failed(found, loading.versions, why, time.monotonic() - started)
            return False
        return self._publish(live, loaded, time.monotonic() - started)

    def _publish(self, live: LiveModel, loaded: LoadedConfig, seconds: float) -> bool:
        with self._lock:
            closing = self._closing
            if not closing:
                self._live[live.name] = live
        if closing:
            for version in live.versions:
                version.stop()
            return False
        for version in live.versions:
            version.core.set_load_seconds(seconds)
        self._engine.publish(live.name, [version.core for version in live.versions], [])
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        _warn_of_ignored(live.config)
        event = ModelEvent(
            live.name, State.READY, loaded.versions, seconds=seconds, config=live.config
        )
        self._tell(event)
        return True

    def _failed(
        self, found: Found, versions: tuple[int, ...], why: BaseException, seconds: float
    ) -> None:
        if isinstance(why, ConfigError):
            for problem in why.problems:
                _log.error("model '%s': %s", found.name, problem)
        elif not isinstance(why, NeriteError | _Refused):
            _log.error("loading model '%s' failed", found.name, exc_info=why)
        if versions or _lacks_versions(why):
            self._engine.publish(found.name, [], versions)
        reason = str(why) if isinstance(why, _Refused) else _reason(why)
        self._tell(ModelEvent(found.name, State.UNAVAILABLE, versions, reason, seconds))

    def _tell(self, event: ModelEvent) -> None:
        self._states.set(event.name, event.versions or (None,), event.state, event.reason)
        self._observer(event)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class _Refused(Exception):
    """A model is refused before anything of it was read; the text is the whole reason."""


def _reason(why: BaseException) -> str:
    """The reason of a failed load; where it names the configuration file it also names the line."""
    reason = reason_of(why)
    if isinstance(why, ConfigError) and why.problems and why.problems[0].line:
        problem = why.problems[0]
        place = f"{problem.file}:{problem.line}:{problem.column}"
        return reason.replace(problem.file, place, 1)
    return reason


def _lacks_versions(why: BaseException) -> bool:
    """Whether a model is refused for having no version: clients are told that it has none.

    Of models whose configuration cannot be used they are told that they do not exist.
    """
    return isinstance(why, ConfigError) and any(p.key == "version_policy" for p in why.problems)


def _warn_of_ignored(config: ModelConfig) -> None:
    """Warns of settings that are understood and have no effect yet."""
    if config.model_warmup:
        _log.warning("model '%s': model_warmup has no effect yet", config.name)
    if config.response_cache:
        _log.warning("model '%s': response_cache has no effect yet", config.name)
