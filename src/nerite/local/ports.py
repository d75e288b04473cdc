# SPDX-License-Identifier: Apache-2.0
"""Free ports of this machine, the same as last time where they are still free."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

_TRIES = 64


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now, on any address of this machine."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", port))
        except OSError:
            return False
        return True


def any_free() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class Ports:
    """Hands out ports; one that was handed out is not given to another until it is returned."""

    def __init__(
        self,
        remembered: Mapping[str, int] | None = None,
        remember: Callable[[str, int], None] = lambda key, port: None,
        free: Callable[[int], bool] = is_free,
        find: Callable[[], int] = any_free,
    ) -> None:
        self._last = dict(remembered or {})
        self._remember = remember
        self._free = free
        self._find = find
        self._taken: set[int] = set()

    def take(self, key: str) -> int:
        """A port for `key`, the last one it had if that is free."""
        last = self._last.get(key)
        if last is not None and last not in self._taken and self._free(last):
            self._taken.add(last)
            return last
        for _ in range(_TRIES):
            port = self._find()
            if port not in self._taken:
                break
        self._taken.add(port)
        self._last[key] = port
        self._remember(key, port)
        return port

    def take_fixed(self, port: int) -> bool:
        """Takes just this port; False if somebody else has it."""
        if port in self._taken or not self._free(port):
            return False
        self._taken.add(port)
        return True

    def give_back(self, port: int) -> None:
        """The port may be handed out again."""
        self._taken.discard(port)
