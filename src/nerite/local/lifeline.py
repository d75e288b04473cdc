# SPDX-License-Identifier: Apache-2.0
"""What to do next about one process: start it, ask whether it is ready, end it.

A `Lifeline` is told what happened and when, and answers with actions; it has no clock and no
process. Restarts wait as Kubernetes' do (doubling, forgotten after a steady while), only from half
a second on instead of ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """Where a process is in its life."""

    WAITING = "waiting"
    """Not started yet, or ended and to be started again later."""
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    """It was ready, runs, and does not answer any more."""
    FAILING = "failing"
    """It is ended to be started anew, because it does not live any more."""
    STOPPING = "stopping"
    ENDED = "ended"


class Action(Enum):
    """What the supervisor does for a lifeline."""

    SPAWN = "spawn"
    PROBE = "probe"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what, in seconds."""

    first_delay: float = 0.5
    longest_delay: float = 60.0
    steady_after: float = 60.0
    """A process that ran so long is started again as if it had never failed."""
    probe_starting: float = 0.05
    """At first; later a twentieth of the time since the start, which is what is lost at most."""
    probe_ready: float = 10.0
    misses: int = 3
    """So many probes in a row fail before a ready process is called unready."""
    grace: float = 30.0
    """Between SIGTERM and SIGKILL."""
    linger: float = 0.25
    """From the moment at which a model is not asked any more to its unloading."""

    def after_failures(self, before: int) -> float:
        """The pause after a fetch or a load that failed, as others had `before` it."""
        return min(self.longest_delay, 2 * self.first_delay * 2.0 ** min(before, 30))


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; `code` as a shell tells it (137 is SIGKILL)."""

    code: int
    at: float
    message: str = ""
    was_ready: bool = False


@dataclass(slots=True)
class Lifeline:
    """One process that shall run until `stop`."""

    patience: Patience
    phase: Phase = Phase.WAITING
    due: float = 0.0
    """When something is to be done next, unless something happens before."""
    since: float = 0.0
    failures: int = 0
    restarts: int = 0
    missed: int = 0
    last_exit: Exit | None = None
    killed: bool = False
    verdict: str = ""
    """Why it is ended, if that was decided here."""
    was_ready: bool = False
    """Whether it had been ready when that was decided."""

    def act(self, now: float) -> Action | None:
        """What is to be done now; it counts as done."""
        if self.phase is Phase.ENDED or now < self.due:
            return None
        if self.phase is Phase.WAITING:
            self.phase, self.since, self.missed = Phase.STARTING, now, 0
            self.killed, self.verdict = False, ""
            self.due = now + self.patience.probe_starting
            return Action.SPAWN
        if self.phase in (Phase.STOPPING, Phase.FAILING):
            if self.killed:
                self.due = float("inf")
                return None
            self.killed, self.due = True, float("inf")
            return Action.KILL
        # The answer sets the next time; without one (a prober that died) it is asked again later.
        self.due = now + self.patience.grace
        return Action.PROBE

    def probed(self, ready: bool, now: float) -> None:
        """A probe was answered."""
        if self.phase not in (Phase.STARTING, Phase.READY, Phase.UNREADY):
            return
        if ready:
            if self.phase is Phase.STARTING:
                self.since = now
            self.phase, self.missed = Phase.READY, 0
            self.due = now + self.patience.probe_ready
            return
        self.missed += 1
        if self.phase is Phase.READY:
            if self.missed >= self.patience.misses:
                self.phase = Phase.UNREADY
            self.due = now + min(1.0, self.patience.probe_ready)
            return
        self.due = now + min(1.0, max(self.patience.probe_starting, (now - self.since) / 20))

    def exited(self, code: int, now: float, message: str = "") -> None:
        """The process is gone."""
        if self.phase is Phase.STOPPING:
            self.phase, self.due = Phase.ENDED, float("inf")
            return
        if self.phase is Phase.ENDED:
            return
        was_ready = self.was_ready if self.verdict else self.phase in (Phase.READY, Phase.UNREADY)
        if was_ready and now - self.since >= self.patience.steady_after:
            self.failures = 0
        delay = min(self.patience.longest_delay, self.patience.first_delay * 2**self.failures)
        told = f"{self.verdict}; {message}".removesuffix("; ") if self.verdict else message
        self.last_exit = Exit(code, now, told, was_ready)
        self.failures = min(self.failures + 1, 30)
        self.restarts += 1
        self.phase, self.due = Phase.WAITING, now + delay

    def hung(self, verdict: str, now: float, grace: float | None = None) -> Action | None:
        """It lives no more, though it runs: what is to be done at once, so that it starts anew."""
        if self.phase not in (Phase.STARTING, Phase.READY, Phase.UNREADY):
            return None
        self.was_ready, self.verdict = self.phase is not Phase.STARTING, verdict
        self.phase = Phase.FAILING
        self.due = now + (self.patience.grace if grace is None else grace)
        return Action.TERMINATE

    def stop(self, now: float) -> Action | None:
        """It shall end: what is to be done at once."""
        if self.phase in (Phase.STOPPING, Phase.ENDED):
            return None
        if self.phase is Phase.WAITING:
            self.phase, self.due = Phase.ENDED, float("inf")
            return None
        self.phase, self.due = Phase.STOPPING, now + self.patience.grace
        return Action.TERMINATE

    @property
    def has_failed(self) -> bool:
        """Whether it ended without ever having been ready, and has not become ready since."""
        last = self.last_exit
        return self.phase is not Phase.READY and last is not None and not last.was_ready
