# SPDX-License-Identifier: Apache-2.0
"""One model of this machine under a name of the operator's, as KServe serves a model.

What `local` finds is taken as it is; only its name is another one. A repository of several models
keeps the names of its folders, for clients know them by these.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nerite.config.model_files import BACKENDS, looks_like_model
from nerite.errors import InvalidArgument, NotFound
from nerite.stores.local import LocalStore, StoredModel, bare_models, is_model_folder

#: Names in a message about what was found; more would hide the message.
_SHOWN = 8


class NamedStore:
    """A file, a model folder, a folder with one model file, or a repository, and a name for it."""

    def __init__(self, path: Path, name: str = "") -> None:
        """`name` is left out where the models of a repository are to keep theirs."""
        if not path.exists():
            raise NotFound(f"there is nothing at '{path}'; {_expected()} is expected")
        self._store = LocalStore(path)
        self.path = path
        self.name = name

    @property
    def is_repository(self) -> bool:
        """Whether there are model folders, whose names are the models'."""
        if self.path.is_file() or is_model_folder(self.path):
            return False
        return any(is_model_folder(m.folder) or _single_file(m.folder) for m in self._folders())

    def models(self) -> list[StoredModel]:
        """The models that are there now.

        Raises:
            InvalidArgument: There is none, or more model files than one.
        """
        if self.is_repository:
            return self._of_repository()
        lone = self.path.is_file() or is_model_folder(self.path)
        found = self._store.models() if lone else bare_models(self._store.path)
        if not found:
            raise InvalidArgument(
                f"'{self.path}' holds no model (found: {_listed(self.path)}); "
                f"{_expected()} is expected"
            )
        if len(found) > 1:
            names = ", ".join(model.file.name for model in found if model.file)
            raise InvalidArgument(
                f"'{self.path}' holds more than one model file ({names}); leave one there, "
                "or put each into a folder of its own"
            )
        return [self._called(found[0])]

    def unused_name(self) -> str:
        """What to tell whoever chose a name that no model bears; empty if all is well."""
        names = [model.name for model in self.models()]
        if not self.name or self.name in names:
            return ""
        return (
            f"'{self.path}' is a repository of {len(names)} models, which are served under their "
            f"own names ({', '.join(names)}); none is '{self.name}'"
        )

    def _of_repository(self) -> list[StoredModel]:
        found = [_with_its_file(model) for model in self._folders()]
        if self.name and len(found) == 1:
            return [self._called(found[0])]
        return found

    def _folders(self) -> list[StoredModel]:
        return [model for model in self._store.models() if model.file is None]

    def _called(self, model: StoredModel) -> StoredModel:
        return replace(model, name=self.name, renamed=True) if self.name else model


def _with_its_file(model: StoredModel) -> StoredModel:
    """A folder without versions that holds one model file, as KServe lays out several models."""
    file = None if is_model_folder(model.folder) else _single_file(model.folder)
    return model if file is None else replace(model, file=file)


def _single_file(folder: Path) -> Path | None:
    files = [entry for entry in folder.iterdir() if entry.is_file() and looks_like_model(entry)]
    return files[0] if len(files) == 1 else None


def _listed(folder: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join(names[:_SHOWN] + more) or "nothing"


def _expected() -> str:
    return f"a file ending in {' or '.join(BACKENDS)}, a model folder or a repository"
