# SPDX-License-Identifier: Apache-2.0
"""Every exchange recorded from Triton, against a live server of the recorded profile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conformance import differences
from tests.conformance.outcomes import AGREES, BETTER, Servers
from tests.conformance.vectors import Case, cases

CASES = list(cases())


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.stop()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=[f"{case.theme}-{case.id}" for case in CASES])
def test_the_answer_is_the_recorded_one_or_the_promised_better_one(
    case: Case, servers: Servers
) -> None:
    word, told = servers.outcome(case)
    assert word in (AGREES, BETTER), "\n".join(told)


def test_every_listed_case_exists() -> None:
    known = {name for case in cases() for name in (case.id, f"{case.theme}/{case.id}")}
    assert set(differences.MENDED) <= known
