# SPDX-License-Identifier: Apache-2.0
"""A repository that a request named, one of whose models bears another name than its folder.

The operator has not looked at it, so nothing in it may lead out: a model with a link to elsewhere
in it, at any depth, is no model of it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from nerite.errors import InvalidArgument
from nerite.stores.local import LocalStore, StoredModel


class RenamedStore:
    """A path on this machine, and a name for one of its models."""

    def __init__(self, path: Path, own: str, name: str) -> None:
        """`own`: what the model is called by its folder or file; `name`: what it is to be called.

        Raises:
            InvalidArgument: Something in the folder leads out of it.
        """
        self._store = LocalStore(path)
        self.path = self._store.path
        self._own, self._name = own, name
        for model in self._store.models():
            if (link := self._leading_out(model)) is not None:
                raise InvalidArgument(
                    f"'{link}' leads out of '{self.path}'; put into the archive what it points to"
                )

    def models(self) -> list[StoredModel]:
        """The models that are there now."""
        kept = [each for each in self._store.models() if self._leading_out(each) is None]
        return [
            replace(each, name=self._name, renamed=True) if each.name == self._own else each
            for each in kept
        ]

    def _leading_out(self, model: StoredModel) -> Path | None:
        """The first path of a model that is a link to elsewhere."""
        found = [Path(at, name) for at, ds, fs in os.walk(model.folder) for name in (*ds, *fs)]
        for path in (model.folder, *found):
            if path.is_symlink() and not path.resolve().is_relative_to(self.path):
                return path
        return None
