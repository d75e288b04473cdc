# SPDX-License-Identifier: Apache-2.0
"""The models of all repositories together, each with the way its configuration is read.

A model that is nothing but a file gets a folder of links in a temporary place, so that there is
one way to read configurations and not two; its files stay where they are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nerite.stores.local import Store, StoredModel

DUPLICATE = "model appears in two or more repositories"


@dataclass(frozen=True, slots=True)
class Found:
    """A model that is to be loaded."""

    name: str
    folder: Path
    """The folder that its configuration is read from."""
    override_json: str | None = None
    """The configuration of a bare file, which has none beside it."""
    problem: str = ""
    """Why it cannot be loaded whatever its configuration says."""
    renamed: bool = False
    """Its configuration may call it something else: the operator's name counts."""


class Repository:
    """Several stores as one list of models."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = tuple(stores)
        self._links: tempfile.TemporaryDirectory[str] | None = None

    def scan(self) -> list[Found]:
        """The models that are there now, by name."""
        found: dict[str, Found] = {}
        for store in self._stores:
            for model in store.models():
                if model.name in found:
                    found[model.name] = Found(model.name, model.folder, problem=DUPLICATE)
                elif model.file is None:
                    found[model.name] = Found(model.name, model.folder, renamed=model.renamed)
                else:
                    found[model.name] = self._linked(model, model.file)
        return [found[name] for name in sorted(found)]

    def close(self) -> None:
        """Removes the folder of links."""
        if self._links is not None:
            self._links.cleanup()
            self._links = None

    def _linked(self, model: StoredModel, file: Path) -> Found:
        if self._links is None:
            self._links = tempfile.TemporaryDirectory(prefix="nerite-")
        folder = Path(self._links.name) / str(len(list(Path(self._links.name).iterdir())))
        folder = folder / model.name
        folder.mkdir(parents=True)
        (folder / "1").symlink_to(model.folder, target_is_directory=True)
        written = {"backend": model.backend, "default_model_filename": file.name}
        return Found(model.name, folder, override_json=json.dumps(written))
