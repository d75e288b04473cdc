# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about traces at the start (`--trace-config`, `spec` 7.3), and its rules.

What may change while the server runs is a `TraceRule`; `trace_settings` keeps those. Levels without
a rate or a place to go are refused here as they are refused there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nerite.errors import InvalidArgument

MODES = ("triton", "opentelemetry")
LEVELS = ("TIMESTAMPS", "TENSORS")

Trace = Mapping[str, Any]
"""One trace, as `nerite._core.Engine.next_traces` describes it."""


@dataclass(frozen=True, slots=True)
class TraceRule:
    """Which requests are traced, and when their traces go to a file of their own."""

    levels: tuple[str, ...] = ()
    """`TIMESTAMPS`, `TENSORS`, both, or neither: then nothing is traced."""
    rate: int = 1000
    """One of how many requests; 0 is none but those that bring a trace context."""
    count: int = -1
    """How many in all; -1 is without end."""
    log_frequency: int = 0
    """After how many traces a new file is begun; 0 is never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """Traces as they are asked for at the start."""

    mode: str = "triton"
    """`triton`: files; `opentelemetry`: OTLP over HTTP."""
    rule: TraceRule = TraceRule()
    file: str = ""
    """Mode triton: where traces are written."""
    url: str = ""
    """Mode opentelemetry: the collector; empty is what the exporter's own variables say."""
    resource: Mapping[str, str] = field(default_factory=dict)
    """Mode opentelemetry: attributes of this server."""
    processor: Mapping[str, int] = field(default_factory=dict)
    """Mode opentelemetry: `bsp_max_queue_size`, `bsp_schedule_delay` (milliseconds),
    `bsp_max_export_batch_size`."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidArgument(
                f"trace mode is '{self.mode}'; one of {', '.join(MODES)} is expected"
            )
        if self.rule.rate or self.mode != "triton":
            # With rate 0 the level only waits for a rate, as Triton has it at the start.
            self.check(self.rule)

    def check(self, rule: TraceRule) -> None:
        """Refuses a rule that could not do what it says."""
        if not rule.levels:
            return
        reason = ""
        if self.mode == "triton" and rule.rate == 0:
            reason = "sample rate must be non-zero"
        elif self.mode == "triton" and not self.file:
            reason = "trace file name is not given"
        elif self.mode == "opentelemetry" and "TENSORS" in rule.levels:
            reason = "opentelemetry has no level TENSORS"
        if reason:
            raise InvalidArgument(f"Attempting to set invalid trace setting :{reason}")
