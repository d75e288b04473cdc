# SPDX-License-Identifier: Apache-2.0
"""The thread that is one model instance.

It makes the backend, loads it, warms it up, serves batches until the version is closed, and
unloads: all of it on this one thread, because frameworks tie things to threads and because the
data plane attaches it to Python once for its whole life.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nerite.backends.contract import Backend, Device, Memory, Model, memory_of
from nerite.models.host_policy import HostPolicy, enter
from nerite.models.warmup import Warmup, warm_up

_log = logging.getLogger(__name__)


class Serves(Protocol):
    """The part of `nerite._core.Version` that an instance uses."""

    def run(self, instance: str, execute: Callable[[Any], Any]) -> None: ...


class Instance:
    """One instance of one model version."""

    def __init__(
        self,
        kind: type[Backend],
        model: Model,
        device: Device,
        version: Serves,
        *,
        warmups: Sequence[Warmup] = (),
        policy: HostPolicy | None = None,
    ) -> None:
        self._kind = kind
        self._model = model
        self._device = device
        self._version = version
        self._warmups = warmups
        self._policy = policy
        self._loaded = threading.Event()
        self._failure: BaseException | None = None
        self.memory: Sequence[Memory] = ()
        """What its backend says that it holds."""
        # Daemon: a backend that hangs must not keep the process alive once the server gave it up.
        self._thread = threading.Thread(
            target=self._main, name=f"nerite-{model.instance}", daemon=True
        )

    @property
    def name(self) -> str:
        """The instance's name, `{group}_{index}`."""
        return self._model.instance

    def start(self) -> None:
        """Starts the thread and waits until the backend is loaded and warm; raises what failed."""
        self._thread.start()
        self._loaded.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def join(self, timeout: float | None = None) -> bool:
        """Waits for the thread to end; whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        backend: Backend | None = None
        try:
            if self._policy is not None:
                enter(self._policy, self.name)
            backend = self._kind()
            backend.load(self._model, self._device)
            self.memory = memory_of(backend)
            for warmup in self._warmups:
                warm_up(backend, warmup, self.name)
        except BaseException as why:
            self._failure = why
        if self._failure is None:
            self._loaded.set()
            self._serve(backend)
        self._unload(backend)
        self._loaded.set()

    def _serve(self, backend: Backend | None) -> None:
        assert backend is not None
        try:
            self._version.run(self.name, backend.execute)
        except BaseException:
            _log.exception("instance '%s' of model '%s' ended", self.name, self._model.name)

    def _unload(self, backend: Backend | None) -> None:
        if backend is None:
            return
        try:
            backend.unload()
        except BaseException:
            _log.exception("unloading instance '%s' of model '%s'", self.name, self._model.name)
