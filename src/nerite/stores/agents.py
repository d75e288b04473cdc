# SPDX-License-Identifier: Apache-2.0
"""Repository agents: get a model's files ready before it is loaded, whatever store they lie in.

A configuration names them (`model_repository_agents`), in the order in which they act; each is
given the folder that the one before it left. Triton's are native libraries. Here `checksum` is
built in, and one of your own is a class with two methods, named as `module:Class`.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from nerite.errors import InvalidArgument
from nerite.stores.local import resolve_inside

_log = logging.getLogger(__name__)


class Agent(Protocol):
    """Prepares the files of one load of one model."""

    def load(self, folder: Path, parameters: Mapping[str, str]) -> Path | None:
        """Looks at the model's folder; the folder to go on with, or None for the same one.

        What it raises is the reason why the model is unavailable.
        """

    def unload(self) -> None:
        """Lets go of what `load` made. Called once, when nothing uses the files any more, also
        after a load that failed."""


class Checksum:
    """Refuses a model whose files are not those that its configuration was written for."""

    def load(self, folder: Path, parameters: Mapping[str, str]) -> None:
        """Compares each file that a parameter `MD5:{path}` (or SHA256) names with its digest."""
        for key, expected in sorted(parameters.items()):
            kind, _, path = key.partition(":")
            if kind not in _DIGESTS or not path:
                raise InvalidArgument(
                    f"repository agent 'checksum' does not understand the parameter '{key}'; "
                    "MD5:{path} and SHA256:{path} are expected, for instance MD5:1/model.onnx"
                )
            got = _digest(folder, path, kind)
            if got.lower() != expected.strip().lower():
                raise InvalidArgument(
                    f"Mismatched {kind} hash for file {path}, expect: {expected}, got: {got}"
                )

    def unload(self) -> None:
        """There is nothing to let go of."""


_DIGESTS: Final[Mapping[str, Callable[[], Any]]] = {
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
    "SHA256": hashlib.sha256,
}
_BUILT_IN: Final[Mapping[str, type[Agent]]] = {"checksum": Checksum}


class Prepared:
    """A folder that agents made ready."""

    def __init__(self) -> None:
        self._acted: list[tuple[str, Agent]] = []

    def run(self, agents: Iterable[tuple[str, Mapping[str, str]]], folder: Path) -> Path:
        """Lets the agents act, given by name and parameters; the folder to load from."""
        for name, parameters in agents:
            agent = _find(name)()
            self._acted.append((name, agent))
            folder = agent.load(folder, dict(parameters)) or folder
        return folder

    def release(self) -> None:
        """Tells the agents, the last one first, that the files are not needed any more."""
        while self._acted:
            name, agent = self._acted.pop()
            try:
                agent.unload()
            except Exception:
                _log.exception("repository agent '%s' failed to unload", name)


def _find(name: str) -> Callable[[], Agent]:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as why:
        raise InvalidArgument(
            f"repository agent '{name}' cannot be imported: {type(why).__name__}: {why}"
        ) from why
    if isinstance(found, type) and all(callable(getattr(found, m, None)) for m in _METHODS):
        return found
    raise InvalidArgument(
        f"repository agent '{name}': '{attribute}' in module '{module}' is not a class with the "
        f"methods {' and '.join(_METHODS)}"
    )


_METHODS: Final = ("load", "unload")


def _digest(folder: Path, path: str, kind: str) -> str:
    file = resolve_inside(folder, path)
    try:
        with file.open("rb") as stream:
            return str(hashlib.file_digest(stream, _DIGESTS[kind]).hexdigest())
    except OSError as why:
        raise InvalidArgument(
            f"repository agent 'checksum' cannot read the file '{path}': {why.strerror}"
        ) from why
