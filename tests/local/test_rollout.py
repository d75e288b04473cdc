"""Which copies run while a component changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerite.local.rollout import CopyState, Step, next_step

OLD = CopyState(1, "a", ready=True)
ALSO_OLD = CopyState(3, "a", ready=True)
NEW = CopyState(2, "b")
NEW_READY = CopyState(2, "b", ready=True)


@pytest.mark.parametrize(
    ("wanted", "copies", "step"),
    [
        (["a"], [], Step(start=("a",))),
        (["a"], [OLD], Step(serving=(("a", 1),))),
        (["b"], [OLD], Step(start=("b",), serving=((None, 1),))),
        (["b"], [OLD, NEW], Step(serving=((None, 1),))),
        (["b"], [OLD, NEW_READY], Step(stop=(1,), serving=(("b", 2),))),
        # The change is taken back, or replaced, before it was ready.
        (["a"], [OLD, NEW], Step(stop=(2,), serving=(("a", 1),))),
        (["c"], [OLD, NEW], Step(start=("c",), stop=(2,), serving=((None, 1),))),
        ([], [OLD, NEW], Step(stop=(1, 2))),
        # A copy that is ending does not count, even if its revision is wanted again.
        (["a"], [CopyState(1, "a", True, stopping=True)], Step(start=("a",))),
        # Canary: both are wanted, and until the new one is ready the old one has it all.
        (["b", "a"], [OLD], Step(start=("b",), serving=(("a", 1),))),
        (["b", "a"], [OLD, NEW], Step(serving=(("a", 1),))),
        (["b", "a"], [OLD, NEW_READY], Step(serving=(("b", 2), ("a", 1)))),
        # Two copies of each: what is missing is started, the old ones stay until all are ready.
        (["a", "a"], [OLD], Step(start=("a",), serving=(("a", 1),))),
        (["b", "b"], [OLD, ALSO_OLD], Step(start=("b", "b"), serving=((None, 1), (None, 3)))),
        (["b", "b"], [OLD, NEW_READY], Step(start=("b",), serving=(("b", 2),))),
        (["a"], [OLD, ALSO_OLD], Step(stop=(3,), serving=(("a", 1),))),
        # Fewer are wanted: those that are not ready go first.
        (["a"], [CopyState(1, "a"), ALSO_OLD], Step(stop=(1,), serving=(("a", 3),))),
    ],
)
def test_the_next_step(wanted: list[str], copies: list[CopyState], step: Step) -> None:
    assert next_step(wanted, copies) == step


def test_one_that_others_talk_to_stays() -> None:
    assert next_step(["b"], [OLD, NEW_READY], in_use={1}) == Step(serving=(("b", 2),))


def test_on_a_fixed_port_the_old_one_ends_first() -> None:
    assert next_step(["b"], [OLD], alone=True) == Step(stop=(1,))
    ending = CopyState(1, "a", True, stopping=True)
    assert next_step(["b"], [ending], alone=True) == Step()
    assert next_step(["b"], [], alone=True) == Step(start=("b",))


@given(
    st.lists(st.sampled_from("abc"), max_size=6).map(lambda spec: [*spec, "d"]),
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.booleans(),
    st.integers(1, 3),
)
def test_from_any_history_the_ready_copies_of_what_is_wanted_are_left(
    history: list[str], luck: list[bool], alone: bool, count: int
) -> None:
    """Each round does the step, lets copies become ready or end, or not; an answer is never lost.

    Once something has been ready, something ready serves until the end (unless ports are fixed).
    """
    count = 1 if alone else count
    copies: dict[int, CopyState] = {}
    number, answered = 0, False
    for turn in range(60):
        wanted = history[min(turn // 4, len(history) - 1)]
        step = next_step([wanted] * count, list(copies.values()), alone=alone)
        if not alone:
            answered = answered or bool(step.serving)
            assert bool(step.serving) == answered
        for _, serving in step.serving:
            assert copies[serving].ready
            assert not copies[serving].stopping
            assert serving not in step.stop
        for stopped in step.stop:
            copy = copies[stopped]
            copies[stopped] = CopyState(copy.number, copy.revision, copy.ready, stopping=True)
        for revision in step.start:
            number += 1
            copies[number] = CopyState(number, revision)
        for key, copy in list(copies.items()):
            if luck[(turn * 7 + key) % len(luck)] or turn > 40:
                if copy.stopping:
                    del copies[key]
                elif not copy.ready:
                    copies[key] = CopyState(copy.number, copy.revision, ready=True)
    left = [(copy.revision, copy.ready) for copy in copies.values()]
    assert left == [("d", True)] * count


def test_an_old_copy_that_crashed_is_waited_for_while_the_new_one_has_never_run() -> None:
    crashed, new = CopyState(1, "old", proven=True), CopyState(2, "new")
    assert next_step(["new"], [crashed, new]) == Step()
    assert next_step(["new"], [CopyState(1, "old"), new]) == Step(stop=(1,))
    ready = CopyState(2, "new", ready=True)
    assert next_step(["new"], [crashed, ready]) == Step(stop=(1,), serving=(("new", 2),))
