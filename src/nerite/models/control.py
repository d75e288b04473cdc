# SPDX-License-Identifier: Apache-2.0
"""Load and unload by name: what is found in the repository or sent along, with what it needs.

Jobs of one model run in the order in which they were asked for; see `jobs`. Whether clients may ask
at all, and in which words they are answered, is the server's business, which says with each
request how far it reaches (`Reach`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

from nerite.errors import NeriteError, NotFound, PermissionDenied, Unavailable
from nerite.models.composition import INVALID, Composition
from nerite.models.dependents import fallen, orphans, with_needs
from nerite.models.events import Failure
from nerite.models.jobs import Jobs
from nerite.models.leaving import Leaving
from nerite.models.lifecycle import Lifecycle
from nerite.models.live import Composed
from nerite.models.options import LoadOptions
from nerite.models.overrides import Sent
from nerite.models.repository import Found, Repository, ambiguous
from nerite.models.states import StateTable

Reach = Callable[[str], bool]
"""Whether whoever asks may touch the model of a name."""


def everything(name: str) -> bool:
    """The reach of whoever may touch all models."""
    del name
    return True


class ModelControl:
    """Loads and unloads the models of one server."""

    def __init__(
        self,
        repository: Repository,
        lifecycle: Lifecycle,
        states: StateTable,
        options: LoadOptions,
    ) -> None:
        self._repository = repository
        self._lifecycle = lifecycle
        self._states = states
        self._composition = Composition(repository, lifecycle, states, options)
        self._jobs = Jobs(options.threads)
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._broken: dict[str, Found] = {}  # ensembles that would serve if their models did

    def start(self, found: Iterable[Found]) -> None:
        """Begins to load these; `StateTable.wait_settled` waits for the end of it."""
        models = list(found)
        self._states.expect(model.key for model in models)
        for model in models:
            self._load(model).add_done_callback(self._settles(model.key))

    def load(
        self, name: str, sent: Sent | None = None, reach: Reach = everything
    ) -> Future[Failure | None]:
        """Begins to load a model, if need be with a configuration or files that were sent along.

        The future has the failure of a load that was begun, or raises: NotFound, if there is no
        such model, InvalidArgument, if what was sent cannot be used, or PermissionDenied, if what
        was sent calls a model beyond `reach`.
        """
        return self._jobs.submit(name, lambda: self._load_now(self._find(name, sent, reach)))

    def refresh(self, found: Found) -> Future[Failure | None]:
        """Begins to load a model as it was just seen."""
        return self._load(found)

    def drop(self, key: str) -> Future[list[Leaving]]:
        """Begins to unload a model that is not there any more."""
        return self._jobs.submit(_name_of(key), lambda: self._unload_now(key, False, everything))

    def unload(
        self, name: str, *, dependents: bool = False, reach: Reach = everything
    ) -> Future[list[Leaving]]:
        """Begins to unload a model; with `dependents` also what was loaded only because of it.

        Done once no new request reaches it; it ends when its last request has. The future raises
        InvalidArgument if several namespaces have a model of that name, and PermissionDenied if
        an ensemble beyond `reach` would fall with it; what else is beyond it stays loaded.
        """
        return self._jobs.submit(name, lambda: self._unload_now(self._key(name), dependents, reach))

    def unload_fully(self, name: str, patience: float, reach: Reach = everything) -> Future[bool]:
        """Begins to unload a model with what was loaded only because of it, within `reach`; done
        when their last requests are answered, or patience has ended. Whether they all were."""

        def work() -> bool:
            leaving = self._unload_now(self._key(name), True, reach)
            with self._jobs.away():
                return all([each.wait(patience) for each in leaving])  # noqa: C419

        return self._jobs.submit(name, work)

    def needs(self, found: Found) -> list[str]:
        """The names of the models that an ensemble calls, as its configuration stands."""
        return self._composition.needs(found)

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

    def _find(self, name: str, sent: Sent | None, reach: Reach) -> Found:
        found = self._repository.find(name)
        if sent is None:
            if found is None:
                raise NotFound(f"no model repository has a model '{name}'")
            return found
        applied = sent.apply(name, found)
        for needed in self._composition.needs(applied):
            if not reach(needed):
                # Else whoever may load one model could ask any other through it.
                applied.release()
                raise PermissionDenied(
                    f"the configuration sent for model '{name}' calls model '{needed}', which the "
                    "API key is not for"
                )
        return applied

    def _load_now(self, found: Found) -> Failure | None:
        with self._lock:
            # Else what is loaded for its sake would have it looked at once more.
            self._broken.pop(found.key, None)
        self._load_needs(found)
        failure = self._take(found)
        with self._lock:
            if failure is None:
                self._wanted.add(found.key)
        return failure

    def _take(self, found: Found, *, again: bool = False) -> Failure | None:
        """Loads one model, and looks again at the ensembles that call it."""
        before = self._lifecycle.model(found.key)
        failure = self._lifecycle.load(found, self._composition.compose, again=again)
        with self._lock:
            self._broken.pop(found.key, None)
            # Files that were sent are gone by now.
            if failure is not None and not found.sent and self._composition.needs(found):
                self._broken[found.key] = found
        if self._lifecycle.model(found.key) is not before:
            self._look_again(found.name)
        return failure

    def _look_again(self, name: str) -> None:
        """Holds the ensembles that call a model against what it is now; those that fell without it
        are loaded again. Nobody waits for this: such a job may wait for the model's own."""
        users = {
            live.found.key: live.found
            for live in self._lifecycle.serving()
            if any(step.model == name for step in live.config.ensemble_steps)
        }
        with self._lock:
            broken = list(self._broken.values())
        users |= {each.key: each for each in broken if name in self._composition.needs(each)}
        for user in users.values():
            try:
                self._jobs.submit(user.name, partial(self._reconsider, user))
            except Unavailable:  # the server is stopping
                return

    def _reconsider(self, found: Found) -> None:
        live = self._lifecycle.model(found.key)
        if live is None:
            with self._lock:
                was_broken = self._broken.pop(found.key, None) is not None
            if was_broken:
                self._load_needs(found)
                self._take(found)
            return
        try:
            now = self._composition.compose(found, live.config)
        except NeriteError as why:
            self._fell(found.key, INVALID + str(why))
            return
        if Composed(live.config, live.inherited) != now:
            self._take(live.found, again=True)

    def _fell(self, key: str, reason: str) -> list[Leaving | None]:
        """Takes an ensemble out that cannot serve as its models are, and those that call it."""
        needs = self._needs_of_live()
        fell = [
            self._give_up(user, user_reason(user, key)) for user in reversed(fallen(key, needs))
        ]
        return [*fell, self._give_up(key, reason)]

    def _give_up(self, key: str, reason: str) -> Leaving | None:
        live = self._lifecycle.model(key)
        if live is None:
            return None
        if not live.found.sent:
            with self._lock:
                self._broken[key] = live.found
        return self._lifecycle.begin_unload(key, reason)

    def _load_needs(self, found: Found) -> None:
        """Loads the models that an ensemble calls; one that fails, or is not there, is missed by
        the ensemble itself, which can say in which step."""
        find, namespace = self._composition.find, found.namespace

        def needs(name: str) -> list[str]:
            return self._composition.needs(found if name == found.name else find(name, namespace))

        try:
            names = with_needs(found.name, needs)[:-1]
            for name in names:
                is_ring = found.name in with_needs(name, needs)
                if is_ring or self._composition.live(name, namespace):
                    continue
                if (needed := find(name, namespace)) is not None:
                    self._load_and_wait(needed)
        except NeriteError:  # several namespaces have one: the ensemble itself tells
            return

    def _load_and_wait(self, needed: Found) -> None:
        done = self._jobs.submit(needed.name, lambda: self._take(needed))
        with self._jobs.away():
            done.result()

    def _key(self, name: str) -> str:
        live = self._lifecycle.named(name)
        if len(live) > 1:
            raise ambiguous(name, len(live))
        return live[0].key if live else name

    def _unload_now(self, key: str, dependents: bool, reach: Reach) -> list[Leaving]:
        needs = self._needs_of_live()
        users = fallen(key, needs)
        for user in map(_name_of, users):
            if not reach(user):
                raise PermissionDenied(
                    f"model '{_name_of(key)}' is not unloaded: ensemble '{user}', which the API "
                    "key is not for, depends on it"
                )
        with self._lock:
            self._wanted.discard(key)
            self._broken.pop(key, None)
            wanted = set(self._wanted)
        # Ensembles first, so that the fewest requests find one of their models gone.
        leaving = [self._give_up(user, user_reason(user, key)) for user in reversed(users)]
        leaving.append(self._lifecycle.begin_unload(key))
        for orphan in orphans([key, *users], needs, wanted) if dependents else ():
            if reach(_name_of(orphan)):
                leaving.append(self._lifecycle.begin_unload(orphan))
        return [each for each in leaving if each is not None]

    def _needs_of_live(self) -> dict[str, set[str]]:
        """The models that serve, and those that each of them calls, by their keys."""
        needs: dict[str, set[str]] = {}
        for model in self._lifecycle.serving():
            steps = [
                self._composition.live(step.model, model.found.namespace)
                for step in model.config.ensemble_steps
            ]
            needs[model.key] = {live.key for live in steps if live is not None}
        return needs


def user_reason(user: str, key: str) -> str:
    """Why an ensemble does not serve once a model that it needs does not."""
    return f"{INVALID}ensemble '{_name_of(user)}' depends on '{_name_of(key)}' which is not loaded"


def _name_of(key: str) -> str:
    return key.partition("\0")[0]
