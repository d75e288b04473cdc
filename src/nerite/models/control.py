# SPDX-License-Identifier: Apache-2.0
"""Load and unload by name: what is found in the repository or sent along, with what it needs.

Jobs of one model run in the order in which they were asked for; see `jobs`. Whether clients may ask
at all, and in which words they are answered, is the server's business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from nerite.errors import NeriteError, NotFound
from nerite.models.dependents import fallen, orphans, with_needs
from nerite.models.events import Failure
from nerite.models.jobs import Jobs
from nerite.models.leaving import Leaving
from nerite.models.lifecycle import Lifecycle
from nerite.models.loading import written
from nerite.models.options import LoadOptions
from nerite.models.overrides import Sent
from nerite.models.repository import Found, Repository, ambiguous
from nerite.models.states import StateTable


class ModelControl:
    """Loads and unloads the models of one server."""

    def __init__(
        self,
        repository: Repository,
        lifecycle: Lifecycle,
        states: StateTable,
        options: LoadOptions,
    ) -> None:
        self._options = options
        self._repository = repository
        self._lifecycle = lifecycle
        self._states = states
        self._jobs = Jobs(options.threads)
        self._lock = threading.Lock()
        self._wanted: set[str] = set()

    def start(self, found: Iterable[Found]) -> None:
        """Begins to load these; `StateTable.wait_settled` waits for the end of it."""
        models = list(found)
        self._states.expect(model.key for model in models)
        for model in models:
            self._load(model).add_done_callback(self._settles(model.key))

    def load(self, name: str, sent: Sent | None = None) -> Future[Failure | None]:
        """Begins to load a model, if need be with a configuration or files that were sent along.

        The future has the failure of a load that was begun, or raises: NotFound, if there is no
        such model, or InvalidArgument, if what was sent cannot be used.
        """
        return self._jobs.submit(name, lambda: self._load_now(self._find(name, sent)))

    def refresh(self, found: Found) -> Future[Failure | None]:
        """Begins to load a model as it was just seen."""
        return self._load(found)

    def drop(self, key: str) -> Future[list[Leaving]]:
        """Begins to unload a model that is not there any more."""
        return self._jobs.submit(key.partition("\0")[0], lambda: self._unload_now(key, False))

    def unload(self, name: str, *, dependents: bool = False) -> Future[list[Leaving]]:
        """Begins to unload a model; with `dependents` also what was loaded only because of it.

        Done once no new request reaches it; it ends when its last request has. The future raises
        InvalidArgument if several namespaces have a model of that name.
        """
        return self._jobs.submit(name, lambda: self._unload_now(self._key(name), dependents))

    def unload_fully(self, name: str, patience: float) -> Future[bool]:
        """Begins to unload a model with what was loaded only because of it; done when their last
        requests are answered, or patience has ended. Whether they all were."""

        def work() -> bool:
            leaving = self._unload_now(self._key(name), True)
            with self._jobs.away():
                return all([each.wait(patience) for each in leaving])  # noqa: C419

        return self._jobs.submit(name, work)

    def is_known(self, name: str) -> bool:
        """Whether there is, or was, a model of this name."""
        return any(e.name == name for e in self._states.index()) or name in self._repository.names()

    def close(self) -> None:
        """Begins nothing more."""
        self._jobs.close()

    def _settles(self, name: str) -> Callable[[object], None]:
        return lambda _: self._states.settle(name)

    def _load(self, found: Found) -> Future[Failure | None]:
        return self._jobs.submit(found.name, lambda: self._load_now(found))

    def _find(self, name: str, sent: Sent | None) -> Found:
        found = self._repository.find(name)
        if sent is not None:
            return sent.apply(name, found)
        if found is None:
            raise NotFound(f"no model repository has a model '{name}'")
        return found

    def _load_now(self, found: Found) -> Failure | None:
        self._load_needs(found)
        failure = self._lifecycle.load(found)
        if failure is None:
            with self._lock:
                self._wanted.add(found.key)
        return failure

    def _load_needs(self, found: Found) -> None:
        """Loads the models that an ensemble calls; one that fails, or is not there, is missed by
        the ensemble itself, which can say in which step."""

        def needs(name: str) -> list[str]:
            return self._needs(found if name == found.name else self._repository.find(name))

        for name in with_needs(found.name, needs)[:-1]:
            is_ring = found.name in with_needs(name, needs)
            if is_ring or self._lifecycle.named(name):
                continue
            if (needed := self._repository.find(name)) is not None:
                self._load_and_wait(needed)

    def _load_and_wait(self, needed: Found) -> None:
        done = self._jobs.submit(needed.name, lambda: self._lifecycle.load(needed))
        with self._jobs.away():
            done.result()

    def _needs(self, found: Found | None) -> list[str]:
        if found is None or found.problem:
            return []
        try:
            return [step.model for step in written(found, self._options).ensemble_steps]
        except (NeriteError, OSError):  # its own load tells
            return []

    def _key(self, name: str) -> str:
        live = self._lifecycle.named(name)
        if len(live) > 1:
            raise ambiguous(name, len(live))
        return live[0].key if live else name

    def _unload_now(self, name: str, dependents: bool) -> list[Leaving]:
        needs = self._needs_of_live()
        with self._lock:
            self._wanted.discard(name)
            wanted = set(self._wanted)
        leaving = [self._lifecycle.begin_unload(name)]
        users = fallen(name, needs)
        for user in users:
            reason = f"Invalid argument: ensemble '{user}' depends on '{name}' which is not loaded"
            leaving.append(self._lifecycle.begin_unload(user, reason))
        for orphan in orphans([name, *users], needs, wanted) if dependents else ():
            leaving.append(self._lifecycle.begin_unload(orphan))
        return [each for each in leaving if each is not None]

    def _needs_of_live(self) -> dict[str, set[str]]:
        return {
            model.key: {step.model for step in model.config.ensemble_steps}
            for model in self._lifecycle.serving()
        }
