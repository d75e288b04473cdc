# SPDX-License-Identifier: Apache-2.0
"""Models in a folder of this machine, and the one function that resolves a path inside a folder.

A path may be a repository (a folder of model folders), one model folder, or a bare model file.
What a client or a configuration names goes through `resolve_inside`; links that an operator has
put into a repository as model folders are followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from nerite.config.layout import find_config_files, find_versions
from nerite.config.model_files import BACKENDS, backend_of, looks_like_model
from nerite.errors import InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that a store has."""

    name: str
    folder: Path
    """Its folder; for a bare file the folder that holds it."""
    file: Path | None = None
    """The file itself, where a model is nothing but a file."""
    renamed: bool = False
    """The operator chose the name, whatever a configuration file says."""

    @property
    def backend(self) -> str:
        """The backend that runs a bare file."""
        return backend_of(self.file) if self.file is not None else ""


class Store(Protocol):
    """Anything that has models."""

    path: Path
    """Where they lie; what tells it from other stores."""

    def models(self) -> list[StoredModel]:
        """The models that are there now, by name."""


class LocalStore:
    """A path on this machine, as given to `--model-repository` or `nerite serve`."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise NotFound(f"there is no model repository at '{path}'; give a folder of models")
        if path.is_file() and path.suffix not in BACKENDS:
            raise InvalidArgument(
                f"'{path}' is not a model that can be served as it is; "
                f"a file ending in {' or '.join(BACKENDS)}, or a folder, is expected"
            )
        self.path = path.resolve()

    def models(self) -> list[StoredModel]:
        """The models that are there now, by name."""
        path = self.path
        if path.is_file():
            return [StoredModel(path.stem, path.parent, path)]
        if is_model_folder(path):
            return [StoredModel(path.name, path)]
        folders = [entry for entry in sorted(path.iterdir()) if _may_be_model(entry)]
        if not folders:
            return bare_models(path)
        return [StoredModel(folder.name, folder) for folder in folders]


def resolve_inside(root: Path, *parts: str) -> Path:
    """The path of `parts` below `root`, with links resolved.

    Raises:
        InvalidArgument: It is absolute, goes up, or a link leads out of `root`.
    """
    relative = PurePosixPath(*parts)
    shown = "/".join(parts)
    if relative.is_absolute() or ".." in relative.parts or "\0" in shown or "\\" in shown:
        raise InvalidArgument(f"'{shown}' is not a path inside '{root}'; name one below it")
    base = root.resolve()
    resolved = (base / relative).resolve()
    if not resolved.is_relative_to(base):
        raise InvalidArgument(f"'{shown}' leads out of '{root}' through a link; put the file there")
    return resolved


def is_model_folder(path: Path) -> bool:
    """Whether the path is one model and not a folder of models."""
    if find_config_files(path, None):
        return True
    versions = find_versions(path).folders.values()
    return any(child.name.startswith("model.") for folder in versions for child in folder.iterdir())


def _may_be_model(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith((".", "__"))


def bare_models(path: Path) -> list[StoredModel]:
    """Model files, and a `model.py`, that lie in a folder by themselves."""
    files = [
        entry for entry in sorted(path.iterdir()) if entry.is_file() and looks_like_model(entry)
    ]
    return [
        StoredModel(path.name if file.stem == "model" else file.stem, path, file) for file in files
    ]
