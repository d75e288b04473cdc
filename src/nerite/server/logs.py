# SPDX-License-Identifier: Apache-2.0
"""The server's log, in Triton's two text formats or as JSON lines.

Everything in Nerite writes to Python's logger `nerite` and below; nothing is attached to it until
a process asks for a log here. A program that uses `nerite.Server` as a library sets up its own.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nerite.server import environment

if TYPE_CHECKING:
    from nerite.server.options import ServerOptions

_LETTERS = {logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}
ROOT = "nerite"


@contextmanager
def log_of(options: ServerOptions) -> Iterator[None]:
    """Writes the log as the options say for as long as the block lasts."""
    logger = logging.getLogger(ROOT)
    handler = (
        logging.FileHandler(options.log_file, encoding="utf-8")
        if options.log_file
        else logging.StreamHandler(sys.stderr)
    )
    handler.setFormatter(formatter(options.log_format))
    handler.addFilter(_Levels(options))
    before = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG if options.log_verbose else logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]


def formatter(name: str) -> logging.Formatter:
    """The formatter of a log format: `default`, `ISO8601` or `json`."""
    if name == "json":
        return JsonFormatter()
    return TextFormatter(iso=name == "ISO8601", escape=environment.escapes_logs())


class TextFormatter(logging.Formatter):
    """Triton's lines: `I1123 03:46:05.704951 24773 server.py:79] "text"`."""

    def __init__(self, *, iso: bool, escape: bool) -> None:
        super().__init__()
        self._iso = iso
        self._escape = escape

    def format(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelno, "I")
        when = time.gmtime(record.created)
        if self._iso:
            start = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', when)} {letter}"
        else:
            micros = int(record.created % 1 * 1_000_000)
            start = f"{letter}{time.strftime('%m%d %H:%M:%S', when)}.{micros:06d}"
        text = super().format(record)
        shown = json.dumps(text, ensure_ascii=False) if self._escape else text
        return f"{start} {record.process} {record.filename}:{record.lineno}] {shown}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{when}.{int(record.created % 1 * 1_000_000):06d}Z",
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "file": record.filename,
            "line": record.lineno,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Levels(logging.Filter):
    """Lets through the levels that are switched on, each by itself as Triton has it."""

    def __init__(self, options: ServerOptions) -> None:
        super().__init__()
        self._on = {
            logging.DEBUG: options.log_verbose > 0,
            logging.INFO: options.log_info,
            logging.WARNING: options.log_warning,
            logging.ERROR: options.log_error,
        }

    def filter(self, record: logging.LogRecord) -> bool:
        return self._on.get(record.levelno, True)
