"""Starting, repairing, replacing and ending, with processes and a clock made up by the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.local.fakes import FakeChild, World, component

from nerite.kserve.storage_paths import Source

KEY = "default/irises-predictor"


def running(world: World, folder: Path, **more: object) -> None:
    world.supervisor.want([component(folder, **more)])  # type: ignore[arg-type]
    world.step()
    world.make_ready(*world.alive)


def test_a_component_is_started_and_ready_when_it_says_so(world: World, tmp_path: Path) -> None:
    world.supervisor.want([component(tmp_path)])
    world.step()
    (child,) = world.alive
    view = world.supervisor.views[KEY]
    assert view.serving == ()
    assert view.copies[0].pids == (child.pid,)
    world.make_ready(child)
    (serving,) = world.supervisor.views[KEY].serving
    assert serving.url == f"http://127.0.0.1:{world.port(child)}"


def test_a_killed_process_comes_back_on_its_port(world: World, tmp_path: Path) -> None:
    running(world, tmp_path)
    (first,) = world.alive
    first.end(137)
    world.step()
    view = world.supervisor.views[KEY]
    assert view.serving == ()
    assert not view.copies[0].failing
    assert world.alive == []
    world.step(0.5)
    (second,) = world.alive
    assert world.port(second) == world.port(first)
    world.step(2.0)
    (serving,) = world.supervisor.views[KEY].serving
    assert serving.restarts == 1


def test_why_it_failed_is_kept(world: World, tmp_path: Path) -> None:
    world.supervisor.want([component(tmp_path)])
    world.step()
    world.alive[0].on_output(b"E1 \"failed to load 'irises' version 1: Internal: no file\"\n")
    world.alive[0].end(1)
    world.step()
    (copy,) = world.supervisor.views[KEY].copies
    assert copy.failing
    assert copy.last_exit is not None
    assert copy.last_exit.message == "failed to load 'irises' version 1: Internal: no file"
    assert copy.last_exit.code == 1


def test_a_new_revision_is_ready_before_the_old_one_ends(world: World, tmp_path: Path) -> None:
    running(world, tmp_path)
    (old,) = world.alive
    world.supervisor.want([component(tmp_path, "2")])
    world.step(60.0)
    assert old.alive
    new = world.alive[1]
    assert [c.pids for c in world.supervisor.views[KEY].serving] == [(old.pid,)]
    world.make_ready(new)
    assert world.alive == [new]
    assert old.signals == ["TERM"]
    assert [c.pids for c in world.supervisor.views[KEY].serving] == [(new.pid,)]


def test_the_old_one_ends_only_after_clients_were_told_of_the_new_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(world, tmp_path)
    (old,) = world.alive
    told: list[object] = []
    terminate = FakeChild.terminate

    def noted(child: FakeChild) -> None:
        told.append([copy.pids for copy in world.supervisor.views[KEY].serving])
        terminate(child)

    monkeypatch.setattr(FakeChild, "terminate", noted)
    world.supervisor.want([component(tmp_path, "2")])
    world.step()
    new = world.alive[1]
    world.make_ready(new)
    assert told == [[(new.pid,)]]
    assert not old.alive


def test_a_revision_that_fails_leaves_the_old_one_serving(world: World, tmp_path: Path) -> None:
    running(world, tmp_path)
    (old,) = world.alive
    world.supervisor.want([component(tmp_path, "2")])
    world.step()
    for _ in range(3):
        world.alive[-1].end(1)
        world.step(10.0)
    assert old.alive
    view = world.supervisor.views[KEY]
    assert [c.pids for c in view.serving] == [(old.pid,)]
    assert view.copies[-1].failing


def test_one_that_cannot_run_leaves_the_old_one_serving(world: World, tmp_path: Path) -> None:
    running(world, tmp_path)
    (old,) = world.alive
    world.supervisor.want([component(tmp_path, obstacle="no such program")])
    world.step(100.0)
    assert world.alive == [old]
    assert world.supervisor.views[KEY].serving


def test_the_same_again_changes_nothing(world: World, tmp_path: Path) -> None:
    running(world, tmp_path)
    before = world.changes
    world.supervisor.want([component(tmp_path)])
    world.step(30.0)
    assert len(world.children) == 1
    assert world.changes == before


def test_one_that_does_not_obey_is_killed(world: World, tmp_path: Path) -> None:
    running(world, tmp_path)
    (child,) = world.alive
    child.stubborn = True
    world.supervisor.want([])
    world.step(29.0)
    assert child.signals == ["TERM"]
    assert not world.supervisor.is_idle
    world.step(1.0)
    assert child.signals == ["TERM", "KILL"]
    assert world.supervisor.is_idle
    assert world.supervisor.views == {}


def test_a_fixed_port_is_free_before_it_is_taken_again(world: World, tmp_path: Path) -> None:
    running(world, tmp_path, fixed_ports=frozenset({8080}))
    (old,) = world.alive
    assert world.port(old) == 8080
    world.supervisor.want([component(tmp_path, "2", fixed_ports=frozenset({8080}))])
    world.step()
    assert old.signals == ["TERM"]
    (new,) = world.alive
    assert world.port(new) == 8080


def test_a_model_that_is_not_there_is_looked_for_again(world: World, tmp_path: Path) -> None:
    missing = tmp_path / "later"
    world.supervisor.want([component(tmp_path, sources=(Source(str(missing)),))])
    world.step(5.0)
    assert world.children == []
    (copy,) = world.supervisor.views[KEY].copies
    assert copy.failing
    assert f"there is no '{missing}'" in copy.problem
    missing.mkdir()
    world.step(60.0)
    assert len(world.alive) == 1


def pair(folder: Path, version: str = "1") -> list[object]:
    predictor = component(folder, version)
    transformer = component(
        folder,
        name="irises-transformer",
        role="transformer",
        needs="irises-predictor",
        words=("--predictor_host", "irises-predictor.default"),
    )
    return [predictor, transformer]


def test_a_transformer_waits_for_its_predictor_and_follows_it(world: World, tmp_path: Path) -> None:
    world.supervisor.want(pair(tmp_path))  # type: ignore[arg-type]
    world.step()
    (predictor,) = world.alive
    view = world.supervisor.views["default/irises-transformer"]
    assert view.waiting_for == "irises-predictor"
    world.make_ready(predictor)
    transformer = world.alive[1]
    assert transformer.placed.argv[-1] == f"127.0.0.1:{world.port(predictor)}"
    world.make_ready(transformer)

    world.supervisor.want(pair(tmp_path, "2"))  # type: ignore[arg-type]
    world.step()
    second = world.alive[-1]
    world.make_ready(second)
    # The old predictor stays as long as a transformer talks to it.
    assert predictor.alive
    third = world.alive[-1]
    assert third.placed.argv[-1] == f"127.0.0.1:{world.port(second)}"
    world.make_ready(third)
    assert world.alive == [second, third]


def test_a_crashed_predictor_does_not_take_its_transformer_along(
    world: World, tmp_path: Path
) -> None:
    world.supervisor.want(pair(tmp_path))  # type: ignore[arg-type]
    world.step()
    world.make_ready(*world.alive)
    world.make_ready(*world.alive)
    predictor, transformer = world.alive
    predictor.end(137)
    world.step(5.0)
    assert transformer.alive
    assert len(world.alive) == 2


def test_two_revisions_share_the_traffic_while_both_are_wanted(
    world: World, tmp_path: Path
) -> None:
    running(world, tmp_path)
    (old,) = world.alive
    both = [component(tmp_path, "2", percent=20), component(tmp_path, percent=80)]
    world.supervisor.want(both)
    world.step()
    world.make_ready(world.alive[-1])
    serving = world.supervisor.views[KEY].serving
    assert len(serving) == 2
    assert old.pid in serving[1].pids
    assert old.signals == []
