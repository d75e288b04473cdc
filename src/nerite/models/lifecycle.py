# SPDX-License-Identifier: Apache-2.0
"""Load and unload models, several at a time, and keep the states true.

A model that fails takes nobody with it: its error becomes its reason. One that serves goes on until
its successor does: a load builds beside it, the table is swapped in one step, and the old one
leaves when its last request has. Events go to one observer, for the log and the start-up screen.
How one model is loaded is in `loading`; in which order things happen, `control` decides.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from nerite.config import LoadedConfig
from nerite.errors import ConfigError, NeriteError, Unavailable
from nerite.models.events import (
    Failure,
    ModelEvent,
    Observer,
    Refused,
    lacks_versions,
    reason_of_load,
)
from nerite.models.leaving import Leaving
from nerite.models.live import Composed, LiveModel
from nerite.models.loading import Adds, Loading
from nerite.models.options import LoadOptions
from nerite.models.repository import Found
from nerite.models.states import UNLOADED, State, StateTable, reason_of

if TYPE_CHECKING:
    from nerite._core import Version
    from nerite.config import ModelConfig

_log = logging.getLogger(__name__)


#: Holds an ensemble against the models in it, or raises ConfigError.
Compose = Callable[[Found, "ModelConfig"], Composed]


class Publishes(Adds, Protocol):
    """The part of `nerite._core.Engine` that the lifecycle uses."""

    def publish(self, name: str, ready: Sequence[Version], unready: Sequence[int]) -> None: ...
    def forget(self, name: str) -> None: ...


#: How long a load waits for what served before to leave. It need not wait; but then models that are
#: reloaded again and again cannot pile up, and whoever looks at the index sees the usual end of it.
PATIENCE_SECS: Final = 2.0
#: While a model is reloaded again and again, memory is given back no more often than this.
RELEASE_SECS: Final = 1.0


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
        self._leaving: set[Leaving] = set()
        self._released = 0.0
        self._closing = False

    def load(
        self, found: Found, compose: Compose | None = None, *, again: bool = False
    ) -> Failure | None:
        """Loads a model and puts it in the place of what served under its name, if anything did.

        What is loaded already and has not changed is left as it is, unless it is wanted `again`.
        `compose` holds an ensemble against its models. Never raises; not to be called twice at a
        time for one model.
        """
        if not again and self._is_loaded(found):
            found.release()
            return None
        started = time.monotonic()
        if self.model(found.key) is None:
            self._states.set(found.key, (None,), State.LOADING)  # of versions not known yet
        failure: Failure | None = None
        for _ in range(self._options.retries + 1):
            failure = self._attempt(found, started, compose)
            if failure is None:
                return None
        if not again:
            found.release()
        assert failure is not None
        self._failed(found, failure, time.monotonic() - started)
        return failure

    def unload(self, key: str, timeout: float | None = None) -> bool:
        """Ends a model once what it accepted is answered; whether it ended in time."""
        leaving = self.begin_unload(key)
        return leaving is None or leaving.wait(timeout)

    def begin_unload(self, key: str, reason: str = UNLOADED) -> Leaving | None:
        """Takes a model out of the table; it ends in the background. None if it does not serve."""
        with self._lock:
            live = self._live.pop(key, None)
            if live is None:
                return None
            self._engine.publish(key, [], self._states.versions(key))
        self._tell(_event(live, State.UNLOADING))
        return self._leave(live, reason)

    def forget(self, key: str) -> None:
        """Takes a model that does not serve out of the index too."""
        self._engine.forget(key)
        self._states.forget(key)

    def serving(self) -> list[LiveModel]:
        """The models that serve."""
        with self._lock:
            return [self._live[key] for key in sorted(self._live)]

    def model(self, key: str) -> LiveModel | None:
        """A model that serves, or None; its key is its name, except where it has a namespace."""
        with self._lock:
            return self._live.get(key)

    def named(self, name: str) -> list[LiveModel]:
        """The models of a name that serve: one, or one in each namespace that has it."""
        with self._lock:
            return [live for live in self._live.values() if live.name == name]

    def close(self, timeout: float | None = None) -> bool:
        """Unloads everything, models that are still loading included; whether all ended in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            self._closing = True
        for live in self.serving():
            self.begin_unload(live.key)
        with self._lock:
            leaving = list(self._leaving)
        # A list: one that did not end in time must not keep the others from being waited for.
        return all([each.wait(_left(deadline)) for each in leaving])  # noqa: C419

    def _is_loaded(self, found: Found) -> bool:
        live = self.model(found.key)
        if live is None or not found.mark or found.problem:
            return False
        before = live.found
        same = (before.mark, before.override_json) == (found.mark, found.override_json)
        if same:
            # A reload that failed meanwhile is mended: what serves is what is there.
            self._states.set(found.key, live.numbers, State.READY)
        return same

    def _attempt(self, found: Found, started: float, compose: Compose | None) -> Failure | None:
        loading = Loading(found, self._options)
        try:
            if found.problem:
                raise Refused(found.problem)
            loaded = loading.read()
            composed = Composed(loaded.config)
            if loaded.config.ensemble_steps and compose is not None:
                try:
                    composed = compose(found, loaded.config)
                except ConfigError:
                    loading.versions = ()  # clients are told of none: it has never been anything
                    raise
            self._begin(found, loaded.versions)
            live = loading.serve(self._engine, loaded, composed)
        except BaseException as why:
            loading.close()
            return Failure(reason_of_load(why), why, loading.versions)
        return self._publish(live, loaded, time.monotonic() - started)

    def _begin(self, found: Found, versions: tuple[int, ...]) -> None:
        """Says that versions are being loaded; those that serve go on and are not spoken of."""
        live = self.model(found.key)
        fresh = tuple(v for v in versions if live is None or v not in live.numbers)
        if fresh:
            self._tell(ModelEvent(found.name, State.LOADING, fresh, namespace=found.namespace))

    def _publish(self, live: LiveModel, loaded: LoadedConfig, seconds: float) -> Failure | None:
        for version in live.versions:
            version.core.set_load_seconds(seconds)
        with self._lock:
            closing = self._closing
            before = self._live.get(live.key)
            if before is not None and before.found is live.found:
                # What it was loaded from goes on being used.
                before.found = replace(before.found, release=lambda: None)
            if not closing:
                self._live[live.key] = live
                ready = [version.core for version in live.versions]
                known = self._states.versions(live.key)
                self._engine.publish(
                    live.key, ready, [number for number in known if number not in live.numbers]
                )
        if closing:
            live.stop()
            why = Unavailable(f"model '{live.name}' is not loaded: the server is stopping")
            return Failure(reason_of(why), why, live.numbers)
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        _warn_of_ignored(live.config, self._options)
        event = _event(live, State.READY)
        self._tell(replace(event, seconds=seconds, config=live.config))
        if before is not None:
            self._succeed(before, live)
        return None

    def _succeed(self, before: LiveModel, live: LiveModel) -> None:
        """Lets what served before leave, and goes on once it has, or when that takes longer."""
        dropped = tuple(number for number in before.numbers if number not in live.numbers)
        if dropped:
            self._tell(replace(_event(before, State.UNLOADING), versions=dropped))
        self._leave(before, UNLOADED).wait(PATIENCE_SECS)

    def _leave(self, live: LiveModel, reason: str) -> Leaving:
        """Ends a model that is in the table no more, on a thread of its own."""
        # And not the model: what follows outlives it.
        event = replace(_event(live, State.UNAVAILABLE), reason=reason)
        leaving = Leaving(
            live,
            lambda: self._may_release(event.key),
            lambda: self._left_behind(leaving, event),
        )
        with self._lock:
            self._leaving.add(leaving)
        leaving.start()
        return leaving

    def _may_release(self, key: str) -> bool:
        """Whether to give memory back now: that stops all Python for a moment, so of many models
        that leave together the last one does it, and a model that is reloaded only now and then."""
        with self._lock:
            now = time.monotonic()
            is_last = len(self._leaving) == 1 and not self._closing
            if not is_last or (key in self._live and now - self._released < RELEASE_SECS):
                return False
            self._released = now
            return True

    def _left_behind(self, leaving: Leaving, event: ModelEvent) -> None:
        with self._lock:
            self._leaving.discard(leaving)
            successor = self._live.get(event.key)
        serving = () if successor is None else successor.numbers
        known = self._states.versions(event.key)
        gone = tuple(n for n in event.versions if n not in serving and n in known)
        if gone:
            self._tell(replace(event, versions=gone))

    def _failed(self, found: Found, failure: Failure, seconds: float) -> None:
        why, versions = failure.cause, failure.versions
        if isinstance(why, ConfigError):
            for problem in why.problems:
                _log.error("model '%s': %s", found.name, problem)
        elif not isinstance(why, NeriteError | Refused):
            _log.error("loading model '%s' failed", found.name, exc_info=why)
        key, name, reason = found.key, found.name, failure.reason
        live = self.model(key)
        if live is not None:
            # It goes on serving, and says beside READY why it is not what lies in the repository.
            self._states.set(key, live.numbers, State.READY, f"reload failed: {reason}")
            versions = tuple(number for number in versions if number not in live.numbers)
            if not versions:
                _log.error("failed to reload '%s', which goes on as it was: %s", name, reason)
                return
        elif versions or lacks_versions(why):
            self._engine.publish(key, [], versions)
        event = ModelEvent(name, State.UNAVAILABLE, versions, reason, seconds)
        self._tell(replace(event, namespace=found.namespace))

    def _tell(self, event: ModelEvent) -> None:
        self._states.set(event.key, event.versions or (None,), event.state, event.reason)
        self._observer(event)


def _event(live: LiveModel, state: State) -> ModelEvent:
    """That all versions of a model have a state now."""
    return ModelEvent(live.name, state, live.numbers, namespace=live.found.namespace)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _warn_of_ignored(config: ModelConfig, options: LoadOptions) -> None:
    """Warns of a setting that is understood and has no effect here."""
    if config.response_cache and not options.caching:
        _log.warning(
            "model '%s': response_cache has no effect, since the server has no cache; "
            "start it with --cache-config=local,size=BYTES",
            config.name,
        )
    elif config.response_cache and config.scheduling == "ensemble":
        _log.warning(
            "model '%s': answers of an ensemble are not kept as a whole; enable response_cache in "
            "the models that it calls",
            config.name,
        )
