"""Liveness and startup probes, told by the clock of the test."""

from __future__ import annotations

from nerite.local.containers import Probe
from nerite.local.vitals import Vitals

LIVENESS = Probe(8080, "/live", 10.0, "http", delay=5.0, failures=3)
STARTUP = Probe(8080, "/started", 1.0, "http", failures=4)


def test_nothing_is_asked_without_probes() -> None:
    vitals = Vitals()
    vitals.begin(0.0)
    vitals.ready(1.0)
    assert (vitals.started, vitals.due, vitals.ask(1e9)) == (True, float("inf"), None)


def test_so_many_failures_in_a_row_end_it_and_an_answer_forgives() -> None:
    vitals = Vitals(liveness=LIVENESS)
    vitals.begin(0.0)
    assert vitals.ask(4.9) is None
    now = 5.0
    for answers, verdict in (([False, False, True], False), ([False, False, False], True)):
        for alive in answers:
            assert vitals.ask(now) is LIVENESS
            assert vitals.ask(now) is None
            ended = vitals.answered(alive, now)
            now += LIVENESS.period
        assert ended is verdict
    assert vitals.why() == "its liveness probe (GET /live) failed 3 times in a row"
    assert vitals.ask(1e9) is None
    vitals.begin(100.0)
    assert (vitals.missed, vitals.ask(105.0)) == (0, LIVENESS)


def test_liveness_waits_for_the_startup_probe() -> None:
    vitals = Vitals(STARTUP, LIVENESS)
    vitals.begin(0.0)
    for now in (0.0, 1.0, 2.0):
        assert vitals.ask(now) is STARTUP
        assert not vitals.answered(False, now)
    assert not vitals.started
    assert vitals.ask(3.0) is STARTUP
    assert not vitals.answered(True, 3.0)
    assert vitals.started
    assert (vitals.ask(7.9), vitals.ask(8.0)) == (None, LIVENESS)


def test_one_that_never_starts_is_ended_too() -> None:
    vitals = Vitals(Probe(9000, failures=2))
    vitals.begin(0.0)
    assert [vitals.answered(False, now) for now in (0.0, 10.0)] == [False, True]
    assert vitals.why() == "its startup probe (a connection) failed 2 times in a row"


def test_a_nerite_is_asked_from_its_first_readiness_on() -> None:
    vitals = Vitals(liveness=Probe(8080, "/live", 10.0, "http", once_ready=True))
    vitals.begin(0.0)
    assert vitals.ask(1e9) is None
    vitals.ready(20.0)
    vitals.ready(25.0)
    assert vitals.ask(29.0) is None
    assert vitals.ask(30.0) is not None


def test_an_answer_about_one_that_is_ended_says_nothing() -> None:
    vitals = Vitals(liveness=Probe(8080, failures=1))
    vitals.begin(0.0)
    vitals.ask(0.0)
    vitals.end()
    assert not vitals.answered(False, 1.0)
