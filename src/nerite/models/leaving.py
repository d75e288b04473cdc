# SPDX-License-Identifier: Apache-2.0
"""A model on its way out: it finishes what it accepted, ends its instances, gives its memory back.

Each leaves on a thread of its own, since a request may take as long as it likes and nobody else
should wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from nerite.models.memory import release_memory

_log = logging.getLogger(__name__)


class Stops(Protocol):
    """The part of `live.LiveModel` that is needed here."""

    @property
    def name(self) -> str: ...
    def stop(self, timeout: float | None = None) -> bool: ...


class Leaving:
    """A model that is no longer in the table."""

    def __init__(
        self, model: Stops, may_release: Callable[[], bool], then: Callable[[], None]
    ) -> None:
        """`may_release`: whether now is a time to give memory back; `then` is called after."""
        self._model: Stops | None = model
        self._may_release = may_release
        self._then = then
        self._ended = threading.Event()
        # Daemon: a backend that hangs must not keep the process alive once the server gave it up.
        self._thread = threading.Thread(
            target=self._main, name=f"nerite-unload-{model.name}", daemon=True
        )

    def start(self) -> None:
        """Begins to end the model."""
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the model to end; whether it has."""
        return self._ended.wait(timeout)

    def _main(self) -> None:
        assert self._model is not None
        try:
            self._model.stop()
        except Exception:
            _log.exception("ending model '%s'", self._model.name)
        self._model = None
        if self._may_release():
            release_memory()
        self._then()
        self._ended.set()
