"""The order of jobs, and what goes with which model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.models.test_lifecycle import IDENTITY, states_of

from nerite.errors import Unavailable
from nerite.models.control import ModelControl
from nerite.models.dependents import fallen, orphans, with_needs
from nerite.models.jobs import Jobs
from nerite.models.lifecycle import Lifecycle
from nerite.models.options import LoadOptions
from nerite.models.repository import Repository
from nerite.models.states import StateTable
from nerite.stores.local import LocalStore

NEEDS = {"ens": {"a", "b"}, "top": {"ens"}, "other": {"b"}, "a": set(), "b": set()}


def test_jobs_of_one_model_keep_their_order_and_others_pass() -> None:
    jobs = Jobs(2)
    told: list[str] = []
    gate = threading.Event()
    first = jobs.submit("m", lambda: gate.wait(10) and told.append("first"))
    second = jobs.submit("m", lambda: told.append("second"))
    jobs.submit("n", lambda: told.append("other")).result(10)
    assert told == ["other"]
    assert not second.done()
    gate.set()
    second.result(10)
    assert first.done()
    assert told == ["other", "first", "second"]


def test_no_more_jobs_run_at_a_time_than_there_may() -> None:
    jobs = Jobs(2)
    started, gate = threading.Semaphore(0), threading.Event()

    def work() -> None:
        started.release()
        assert gate.wait(10)

    done = [jobs.submit(name, work) for name in "abc"]
    assert started.acquire(timeout=10)
    assert started.acquire(timeout=10)
    assert not started.acquire(blocking=False)
    gate.set()
    for each in done:
        each.result(10)
    assert started.acquire(blocking=False)


def test_a_job_that_waits_for_another_lends_its_place() -> None:
    jobs = Jobs(1)

    def outer() -> str:
        inner = jobs.submit("needed", lambda: "loaded")
        with jobs.away():
            return inner.result(10)

    assert jobs.submit("m", outer).result(10) == "loaded"
    assert jobs.submit("m", lambda: 7).result(10) == 7


def test_a_job_that_fails_is_told_and_stops_nobody() -> None:
    jobs = Jobs(1)

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        jobs.submit("m", fails).result(10)
    assert jobs.submit("m", lambda: 1).result(10) == 1


def test_closed_jobs_are_refused_and_dropped() -> None:
    jobs, gate = Jobs(1), threading.Event()
    running = jobs.submit("m", lambda: gate.wait(10))
    waiting = jobs.submit("m", lambda: 1)
    jobs.close()
    assert waiting.cancelled()
    with pytest.raises(Unavailable, match="model 'n' cannot be loaded or unloaded now"):
        jobs.submit("n", lambda: 1)
    gate.set()
    assert running.result(10)


def test_what_is_needed_comes_first_and_rings_end() -> None:
    assert with_needs("top", lambda name: sorted(NEEDS[name])) == ["a", "b", "ens", "top"]
    ring: Mapping[str, list[str]] = {"x": ["y"], "y": ["x"]}
    assert with_needs("x", ring.__getitem__) == ["y", "x"]


def test_what_needs_a_model_falls_with_it() -> None:
    assert fallen("a", NEEDS) == ["ens", "top"]
    assert fallen("b", NEEDS) == ["ens", "other", "top"]
    assert fallen("top", NEEDS) == []


def test_only_what_nobody_else_wants_goes_along() -> None:
    assert orphans(["top"], NEEDS, wanted={"top"}) == ["ens", "a"]
    assert orphans(["top"], NEEDS, wanted={"top", "ens"}) == []
    assert orphans(["top", "other"], NEEDS, wanted={"top", "other"}) == ["ens", "a", "b"]
    assert orphans(["a"], NEEDS, wanted=set()) == []


ENSEMBLE = """platform: "ensemble"
input [ {{ name: "A" data_type: TYPE_FP32 dims: [ 1 ] }} ]
output [ {{ name: "B" data_type: TYPE_FP32 dims: [ 1 ] }} ]
ensemble_scheduling {{ step [ {{ model_name: "{step}" model_version: -1
  input_map {{ key: "INPUT0" value: "A" }} output_map {{ key: "OUTPUT0" value: "B" }} }} ] }}
"""


def controlled(engine: Any, folder: Path) -> tuple[ModelControl, StateTable]:
    states, options = StateTable(), LoadOptions(threads=2)
    lifecycle = Lifecycle(engine, states, options)
    return ModelControl(Repository([LocalStore(folder)]), lifecycle, states, options), states


def test_an_ensemble_loads_what_it_calls(tmp_path: Path, engine: Any, write: Any) -> None:
    write(tmp_path / "m", {"config.pbtxt": IDENTITY, "1/": None})
    write(tmp_path / "ens", {"config.pbtxt": ENSEMBLE.format(step="m"), "1/": None})
    control, states = controlled(engine, tmp_path)
    control.load("ens").result(10)
    assert states_of(states)["m"] == "READY"


def test_ensembles_in_a_ring_do_not_wait_for_each_other(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    write(tmp_path / "x", {"config.pbtxt": ENSEMBLE.format(step="y"), "1/": None})
    write(tmp_path / "y", {"config.pbtxt": ENSEMBLE.format(step="x"), "1/": None})
    control, states = controlled(engine, tmp_path)
    both = [control.load("x"), control.load("y")]
    assert all(each.result(10) is not None for each in both)
    assert set(states_of(states)) == {"x", "y"}
