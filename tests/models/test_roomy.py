"""Deep calls of a load do not take memory from the system and give it back again and again."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable

import pytest

from nerite.models.roomy import roomy


def faults_of_calls_at(depth: int) -> int:
    """Pages that were touched for the first time by a loop of calls so deep in the stack."""

    def leaf(n: int) -> int:
        return leaf(n - 1) if n else 0

    def go(n: int) -> int:
        if n:
            return go(n - 1)
        leaf(20)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(200):
            leaf(20)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    return go(depth)


def in_thread(call: Callable[[Callable[[], list[int]]], list[int]]) -> list[int]:
    told: list[int] = []

    def work() -> list[int]:
        return list(map(faults_of_calls_at, range(0, 400, 5)))

    thread = threading.Thread(target=lambda: told.extend(call(work)))
    thread.start()
    thread.join()
    return told


def test_with_room_no_depth_makes_calls_fault() -> None:
    if max(in_thread(lambda work: work())) < 200:
        pytest.skip("this Python keeps its chunks; where all do, roomy can go")
    assert max(in_thread(roomy)) < 100


def test_it_gives_what_the_work_gives_and_raises_what_it_raises() -> None:
    assert roomy(lambda: 7) == 7
    with pytest.raises(KeyError):
        roomy(lambda: {}["x"])
