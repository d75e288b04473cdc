# SPDX-License-Identifier: Apache-2.0
"""Repositories that come and go while the server runs, each for the sake of one model.

A folder is taken in under a name: its only model gets it or, of several, the ensemble that the
others serve. Those keep their own names. Which folders may be named is the server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from nerite.errors import AlreadyExists, InvalidArgument
from nerite.models.control import ModelControl, Reach, everything
from nerite.models.lifecycle import Lifecycle
from nerite.models.repository import Found, Repository
from nerite.stores.local import LocalStore, StoredModel
from nerite.stores.renamed import RenamedStore

Steps = Callable[[StoredModel], set[str]]


class Registering:
    """Takes repositories in, and out again."""

    def __init__(
        self,
        repository: Repository,
        control: ModelControl,
        lifecycle: Lifecycle,
    ) -> None:
        self._repository = repository
        self._control = control
        self._lifecycle = lifecycle

    def register(self, folder: Path, target: str) -> tuple[Path, tuple[str, ...]]:
        """Takes a folder in; its path, and the names of the models that came with it.

        Raises:
            AlreadyExists: The folder is there already, or a model of one of the names is.
            InvalidArgument: It is not clear which model is meant, or a link leads out of it.
        """
        top = top_model(LocalStore(folder).models(), self._steps, str(folder))
        store = RenamedStore(folder, top.name, target)
        names = tuple(model.name for model in store.models())
        for name in names:
            if self.serves(name):
                raise AlreadyExists(f"model '{name}' is loaded already")
        self._repository.add(store)
        return store.path, names

    def unregister(self, path: Path, names: Sequence[str]) -> None:
        """Takes a repository out, and those of its models that do not serve out of the index."""
        self._repository.remove(path)
        for name in names:
            if not self.serves(name):
                self._lifecycle.forget(name)

    def withdraw(
        self,
        target: str,
        path: Path,
        names: Sequence[str],
        patience: float,
        reach: Reach = everything,
    ) -> Future[None]:
        """Unloads a model with what only it needed, and then takes its repository out."""
        done: Future[None] = Future()

        def end(ended: Future[bool]) -> None:
            try:
                ended.result()
                self.unregister(path, names)
            except BaseException as why:
                done.set_exception(why)
            else:
                done.set_result(None)

        self._control.unload_fully(target, patience, reach).add_done_callback(end)
        return done

    def serves(self, name: str) -> bool:
        """Whether a model of this name serves."""
        return bool(self._lifecycle.named(name))

    def _steps(self, model: StoredModel) -> set[str]:
        if model.file is not None:
            return set()
        return set(self._control.needs(Found(model.name, model.folder)))


def top_model(models: Sequence[StoredModel], steps: Steps, place: str) -> StoredModel:
    """The model that the others are there for.

    Raises:
        InvalidArgument: There is none, or more than one may be meant.
    """
    if len(models) == 1:
        return models[0]
    if not models:
        raise InvalidArgument(f"'{place}' holds no model; a model folder is expected")
    needs = {model.name: steps(model) for model in models}
    called = {name for needed in needs.values() for name in needed}
    tops = [model for model in models if needs[model.name] and model.name not in called]
    if len(tops) != 1:
        names = ", ".join(model.name for model in models)
        raise InvalidArgument(
            f"'{place}' holds {len(models)} models ({names}), and {len(tops)} of them are "
            "ensembles that no other one calls; one such ensemble, or one model, is expected"
        )
    return tops[0]
