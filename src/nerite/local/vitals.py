# SPDX-License-Identifier: Apache-2.0
"""Whether a process that runs still lives, asked as the kubelet asks.

Until the startup probe has been answered once nothing else is asked; then the liveness probe is
asked again and again. So many failures in a row as the probe says, and the process is to be ended
and started anew. `Vitals` is told what happened and when; it has no clock and no process.
"""

from __future__ import annotations

from dataclasses import dataclass

from nerite.local.containers import Probe

_NEVER = float("inf")
#: A prober that died answers nothing; then it is asked again after so long.
_LOST_SECS = 30.0


@dataclass(slots=True)
class Vitals:
    """The startup and liveness probes of one process."""

    startup: Probe | None = None
    liveness: Probe | None = None
    due: float = _NEVER
    missed: int = 0
    started: bool = False
    """Whether there is no startup probe, or it was answered."""

    def begin(self, now: float) -> None:
        """The process was started."""
        self.started = self.startup is None
        self.missed = 0
        self._wait(now)

    def end(self) -> None:
        """The process is gone, or is ended already."""
        self.due = _NEVER

    def ready(self, now: float) -> None:
        """The process was seen to be ready."""
        liveness = self.liveness
        if self.started and liveness and liveness.once_ready and self.due == _NEVER:
            self.due = now + liveness.period

    def ask(self, now: float) -> Probe | None:
        """The probe that is due now; it counts as asked."""
        probe = self._asked()
        if probe is None or now < self.due:
            return None
        self.due = now + probe.timeout + _LOST_SECS
        return probe

    def answered(self, alive: bool, now: float) -> bool:
        """A probe was answered; whether the process is to be ended."""
        probe = self._asked()
        if probe is None or self.due == _NEVER:
            return False
        if alive:
            self.missed = 0
            if not self.started:
                self.started = True
                self._wait(now)
                return False
        else:
            self.missed += 1
            if self.missed >= probe.failures:
                self.due = _NEVER
                return True
        self.due = now + probe.period
        return False

    def why(self) -> str:
        """What is told of a process that is ended."""
        kind, probe = ("liveness", self.liveness) if self.started else ("startup", self.startup)
        asked = f"GET {probe.path}" if probe and probe.path else "a connection"
        return f"its {kind} probe ({asked}) failed {self.missed} times in a row"

    def _asked(self) -> Probe | None:
        return self.liveness if self.started else self.startup

    def _wait(self, now: float) -> None:
        probe = self._asked()
        waits = probe is None or probe.once_ready
        self.due = _NEVER if probe is None or waits else now + probe.delay
