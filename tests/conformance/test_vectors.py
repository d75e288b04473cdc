# SPDX-License-Identifier: Apache-2.0
"""Every exchange recorded from Triton, against a live server of the recorded profile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conformance import differences
from tests.conformance.outcomes import AGREES, BETTER, DISAGREES, Servers
from tests.conformance.vectors import Case, cases

NOW = [case for case in cases() if not differences.later(case)]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.stop()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", NOW, ids=[f"{case.theme}-{case.id}" for case in NOW])
def test_the_answer_is_the_recorded_one_or_the_promised_better_one(
    case: Case, servers: Servers
) -> None:
    word, told = servers.outcome(case)
    assert word in (AGREES, BETTER), "\n".join(told)


def test_every_listed_case_exists() -> None:
    known = {name for case in cases() for name in (case.id, f"{case.theme}/{case.id}")}
    assert set(differences.MENDED) | set(differences.LATER) <= known
    assert set(differences.LATER_THEMES) <= {case.theme for case in cases()}


@pytest.mark.parametrize("case_id", sorted(differences.LATER))
def test_a_case_that_waits_does_not_agree_already(case_id: str, servers: Servers) -> None:
    case = next(case for case in cases() if case.id == case_id)
    assert servers.outcome(case, forced=True)[0] == DISAGREES
