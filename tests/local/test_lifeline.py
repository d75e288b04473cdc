"""What is done about one process, told by the clock of the test."""

from __future__ import annotations

import pytest

from nerite.local.lifeline import Action, Lifeline, Patience, Phase

PATIENCE = Patience()


def started() -> Lifeline:
    life = Lifeline(PATIENCE)
    assert life.act(0.0) is Action.SPAWN
    return life


def ready(at: float = 1.0) -> Lifeline:
    life = started()
    assert life.act(at) is Action.PROBE
    life.probed(True, at)
    assert life.phase is Phase.READY
    return life


def test_it_is_asked_whether_it_is_ready_until_it_is() -> None:
    life = started()
    assert life.act(0.0) is None
    assert life.act(0.1) is Action.PROBE
    assert life.act(0.1) is None
    life.probed(False, 0.2)
    assert life.phase is Phase.STARTING
    assert 0.2 < life.due < 0.4
    assert life.act(life.due) is Action.PROBE
    life.probed(True, 0.5)
    assert life.phase is Phase.READY


def test_a_slow_start_is_asked_about_once_a_second_at_last() -> None:
    life = started()
    for _ in range(60):
        life.probed(False, 100.0)
    assert life.due == 101.0


@pytest.mark.parametrize("moment", [0.3, 0.6, 1.5, 4.0, 15.0])
def test_little_of_a_start_is_lost_by_asking_too_late(moment: float) -> None:
    life, now = started(), 0.0
    while life.phase is Phase.STARTING:
        now = life.due
        assert life.act(now) is Action.PROBE
        life.probed(now >= moment, now)
    assert now - moment <= max(0.05, moment / 20 * 1.06)


def test_a_crash_is_repaired_after_growing_pauses() -> None:
    life = started()
    pauses = []
    now = 0.0
    for _ in range(10):
        life.exited(1, now)
        assert life.phase is Phase.WAITING
        pauses.append(life.due - now)
        now = life.due
        assert life.act(now - 0.01) is None
        assert life.act(now) is Action.SPAWN
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert life.restarts == 10


def test_a_steady_process_starts_anew_without_a_grudge() -> None:
    life = ready()
    life.failures = 5
    life.exited(137, 1.0 + PATIENCE.steady_after)
    assert life.due == pytest.approx(1.0 + PATIENCE.steady_after + 0.5)
    assert life.last_exit is not None
    assert (life.last_exit.code, life.last_exit.was_ready) == (137, True)
    assert not life.has_failed


def test_one_that_never_was_ready_has_failed_until_it_is() -> None:
    life = started()
    life.exited(1, 0.2, "no such model")
    assert life.has_failed
    assert life.act(0.7) is Action.SPAWN
    assert life.has_failed
    life.probed(True, 1.0)
    assert not life.has_failed


def test_a_hanging_process_is_unready_after_three_misses_and_ready_again_at_once() -> None:
    life = ready()
    assert life.act(11.0) is Action.PROBE
    for at in (13.0, 14.0):
        life.probed(False, at)
        assert life.phase is Phase.READY
    life.probed(False, 15.0)
    assert life.phase is Phase.UNREADY
    life.probed(True, 16.0)
    assert life.phase is Phase.READY


def test_the_stop_is_asked_for_first_and_forced_after_the_grace() -> None:
    life = ready()
    assert life.stop(10.0) is Action.TERMINATE
    assert life.stop(10.5) is None
    assert life.act(10.0 + PATIENCE.grace - 0.1) is None
    assert life.act(10.0 + PATIENCE.grace) is Action.KILL
    assert life.act(1e9) is None
    life.exited(137, 41.0)
    assert life.phase is Phase.ENDED
    assert life.restarts == 0


def test_a_stop_between_two_starts_ends_it_at_once() -> None:
    life = started()
    life.exited(1, 0.1)
    assert life.stop(0.2) is None
    assert life.phase is Phase.ENDED
    assert life.act(1e9) is None


def test_a_late_answer_says_nothing() -> None:
    life = started()
    life.exited(1, 0.1)
    life.probed(True, 0.2)
    assert life.phase is Phase.WAITING


def test_one_that_hangs_is_ended_and_started_anew() -> None:
    life = ready()
    assert life.hung("its liveness probe failed", 10.0, grace=1.0) is Action.TERMINATE
    assert life.hung("again", 10.5) is None
    life.probed(True, 10.6)
    assert life.phase is Phase.FAILING
    assert life.act(11.0) is Action.KILL
    assert life.act(1e9) is None
    life.exited(137, 11.5, "last words")
    assert (life.phase, life.due, life.restarts) == (Phase.WAITING, 12.0, 1)
    assert life.last_exit is not None
    assert life.last_exit.was_ready
    assert life.last_exit.message == "its liveness probe failed; last words"
    assert life.act(12.0) is Action.SPAWN
    life.exited(1, 12.5, "another reason")
    assert (life.last_exit.message, life.last_exit.was_ready) == ("another reason", False)


def test_one_that_hangs_and_is_stopped_ends() -> None:
    life = ready()
    life.hung("its liveness probe failed", 10.0)
    assert life.stop(11.0) is Action.TERMINATE
    life.exited(0, 12.0)
    assert life.phase is Phase.ENDED
