# SPDX-License-Identifier: Apache-2.0
"""`pb_utils.Logger`: a model's lines in the server's log, under the server's levels."""

from __future__ import annotations

import logging
from typing import Final

_log = logging.getLogger("nerite.model")

VERBOSE: Final = logging.DEBUG


class Logger:
    """Writes to the server's log; every line carries the place in the model that wrote it."""

    INFO: Final = logging.INFO
    WARNING: Final = logging.WARNING
    ERROR: Final = logging.ERROR
    VERBOSE: Final = VERBOSE

    @staticmethod
    def log(message: str, level: int = logging.INFO) -> None:
        """Writes a line at one of the levels that are constants of this class."""
        _log.log(level, "%s", message, stacklevel=2)

    @staticmethod
    def log_info(message: str) -> None:
        """Writes an information."""
        _log.info("%s", message, stacklevel=2)

    @staticmethod
    def log_warn(message: str) -> None:
        """Writes a warning."""
        _log.warning("%s", message, stacklevel=2)

    @staticmethod
    def log_error(message: str) -> None:
        """Writes an error."""
        _log.error("%s", message, stacklevel=2)

    @staticmethod
    def log_verbose(message: str) -> None:
        """Writes a line that only `--log-verbose=1` shows."""
        _log.log(VERBOSE, "%s", message, stacklevel=2)
