# SPDX-License-Identifier: Apache-2.0
"""What one run of a load generator counted, in the same words for both generators."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """The generator's own account of a run."""

    requests: int
    seconds: float
    received_bytes: int  # wrk counts headers too, h2load only message data
    failed: int  # no answer, a broken one, or a status other than 2xx
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A run, and the CPU time that the server used meanwhile."""

    load: Load
    cpu_seconds: float

    @property
    def cpu_us(self) -> float:
        """Microseconds of server CPU per completed request."""
        return self.cpu_seconds * 1e6 / self.load.requests

    @property
    def rate(self) -> float:
        """Completed requests per second."""
        return self.load.requests / self.load.seconds
