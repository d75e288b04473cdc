# SPDX-License-Identifier: Apache-2.0
"""The models of all repositories together, each with the way its configuration is read.

A model that is nothing but a file gets a folder of links in a temporary place, so that there is
one way to read configurations and not two; its files stay where they are.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nerite.errors import AlreadyExists, InvalidArgument
from nerite.models.states import key_of
from nerite.stores.fingerprint import fingerprint
from nerite.stores.local import Store, StoredModel

if TYPE_CHECKING:
    import tempfile

DUPLICATE = "model appears in two or more repositories"


@dataclass(frozen=True, slots=True)
class Found:
    """A model that is to be loaded."""

    name: str
    folder: Path
    """The folder that its configuration is read from."""
    override_json: str | None = None
    """A configuration that counts instead of the folder's: of a bare file, which has none beside
    it, or one that came with a request."""
    problem: str = ""
    """Why it cannot be loaded whatever its configuration says."""
    renamed: bool = False
    """Its configuration may call it something else: the operator's name counts."""
    linked: bool = False
    """Whether it is nothing but a file, and the folder is one of links to it."""
    mark: str = ""
    """Changes when anything of the model does; empty if that is not known."""
    asked: bool = False
    """Whether its configuration came with a request, and not from the operator."""
    sent: bool = False
    """Whether its files did too."""
    namespace: str = ""
    """The repository that it comes from, where models have namespaces."""
    release: Callable[[], None] = field(default=lambda: None, compare=False)
    """Lets go of what the model needed on disk, once nothing uses it any more."""

    @property
    def key(self) -> str:
        """What tells it from all other models."""
        return key_of(self.name, self.namespace)


class Repository:
    """Several stores as one list of models; safe to use from any thread."""

    def __init__(self, stores: Sequence[Store], *, namespacing: bool = False) -> None:
        """With `namespacing` each store may have a model of the same name."""
        self._stores = tuple(stores)
        self._namespacing = namespacing
        self._links: tempfile.TemporaryDirectory[str] | None = None
        self._linked: dict[tuple[str, Path], Path] = {}
        self._lock = threading.Lock()

    def add(self, store: Store) -> None:
        """Takes a store in; what is there stays as it is.

        Raises:
            AlreadyExists: It is in already, or another one has a model of the same name.
        """
        with self._lock:
            if any(each.path == store.path for each in self._stores):
                raise AlreadyExists(f"model repository '{store.path}' has already been registered")
            taken = set(self.names()).intersection(model.name for model in store.models())
            if taken and not self._namespacing:
                raise AlreadyExists(
                    f"model '{min(taken)}' of '{store.path}' is in another model repository too"
                )
            self._stores = (*self._stores, store)

    def remove(self, path: Path) -> None:
        """Takes the store of a path out; what it has loaded goes on."""
        with self._lock:
            self._stores = tuple(each for each in self._stores if each.path != path)

    def names(self) -> list[str]:
        """The names of the models that are there now."""
        return sorted({model.name for store in self._stores for model in store.models()})

    def scan(self) -> list[Found]:
        """The models that are there now, by name."""
        found: dict[str, Found] = {}
        for store in self._stores:
            for model in store.models():
                each = self._found(model, store)
                if each.key in found:
                    each = Found(model.name, model.folder, problem=DUPLICATE)
                found[each.key] = each
        return [found[key] for key in sorted(found)]

    def find(self, name: str, namespace: str = "") -> Found | None:
        """The model of this name, if it is there now; with `namespace` only of that repository.

        Raises:
            InvalidArgument: Several namespaces have one.
        """
        models = [
            (model, store)
            for store in self._stores
            if not namespace or str(store.path) == namespace
            for model in store.models()
            if model.name == name
        ]
        if len(models) > 1 and self._namespacing:
            raise ambiguous(name, len(models))
        if len(models) > 1:
            return Found(name, models[0][0].folder, problem=DUPLICATE)
        return self._found(*models[0]) if models else None

    def close(self) -> None:
        """Removes the folder of links."""
        with self._lock:
            self._linked.clear()
            if self._links is not None:
                self._links.cleanup()
                self._links = None

    def _found(self, model: StoredModel, store: Store) -> Found:
        namespace = str(store.path) if self._namespacing else ""
        mark = fingerprint(model.file if _is_alone(model) else model.folder)
        if model.file is None:
            return Found(
                model.name,
                model.folder,
                renamed=model.renamed,
                mark=mark,
                namespace=namespace,
            )
        written = {"backend": model.backend, "default_model_filename": model.file.name}
        folder = self._folder_of_links(model.name, model.folder, model.file)
        return Found(
            model.name,
            folder,
            json.dumps(written),
            linked=True,
            mark=mark,
            namespace=namespace,
        )

    def _folder_of_links(self, name: str, folder: Path, file: Path) -> Path:
        """A model folder whose only version is the folder that the file lies in."""
        with self._lock:
            if self._links is None:
                import tempfile

                self._links = tempfile.TemporaryDirectory(prefix="nerite-")
            if (name, file) not in self._linked:
                made = Path(self._links.name) / str(len(self._linked)) / name
                made.mkdir(parents=True)
                (made / "1").symlink_to(folder, target_is_directory=True)
                self._linked[name, file] = made
            return self._linked[name, file]


def ambiguous(name: str, count: int) -> InvalidArgument:
    """Refuses a name that several namespaces have."""
    return InvalidArgument(
        f"There are {count} identifiers of model '{name}' in global map, model namespace must be "
        "provided to resolve ambiguity."
    )


def _is_alone(model: StoredModel) -> bool:
    """Whether nothing beside the file belongs to the model; a `model.py` has modules there."""
    return model.file is not None and model.file.suffix != ".py"
