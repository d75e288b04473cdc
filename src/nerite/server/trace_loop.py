# SPDX-License-Identifier: Apache-2.0
"""Carry finished traces from the data plane to where they are kept.

One thread, started with the first rule that traces anything, takes them in batches and gives them
to a sink: files (`trace_file`) or an OpenTelemetry collector (`trace_export`). A sink that fails
costs traces, never requests.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from nerite.server.trace_file import TraceFile
from nerite.server.trace_options import Trace, TraceRule
from nerite.server.trace_settings import TraceSettings

_log = logging.getLogger(__name__)


class Traces(Protocol):
    """The part of `nerite._core.Engine` that traces need."""

    def set_tracing(self, settings: str, clock_ns: int) -> None: ...
    def traces_left(self) -> dict[str, int]: ...
    def next_traces(self, timeout_secs: float) -> list[dict[str, Any]] | None: ...


class Sink(Protocol):
    """Where traces go; called on one thread."""

    def write(self, traces: Sequence[Trace]) -> None: ...
    def close(self) -> None: ...


class TraceLoop:
    """Keeps the data plane's rules and a sink in step with the settings."""

    def __init__(self, engine: Traces, settings: TraceSettings) -> None:
        """Raises `Unsupported` if the sink needs a package that is not there."""
        self._engine = engine
        self._settings = settings
        self._sink = _sink_of(settings)
        self._thread: threading.Thread | None = None
        settings.changed = self.apply
        settings.left = engine.traces_left

    def apply(self) -> None:
        """Hands the rules on; begins to take traces once there may be some."""
        rules = self._settings.rules()
        told = {
            "propagated": self._settings.options.mode == "opentelemetry",
            "rules": {name: _told(rule) for name, rule in rules.items()},
        }
        if self._thread is None and not any(rule.levels for rule in rules.values()):
            return
        self._engine.set_tracing(json.dumps(told), time.monotonic_ns())
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="nerite-traces", daemon=True)
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """Waits, once the engine has stopped, until what was traced is kept."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _loop(self) -> None:
        while (traces := self._engine.next_traces(60.0)) is not None:
            if traces:
                self._guarded(lambda taken=traces: self._sink.write(taken))
        self._guarded(self._sink.close)

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except Exception as why:
            _log.error("traces are lost: %s", why)


def _told(rule: TraceRule) -> dict[str, Any]:
    return {
        "rate": rule.rate,
        "count": rule.count,
        "timestamps": "TIMESTAMPS" in rule.levels,
        "tensors": "TENSORS" in rule.levels,
        "log_frequency": rule.log_frequency,
    }


def _sink_of(settings: TraceSettings) -> Sink:
    if settings.options.mode == "triton":
        return TraceFile(settings.options.file)
    from nerite.server.trace_export import TraceExport

    return TraceExport(settings.options)
