# SPDX-License-Identifier: Apache-2.0
"""What became of a case: it agrees, Nerite does better, or it disagrees."""

from __future__ import annotations

import dataclasses

from tests.conformance import differences
from tests.conformance.playing import Play
from tests.conformance.servers import Running, start
from tests.conformance.vectors import Case, profiles

from nerite.errors import NeriteError

AGREES, BETTER, DISAGREES = WORDS = ("agrees", "better", "disagrees")


class Servers:
    """One running server a profile, and a new one for each case that wants it."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}

    def outcome(self, case: Case) -> tuple[str, list[str]]:
        """A word, and the differences behind it."""
        try:
            running = self._of(case)
        except NeriteError as refused:
            return DISAGREES, [f"the server does not start: {refused}"]
        try:
            return _judge(case, Play(running))
        finally:
            if case.fresh:
                running.stop()

    def stop(self) -> None:
        """Ends them all."""
        for running in self._running.values():
            running.stop()
        self._running.clear()

    def _of(self, case: Case) -> Running:
        profile = profiles()[case.profile]
        if case.fresh:
            return start(profile)
        if case.profile not in self._running:
            self._running[case.profile] = start(profile)
        return self._running[case.profile]


def _judge(case: Case, play: Play) -> tuple[str, list[str]]:
    if differences.is_mended(case):
        told = differences.mended_difference(case, play.answers(case))
        return (DISAGREES, [told]) if told else (BETTER, [])
    if differences.answers_wrong_form(case):
        steps = tuple(differences.blamed_on_the_client(step) for step in case.steps)
        told_all = play.differences(dataclasses.replace(case, steps=steps))
        return (DISAGREES, told_all) if told_all else (BETTER, [])
    told_all = play.differences(case)
    return (DISAGREES, told_all) if told_all else (AGREES, [])
