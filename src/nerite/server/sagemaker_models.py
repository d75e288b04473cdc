# SPDX-License-Identifier: Apache-2.0
"""SageMaker's multi-model mode: archives that it unpacked, as models by hash (`spec` 9.4).

SageMaker chooses a hash and a folder below one root; the folder becomes a repository of this server
for as long as the model is loaded. Here is what it may name; `models.registering` does it, and
the data plane says in SageMaker's statuses how it ended.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nerite.errors import AlreadyExists, InvalidArgument, NeriteError, NotFound
from nerite.models.registering import Registering
from nerite.server.control import Verb
from nerite.server.repository_control import RepositoryControl, reach_of
from nerite.stores.local import resolve_inside

#: Triton's patience, within the 360 s that SageMaker has.
UNLOAD_SECS: Final = 350.0
_FOLDER: Final = "model"


@dataclass(frozen=True, slots=True)
class _Hosted:
    """A model that SageMaker had loaded."""

    target: str
    url: str
    path: Path
    members: tuple[str, ...]


class SageMakerModels:
    """Answers what SageMaker asks about its models."""

    def __init__(self, root: Path, registering: Registering, calls: RepositoryControl) -> None:
        """`root`: the folder below which SageMaker unpacks archives."""
        self._root = root
        self._registering = registering
        self._calls = calls
        self._lock = threading.Lock()
        self._hosted: dict[str, _Hosted] = {}

    def answers(self) -> dict[str, Verb]:
        """What the data plane asks, and what answers."""
        return {
            "sagemaker_models": self.models,
            "sagemaker_load": self.load,
            "sagemaker_unload": self.unload,
        }

    def models(self, _: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The models that SageMaker had loaded, by hash."""
        with self._lock:
            hosted = sorted(self._hosted.items())
        return [
            {"hash": key, "target": each.target, "url": each.url, "members": list(each.members)}
            for key, each in hosted
        ]

    def load(self, payload: Mapping[str, Any]) -> Future[None]:
        """Takes a folder in as a repository and loads its model; done when it serves.

        A load that fails leaves nothing behind.
        """
        key, url = _text(payload, "hash", "model_name"), _text(payload, "url", "url")
        target = _target(_text(payload, "target", "model_name"))
        self._calls.check_mode()
        folder = self._folder(url)
        with self._lock:
            if key in self._hosted:
                raise AlreadyExists(f"'{key}' is loaded already, from '{self._hosted[key].url}'")
            path, members = self._registering.register(folder, target)
            self._hosted[key] = _Hosted(target, url, path, members)
        try:
            loading = self._calls.load({"model": target, "reach": payload.get("reach")})
        except BaseException:
            self._drop(key)
            raise
        done: Future[None] = Future()
        loading.add_done_callback(lambda ended: self._loaded(key, ended, done))
        return done

    def unload(self, payload: Mapping[str, Any]) -> Future[None]:
        """Unloads a model with what only it needed; done once its last request is answered."""
        key, target = _text(payload, "hash", "hash"), _text(payload, "target", "target")
        with self._lock:
            hosted = self._hosted.get(key)
        if hosted is None:
            return self._unload_own(target, payload.get("reach"))
        if hosted.target != target:
            # Whoever may ask for one name must not reach another by its hash.
            raise InvalidArgument(
                f"'{key}' was loaded as model '{hosted.target}', not as '{target}'; name it in "
                "X-Amzn-SageMaker-Target-Model"
            )
        done: Future[None] = Future()
        leaving = self._registering.withdraw(
            target, hosted.path, hosted.members, UNLOAD_SECS, reach_of(payload)
        )
        leaving.add_done_callback(lambda ended: self._left(key, ended, done))
        return done

    def _unload_own(self, name: str, reach: object) -> Future[None]:
        """A model of the repositories of the start, which SageMaker knows by its name."""
        if not self._registering.serves(name):
            raise NotFound(f"model '{name}' is not loaded")
        parameters = {"unload_dependents": True}
        return self._calls.unload({"model": name, "parameters": parameters, "reach": reach})

    def _folder(self, url: str) -> Path:
        """The folder of a URL: `{root}/{hash}/model`, or one folder below it."""
        expected = f"'{self._root}/HASH/{_FOLDER}', or a folder in it, is expected"
        parts = Path(url).parts
        inside = parts[len(self._root.parts) :]
        if parts[: len(self._root.parts)] != self._root.parts or not (
            2 <= len(inside) <= 3 and inside[1] == _FOLDER
        ):
            raise InvalidArgument(f"url is '{url}'; {expected}")
        try:
            # Held to the folder of the hash: a link in one archive must not lead into another.
            own = resolve_inside(self._root, inside[0])
            if own != self._root.resolve() / inside[0]:
                raise InvalidArgument(f"'{inside[0]}' is a link")
            folder = resolve_inside(own, *inside[1:])
        except InvalidArgument as why:
            raise InvalidArgument(f"url is '{url}': {why}") from None
        if not folder.is_dir():
            raise InvalidArgument(f"url is '{url}', where there is no folder; {expected}")
        return folder

    def _loaded(self, key: str, ended: Future[None], done: Future[None]) -> None:
        why = ended.exception()
        if why is None:
            done.set_result(None)
            return
        self._drop(key)
        is_refusal = isinstance(why, NeriteError) and not isinstance(why, AlreadyExists)
        # SageMaker has one status for every load that fails; 404 would say something else.
        done.set_exception(InvalidArgument(str(why)) if is_refusal else why)

    def _left(self, key: str, ended: Future[None], done: Future[None]) -> None:
        why = ended.exception()
        if why is not None:
            done.set_exception(why)
            return
        with self._lock:
            self._hosted.pop(key, None)
        done.set_result(None)

    def _drop(self, key: str) -> None:
        with self._lock:
            hosted = self._hosted.pop(key)
        self._registering.unregister(hosted.path, hosted.members)


def _text(payload: Mapping[str, Any], key: str, told: str) -> str:
    value = payload.get(key)
    if not (isinstance(value, str) and value.strip()):
        raise InvalidArgument(f"'{told}' is empty; a text is expected")
    return value


def _target(name: str) -> str:
    """A name that a model may have: SageMaker's are paths in a bucket (`team/model.tar.gz`)."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or not name.isprintable():
        raise InvalidArgument(
            f"target model is '{name}'; a name, or a path of names without '.' and '..', is "
            "expected"
        )
    return name
