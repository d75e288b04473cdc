# SPDX-License-Identifier: Apache-2.0
"""Keep the data plane's API keys those of their file, while both live.

A thread looks at the file's identity now and then, which also sees a mounted secret that is swapped
by a symbolic link. A file that became wrong, or went away, changes nothing but the log.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from nerite.errors import ConfigError
from nerite.server.key_file import read_keys

_log = logging.getLogger(__name__)

#: How often the file is looked at.
INTERVAL_SECS = 1.0

_Identity = tuple[int, int, int] | None


class KeyWatch:
    """The keys of a file, handed to `set_keys` now and whenever the file changes."""

    def __init__(self, file: str | Path, set_keys: Callable[[str], None]) -> None:
        """Hands the keys over at once.

        Raises:
            ConfigError: The file cannot be read, or is wrong.
        """
        self._file = Path(file)
        self._set_keys = set_keys
        self._stopped = threading.Event()
        # Before the file is read: what changes meanwhile is seen the next time.
        self._seen = self._identity()
        self._hand_over()
        self._thread = threading.Thread(target=self._watch, name="nerite-keys", daemon=True)
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Ends the watch."""
        self._stopped.set()
        self._thread.join(timeout)

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_SECS):
            now = self._identity()
            if now == self._seen:
                continue
            self._seen = now
            try:
                self._hand_over()
            except ConfigError as error:
                for problem in error.problems:
                    _log.error("API keys stay as they were: %s", problem)

    def _hand_over(self) -> None:
        keys = read_keys(self._file)
        self._set_keys(json.dumps([key.to_dict() for key in keys]))
        _log.info("%d API keys of %s are in force", len(keys), self._file)

    def _identity(self) -> _Identity:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
