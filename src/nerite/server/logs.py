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
    from nerite.server.log_settings import LogSettings, LogState

_LETTERS = {logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}
ROOT = "nerite"


@contextmanager
def log_of(settings: LogSettings) -> Iterator[None]:
    """Writes the log as the settings say, and go on to say, for as long as the block lasts."""
    logger = logging.getLogger(ROOT)
    file = settings.state.log_file
    handler = (
        logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    )
    before = logger.level, logger.propagate

    def apply(state: LogState) -> None:
        handler.setFormatter(formatter(state.log_format))
        logger.setLevel(logging.DEBUG if state.log_verbose_level else logging.INFO)

    apply(settings.state)
    handler.addFilter(_Levels(settings))
    logger.propagate = False
    logger.addHandler(handler)
    settings.changed = apply
    try:
        yield
    finally:
        settings.changed = lambda state: None
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
    """One JSON object per line, with `request_id` and `trace_id` where a line carries them."""

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
        for name in ("request_id", "trace_id"):
            if known := getattr(record, name, ""):
                line[name] = known
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Levels(logging.Filter):
    """Lets through the levels that are switched on, each by itself as Triton has it."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._settings = settings

    def filter(self, record: logging.LogRecord) -> bool:
        state = self._settings.state
        on = {
            logging.DEBUG: state.log_verbose_level > 0,
            logging.INFO: state.log_info,
            logging.WARNING: state.log_warning,
            logging.ERROR: state.log_error,
        }
        return on.get(record.levelno, True)
