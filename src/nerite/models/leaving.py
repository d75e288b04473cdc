# SPDX-License-Identifier: Apache-2.0
"""A model on its way out: it finishes what it accepted, ends its instances, gives its memory back.

Each leaves on a thread of its own, since a request may take as long as it likes and nobody else
should wait for it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger(__name__)


class Stops(Protocol):
    """The part of `loading.LiveModel` that is needed here."""

    @property
    def name(self) -> str: ...
    def stop(self, timeout: float | None = None) -> bool: ...


class Leaving:
    """A model that is no longer in the table."""

    def __init__(self, model: Stops, then: Callable[[], bool]) -> None:
        """`then` is called once the model has ended; whether to give memory back now."""
        self._model: Stops | None = model
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
        then, self._then = self._then, lambda: False
        release = then()
        del then  # and with it the model
        if release:
            release_memory()
        self._ended.set()


def release_memory() -> None:
    """Gives what models no longer need back to the system.

    Objects of frameworks refer to each other in circles, and the C library keeps freed memory for
    itself in as many arenas as there were threads.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, others need it not
    if trim is not None:
        trim(0)
