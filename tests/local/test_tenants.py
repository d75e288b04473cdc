"""Models in processes of others: loaded, loaded again, moved and unloaded, by a made-up clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.local.fakes import World, host, lodger, model_file

from nerite.local.copy_view import CopyView
from nerite.local.hosts import Occupant, assign
from nerite.local.model_control import reason_of

HOST = "default/trees-predictor"


def copies(world: World, key: str) -> tuple[CopyView, ...]:
    """A component's copies; of a TrainedModel those in all copies of its host."""
    views = world.supervisor.views.items()
    return tuple(c for k, group in views if k.partition("@")[0] == key for c in group.copies)


def only(world: World, name: str, namespace: str = "default") -> CopyView:
    (copy,) = copies(world, f"{namespace}/{name}-predictor")
    return copy


def running(world: World, *components: object) -> None:
    world.supervisor.want(components)  # type: ignore[arg-type]
    world.step()
    world.make_ready(*world.alive)


def test_a_second_service_is_ready_without_a_second_process(world: World, tmp_path: Path) -> None:
    one, two = (lodger(model_file(tmp_path / name, name), name) for name in ("one", "two"))
    running(world, one)
    (process,) = world.alive
    assert world.models() == [{"one": "one"}]
    before = world.now
    world.supervisor.want([one, two])
    world.step()
    assert world.now == before
    assert world.alive == [process]
    assert world.models() == [{"one": "one", "two": "two"}]
    for name in ("one", "two"):
        copy = only(world, name)
        assert copy.ready
        assert copy.pids == (process.pid,)
        assert copy.port == world.port(process)
        assert copy.host == "_shared/shared-1"


def test_a_killed_process_comes_back_with_all_its_models(world: World, tmp_path: Path) -> None:
    running(world, *(lodger(model_file(tmp_path / name, name), name) for name in ("one", "two")))
    (first,) = world.alive
    first.end(137)
    world.step()
    assert not only(world, "one").ready
    world.step(5.0)
    (second,) = world.alive
    assert world.models() == [{"one": "one", "two": "two"}]
    for name in ("one", "two"):
        copy = only(world, name)
        assert copy.ready
        assert (copy.restarts, copy.pids) == (1, (second.pid,))
        assert copy.last_exit is not None
        assert copy.last_exit.code == 137


def test_a_load_that_fails_says_why_and_disturbs_nobody(world: World, tmp_path: Path) -> None:
    good = lodger(model_file(tmp_path / "good", "good"), "good")
    bad = lodger(model_file(tmp_path / "bad", "bad"), "bad")
    world.broken["bad"] = "failed to load 'bad' version 1: Internal: no pickle"
    running(world, good, bad)
    assert only(world, "good").ready
    copy = only(world, "bad")
    assert copy.failing
    assert copy.problem == "failed to load 'bad' version 1: Internal: no pickle"
    world.calls.clear()
    world.step(8.0)
    # After one second, two and four: three pauses, of which the first is over already.
    assert world.calls == [f"load bad {world.alive[0].pid}"] * 2
    del world.broken["bad"]
    world.step(60.0)
    assert only(world, "bad").ready
    assert only(world, "bad").problem == ""
    assert len(world.children) == 1


def test_a_new_revision_takes_the_place_of_the_old_one(world: World, tmp_path: Path) -> None:
    other = lodger(model_file(tmp_path / "other", "other"), "other")
    running(world, lodger(model_file(tmp_path / "old", "old"), "irises"), other)
    world.calls.clear()
    world.supervisor.want([lodger(model_file(tmp_path / "new", "new"), "irises"), other])
    world.step()
    assert only(world, "irises").ready
    world.step(30.0)
    # In one step of the process: nothing is unloaded, so nothing is refused.
    assert world.calls == [f"load irises {world.alive[0].pid}"]
    assert world.models() == [{"irises": "new", "other": "other"}]
    assert len(world.children) == 1
    # Files that agree in name, size and time are told apart all the same.
    (repository,) = (tmp_path / "run").rglob("repository")
    (shown,) = (repository / "irises").glob(".revision-*")
    assert shown.name.endswith(f"-{only(world, 'irises').number}")


def test_two_revisions_that_share_the_traffic_live_apart(world: World, tmp_path: Path) -> None:
    other = lodger(model_file(tmp_path / "other", "other"), "other")
    old = lodger(model_file(tmp_path / "old", "old"), "irises")
    new = lodger(model_file(tmp_path / "new", "new"), "irises")
    running(world, old, other)
    (first,) = world.alive
    world.supervisor.want([replace(new, percent=20), replace(old, percent=80), other])
    world.step(5.0)
    world.make_ready(*world.alive)
    serving = world.supervisor.views["default/irises-predictor"].serving
    assert [copy.host for copy in serving] == ["_shared/shared-2", "_shared/shared-1"]
    assert world.models() == [{"irises": "old", "other": "other"}, {"irises": "new"}]
    # The new one gets all: it moves to where the others are, and the second process ends.
    world.supervisor.want([new, other])
    world.step(5.0)
    assert world.alive == [first]
    assert world.models() == [{"irises": "new", "other": "other"}]
    assert only(world, "irises").host == "_shared/shared-1"


def test_an_old_revision_answers_a_moment_longer(world: World, tmp_path: Path) -> None:
    one = lodger(model_file(tmp_path / "one", "one"), "one")
    two = lodger(model_file(tmp_path / "two", "two"), "two")
    running(world, one, two)
    world.supervisor.want([one])
    world.step(0.2)
    assert world.models() == [{"one": "one", "two": "two"}]
    world.step(0.1)
    assert world.models() == [{"one": "one"}]
    assert copies(world, "default/two-predictor") == ()
    assert not list((tmp_path / "run").rglob("two*"))


def test_the_process_ends_with_its_last_model(world: World, tmp_path: Path) -> None:
    running(world, lodger(model_file(tmp_path / "one"), "one"))
    (process,) = world.alive
    world.supervisor.want([])
    world.step()
    assert process.signals == ["TERM"]
    assert world.supervisor.is_idle
    assert world.calls[1:] == []
    assert not list((tmp_path / "run").rglob("*joblib"))


def test_two_namespaces_may_have_the_same_name(world: World, tmp_path: Path) -> None:
    file = model_file(tmp_path / "m")
    pair = [lodger(file, "irises", namespace=namespace) for namespace in ("lab", "farm")]
    running(world, *pair)
    world.step(60.0)
    assert [only(world, "irises", n).host for n in ("lab", "farm")] == [
        "_shared/shared-1",
        "_shared/shared-2",
    ]
    assert world.models() == [{"irises": "one"}, {"irises": "one"}]


def test_what_has_names_of_its_own_is_told_unfit(world: World, tmp_path: Path) -> None:
    for name in ("cars", "trucks"):
        model_file(tmp_path / "repository" / name / "1")
    running(world, lodger(tmp_path / "repository", "street"))
    copy = only(world, "street")
    assert "'repository' has names of its own" in copy.unfit
    assert copy.problem.startswith("it cannot share a process: ")
    world.step(100.0)
    assert world.calls == []


def test_one_that_may_have_killed_the_process_waits_longer_than_the_others(
    world: World, tmp_path: Path
) -> None:
    good = lodger(model_file(tmp_path / "good", "good"), "good")
    running(world, good)
    world.background = []
    world.supervisor.want([good, lodger(model_file(tmp_path / "killer", "killer"), "killer")])
    world.step()
    world.background.pop()()  # it is fetched
    world.step()
    world.alive[0].end(139)
    world.background.pop()()
    world.step()
    world.background = None
    copy = only(world, "killer")
    assert copy.problem == "the process ended while 'killer' was being loaded"
    world.step(0.8)
    assert world.models() == [{"good": "good"}]
    world.step(10.0)
    assert only(world, "killer").ready


def test_one_that_is_wanted_again_at_once_is_there(world: World, tmp_path: Path) -> None:
    other = lodger(model_file(tmp_path / "other", "other"), "other")
    one = lodger(model_file(tmp_path / "one", "one"), "one")
    running(world, other, one)
    world.supervisor.want([other])
    world.step(0.1)
    world.background = []
    world.step(0.2)
    (unloading,) = world.background
    world.supervisor.want([other, one])
    world.step()
    _, fetching = world.background
    fetching()
    world.step()
    # Its load waits for the unloading that has begun.
    assert len(world.background) == 2
    unloading()
    world.step()
    world.background[-1]()
    world.background = None
    world.step(5.0)
    assert only(world, "one").ready
    assert world.models() == [{"other": "other", "one": "one"}]
    (repository,) = (tmp_path / "run").rglob("repository")
    assert {path.name for path in repository.iterdir()} == {"other", "one"}


def test_the_old_revision_never_comes_back_over_the_new_one(world: World, tmp_path: Path) -> None:
    running(world, lodger(model_file(tmp_path / "old", "old"), "one"))
    (process,) = world.alive
    world.background = []
    world.supervisor.want([lodger(model_file(tmp_path / "new", "new"), "one")])
    world.step()
    world.background.pop()()
    world.step()
    # The process ends while it loads: neither is there, and the old one is tried first.
    process.end(137)
    world.background.pop()()
    world.background = None
    world.step(10.0)
    assert world.models() == [{"one": "new"}]
    assert only(world, "one").ready


def trained(folder: Path, text: str, name: str = "oak") -> object:
    return lodger(model_file(folder / text, text), name, HOST)


def test_a_trained_model_is_put_into_every_copy_of_its_host(world: World, tmp_path: Path) -> None:
    running(world, host("trees-predictor", replicas=2), trained(tmp_path, "old"))
    world.step(5.0)
    assert world.models() == [{"oak": "old"}, {"oak": "old"}]
    world.calls.clear()
    world.supervisor.want([host("trees-predictor", replicas=2), trained(tmp_path, "new")])  # type: ignore[list-item]
    world.step(60.0)
    # Replaced in one step: nothing is unloaded, so nothing is refused.
    assert [call.rpartition(" ")[0] for call in world.calls] == ["load oak", "load oak"]
    assert world.models() == [{"oak": "new"}, {"oak": "new"}]
    assert len(world.children) == 2


def test_a_change_that_cannot_be_loaded_leaves_the_model_before(
    world: World, tmp_path: Path
) -> None:
    running(world, host("trees-predictor"), trained(tmp_path, "old"))
    world.broken["new"] = "failed to load 'oak' version 1: Internal: no pickle"
    world.supervisor.want([host("trees-predictor"), trained(tmp_path, "new")])  # type: ignore[list-item]
    world.step()
    old, new = copies(world, "default/oak.trainedmodel")
    assert (old.ready, new.problem) == (True, world.broken["new"])
    # Also the process that is started anew has the one that worked.
    world.alive[0].end(137)
    world.step(30.0)
    assert world.models() == [{"oak": "old"}]
    old, new = copies(world, "default/oak.trainedmodel")
    assert (old.ready, new.ready) == (True, False)


def test_a_second_change_during_the_first_leaves_the_model_there(
    world: World, tmp_path: Path
) -> None:
    """The first was stopped in the middle of its load, took the place, and was unloaded from it."""
    running(world, host("trees-predictor"), trained(tmp_path, "old"))
    world.broken["bad"] = "failed to load 'oak' version 1: Internal: no pickle"
    world.background = []
    world.supervisor.want([host("trees-predictor"), trained(tmp_path, "new")])  # type: ignore[list-item]
    world.step()
    world.background.pop()()  # the fetch
    world.step()
    (loading,) = world.background
    world.supervisor.want([host("trees-predictor"), trained(tmp_path, "bad")])  # type: ignore[list-item]
    world.step()
    assert world.background.pop(0) is loading
    (fetching,), world.background = world.background, None
    loading()
    fetching()
    world.step(30.0)
    assert world.models() == [{"oak": "new"}]
    assert not [call for call in world.calls if call.startswith("unload")]
    new, bad = copies(world, "default/oak.trainedmodel")
    assert (new.ready, bad.problem) == (True, world.broken["bad"])


def test_a_new_revision_of_the_host_serves_once_it_has_what_the_old_one_has(
    world: World, tmp_path: Path
) -> None:
    model = trained(tmp_path, "old")
    running(world, host("trees-predictor"), model)
    first = world.alive[0]
    world.background = []
    world.supervisor.want([host("trees-predictor", environment=[("A", "1")]), model])  # type: ignore[list-item]
    world.step()
    world.background.pop(0)()  # the new host has nothing to fetch
    world.step()
    world.make_ready(*world.alive)
    view = world.supervisor.views[HOST]
    assert [copy.pids for copy in view.serving] == [(first.pid,)]
    while world.background:
        world.background.pop(0)()
        world.step()
    world.background = None
    world.step(10.0)
    (second,) = world.alive
    assert second is not first
    assert world.models() == [{"oak": "old"}]
    assert [copy.pids for copy in world.supervisor.views[HOST].serving] == [(second.pid,)]


def test_a_deleted_trained_model_leaves_nothing(world: World, tmp_path: Path) -> None:
    running(world, host("trees-predictor"), trained(tmp_path, "old"), trained(tmp_path, "a", "elm"))
    world.supervisor.want([host("trees-predictor"), trained(tmp_path, "a", "elm")])  # type: ignore[list-item]
    world.step(1.0)
    assert world.models() == [{"elm": "a"}]
    left = {path.name for path in (tmp_path / "run").rglob("oak*")}
    assert left == set()


A1, A2 = Occupant("lab/a", "1", "a"), Occupant("lab/a", "2", "a")
OTHER_A, B = Occupant("farm/a", "9", "a"), Occupant("lab/b", "1", "b")


@pytest.mark.parametrize(
    ("wanted", "living", "found"),
    [
        ([A1, B], [], {A1: 1, B: 1}),
        ([A1, OTHER_A], [], {A1: 1, OTHER_A: 2}),
        # A revision that is not wanted any more is replaced in place, one of a canary is not.
        ([A2], [(A1, 1)], {A2: 1}),
        ([A2, A1], [(A1, 1)], {A2: 2, A1: 1}),
        ([A2, A1], [(A1, 1), (A2, 2)], {A2: 2, A1: 1}),
        ([A2], [(OTHER_A, 1)], {A2: 2}),
        # The old one is gone: home it comes, if somebody lives there still.
        ([A2, B], [(A2, 2), (B, 1)], {A2: 1, B: 1}),
        ([A2], [(A2, 2)], {A2: 2}),
        # While it moves it stands in both.
        ([A2, B], [(A2, 1), (A2, 2), (B, 1)], {A2: 1, B: 1}),
        # Whoever lives somewhere is not driven out by one that comes before it.
        ([OTHER_A, A1], [(A1, 1)], {OTHER_A: 2, A1: 1}),
    ],
)
def test_a_process_has_one_model_of_a_name(
    wanted: list[Occupant], living: list[tuple[Occupant, int]], found: dict[Occupant, int]
) -> None:
    assert assign(wanted, living) == found


def test_why_a_load_failed_is_told_as_the_log_of_a_process_tells_it() -> None:
    text = (
        "load failed for model 'bad': version 1 is at UNAVAILABLE state: "
        "Invalid argument: model 'bad': no pickle;\n"
    )
    told = "failed to load 'bad' version 1: Invalid argument: model 'bad': no pickle"
    assert reason_of(text) == told
    assert reason_of("something else\n") == "something else"
