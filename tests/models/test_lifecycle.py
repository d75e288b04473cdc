"""Loading and unloading models: who serves, in which state, and what failures leave behind."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite.errors import InvalidArgument, NotFound
from nerite.models.control import ModelControl
from nerite.models.events import ModelEvent
from nerite.models.lifecycle import Lifecycle
from nerite.models.options import LoadOptions
from nerite.models.repository import DUPLICATE, Repository
from nerite.models.states import Entry, State, StateTable, reason_of
from nerite.stores.local import LocalStore, resolve_inside
from nerite.testing import batch_of

IDENTITY = """backend: "identity" max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
PYTHON = """backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
MODEL_PY = """import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""


def life(engine: Any, *paths: Path, **options: Any) -> tuple[Lifecycle, StateTable]:
    """All models of these paths, loaded one after the other."""
    states = StateTable()
    lifecycle = Lifecycle(engine, states, LoadOptions(**options))
    repository = Repository([LocalStore(path) for path in paths])
    for found in repository.scan():
        lifecycle.load(found)
    repository.close()
    return lifecycle, states


def states_of(states: StateTable) -> dict[str, str]:
    return {entry.name: entry.state.value for entry in states.index()}


def test_a_failing_model_takes_no_other_down(tmp_path: Path, engine: Any, write: Any) -> None:
    write(tmp_path / "good", {"config.pbtxt": IDENTITY, "1/": None})
    write(tmp_path / "broken", {"config.pbtxt": "what: 3", "1/": None})
    write(tmp_path / "raises", {"config.pbtxt": PYTHON, "1/model.py": "raise RuntimeError('no')"})
    lifecycle, states = life(engine, tmp_path)
    assert states_of(states) == {"good": "READY", "broken": "UNAVAILABLE", "raises": "UNAVAILABLE"}
    outputs, _ = engine.versions["good", 1].execute(batch_of({"INPUT0": np.ones((1, 2), "f4")}))
    assert outputs["OUTPUT0"].tolist() == [[1, 1]]
    assert lifecycle.close(5)


def test_the_reason_of_a_broken_file_names_file_line_and_cause(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    write(tmp_path / "broken", {"config.pbtxt": 'backend: "identity"\nwhat: 3\n', "1/": None})
    _, states = life(engine, tmp_path)
    (entry,) = states.index()
    assert entry.version is None
    assert f"{tmp_path}/broken/config.pbtxt:2:1" in entry.reason
    assert 'no field named "what"' in entry.reason


def test_a_model_in_two_repositories_is_unavailable(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    for repository in ("a", "b"):
        write(tmp_path / repository / "twice", {"config.pbtxt": IDENTITY, "1/": None})
        write(tmp_path / repository / repository, {"config.pbtxt": IDENTITY, "1/": None})
    _, states = life(engine, tmp_path / "a", tmp_path / "b")
    assert states_of(states) == {"a": "READY", "b": "READY", "twice": "UNAVAILABLE"}
    assert [e.reason for e in states.index() if e.name == "twice"] == [DUPLICATE]


def test_every_instance_runs_on_a_thread_of_its_own(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    groups = (
        "instance_group [ { count: 2 }, { name: 'late' count: 1 }, { count: 3 passive: true } ]"
    )
    write(tmp_path / "m", {"config.pbtxt": IDENTITY + groups, "1/": None})
    lifecycle, _ = life(engine, tmp_path)
    version = engine.versions["m", 1]
    for _ in range(8):
        version.execute(batch_of({"INPUT0": np.ones((1, 1), "f4")}))
    names = {t.name for t in threading.enumerate() if t.name.startswith("nerite-")}
    assert names >= {"nerite-m_0_0", "nerite-m_0_1", "nerite-late_0"}
    assert lifecycle.close(5)
    assert not {t.name for t in threading.enumerate()} & names


def test_unloading_publishes_nothing_and_runs_finalize(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    mark = tmp_path / "finalized"
    code = MODEL_PY + f"    def finalize(self):\n        open({str(mark)!r}, 'w').close()\n"
    write(tmp_path / "repo" / "m", {"config.pbtxt": PYTHON, "1/model.py": code})
    lifecycle, states = life(engine, tmp_path / "repo")
    assert engine.published["m"] == ([1], [])
    assert lifecycle.unload("m", 5)
    assert engine.published["m"] == ([], [1])
    assert [(e.state, e.reason) for e in states.index()] == [(State.UNAVAILABLE, "unloaded")]
    assert mark.exists()
    assert lifecycle.unload("m")


def test_all_versions_load_or_none(tmp_path: Path, engine: Any, write: Any) -> None:
    files = {
        "config.pbtxt": PYTHON + "version_policy { all { } }",
        "1/model.py": MODEL_PY,
        "2/model.py": MODEL_PY + "    def initialize(self, args):\n        raise RuntimeError\n",
    }
    write(tmp_path / "m", files)
    _, states = life(engine, tmp_path)
    assert {e.version: e.state for e in states.index()} == {1: "UNAVAILABLE", 2: "UNAVAILABLE"}
    assert engine.published["m"] == ([], [1, 2])
    assert engine.versions["m", 1].running == []


def test_instances_of_a_version_share_its_module_and_nothing_else(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    code = """import numpy as np
import triton_python_backend_utils as pb_utils
import helper
class TritonPythonModel:
    def execute(self, requests):
        import helper as again
        text = f"{helper.NAME} {again.NAME} {helper is again}"
        out = pb_utils.Tensor("Y", np.array([text.encode()], object))
        return [pb_utils.InferenceResponse([out]) for _ in requests]
"""
    config = PYTHON.replace('"Y" data_type: TYPE_FP32', '"Y" data_type: TYPE_STRING')
    for name in ("first", "second"):
        files = {
            "config.pbtxt": config,
            "1/model.py": code,
            "1/helper.py": "from names import NAME",
            "names.py": f"NAME = {name!r}",
        }
        write(tmp_path / name, files)
    lifecycle, _ = life(engine, tmp_path)
    for name in ("first", "second"):
        batch = batch_of({"X": np.ones(1, "f4")}, batches=False)
        (answer,) = engine.versions[name, 1].execute(batch)
        assert answer["Y"].tolist() == [f"{name} {name} True".encode()]
    assert lifecycle.close(5)


def test_what_a_later_version_brings_is_refused_by_name(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    config = IDENTITY + "sequence_batching { iterative_sequence: true }"
    write(tmp_path / "seq", {"config.pbtxt": config, "1/": None})
    _, states = life(engine, tmp_path)
    reasons = {entry.name: entry.reason for entry in states.index()}
    assert "iterative sequences" in reasons["seq"]
    assert all(reason.startswith("Unsupported: ") for reason in reasons.values())


def test_labels_reach_the_data_plane(tmp_path: Path, engine: Any, write: Any) -> None:
    config = IDENTITY.replace('name: "OUTPUT0"', 'name: "OUTPUT0" label_filename: "l.txt"')
    write(tmp_path / "m", {"config.pbtxt": config, "l.txt": "cat\ndog\n", "1/": None})
    life(engine, tmp_path)
    assert engine.versions["m", 1].labels == {"OUTPUT0": ["cat", "dog"]}


def test_a_failed_load_is_tried_again_as_often_as_asked(
    tmp_path: Path, engine: Any, write: Any
) -> None:
    count = tmp_path / "count"
    code = f"""import pathlib
count = pathlib.Path({str(count)!r})
count.write_text(str(int(count.read_text()) + 1) if count.exists() else "1")
if count.read_text() != "3":
    raise RuntimeError("not yet")
{MODEL_PY}"""
    write(tmp_path / "repo" / "m", {"config.pbtxt": PYTHON, "1/model.py": code})
    _, states = life(engine, tmp_path / "repo", retries=2)
    assert states_of(states) == {"m": "READY"}


def test_models_load_at_the_same_time(tmp_path: Path, engine: Any, write: Any) -> None:
    code = "import importlib\nbarrier = importlib.import_module('meeting').barrier\n" + MODEL_PY
    code = code.replace(
        "class TritonPythonModel:\n",
        "class TritonPythonModel:\n    def initialize(self, args):\n        barrier.wait(10)\n",
    )
    import sys
    import types

    meeting = types.ModuleType("meeting")
    meeting.barrier = threading.Barrier(3)  # type: ignore[attr-defined]
    sys.modules["meeting"] = meeting
    for name in "abc":
        write(tmp_path / name, {"config.pbtxt": PYTHON, "1/model.py": code})
    states = StateTable()
    events: list[ModelEvent] = []
    options = LoadOptions(threads=3)
    lifecycle = Lifecycle(engine, states, options, events.append)
    repository = Repository([LocalStore(tmp_path)])
    ModelControl(repository, lifecycle, states, options).start(repository.scan())
    assert not states.all_ready() or states.settled()
    assert states.wait_settled(15)
    del sys.modules["meeting"]
    assert states.all_ready()
    assert sorted(e.name for e in events if e.state is State.READY) == ["a", "b", "c"]
    assert all(e.config is not None for e in events if e.state is State.READY)
    assert lifecycle.close(5)


def test_a_bare_file_is_served_under_its_name(tmp_path: Path, engine: Any, write: Any) -> None:
    vectors = json.loads((Path(__file__).parent / "vectors/onnx_autocomplete.json").read_text())
    onnx = next(c for c in vectors["cases"] if c["id"] == "ox_none")["files"]["1/model.onnx"]
    write(tmp_path / "files", {"net.onnx": onnx, "other.onnx": onnx, "notes.txt": "x"})
    write(tmp_path / "folder", {"model.py": MODEL_PY, "helper.py": "x = 1"})
    for path, names in (
        (tmp_path / "files/net.onnx", ["net"]),
        (tmp_path / "files", ["net", "other"]),
        (tmp_path / "folder/model.py", ["model"]),
        (tmp_path / "folder", ["folder"]),
    ):
        lifecycle, states = life(engine, path)
        assert states_of(states) == dict.fromkeys(names, "READY"), states.index()
        assert lifecycle.close(5)
    assert json.loads(engine.versions["net", 1].config_json)["max_batch_size"] == 4


def test_one_model_folder_can_be_served_alone(tmp_path: Path, engine: Any, write: Any) -> None:
    write(tmp_path / "alone", {"config.pbtxt": IDENTITY, "1/": None})
    _, states = life(engine, tmp_path / "alone")
    assert states_of(states) == {"alone": "READY"}


@pytest.mark.parametrize(
    "parts",
    [("..", "x"), ("/etc/passwd",), ("a", "../../x"), ("out",), ("a\0b",), ("out/x",), ("..\\x",)],
)
def test_no_path_leads_out_of_its_root(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(InvalidArgument):
        resolve_inside(root, *parts)


def test_a_path_inside_resolves_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/l.txt").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert resolve_inside(tmp_path, "link/l.txt") == (tmp_path / "data/l.txt").resolve()


def test_a_repository_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no model repository at"):
        LocalStore(tmp_path / "nowhere")
    (tmp_path / "x.bin").write_text("x")
    with pytest.raises(InvalidArgument, match=r"\.onnx or \.py"):
        LocalStore(tmp_path / "x.bin")


def test_the_index_is_sorted_and_can_be_filtered() -> None:
    states = StateTable()
    states.set("b", [2, 10], State.READY)
    states.set("a", [None], State.UNAVAILABLE, "why")
    assert [entry.to_dict() for entry in states.index()] == [
        {"name": "a", "state": "UNAVAILABLE", "reason": "why"},
        {"name": "b", "version": "2", "state": "READY"},
        {"name": "b", "version": "10", "state": "READY"},
    ]
    assert states.index(ready=True) == [Entry("b", n, State.READY) for n in (2, 10)]


def test_every_change_of_state_is_told() -> None:
    told: list[bool] = []
    states: StateTable = StateTable(lambda: told.append(states.all_ready()))
    states.expect(["m"])
    states.set("m", [1], State.LOADING)
    states.set("m", [1], State.READY)
    states.settle("m")
    assert told == [False, False, False, True]


def test_reasons_begin_with_the_words_of_the_code() -> None:
    assert reason_of(NotFound("x")) == "Not found: x"
    assert reason_of(ValueError("x")) == "Internal: ValueError: x"
