# SPDX-License-Identifier: Apache-2.0
"""Host policies: on which cores instances and the threads of their libraries run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from onnx import TensorProto, helper

from nerite.cli.placement import host_policies, resources
from nerite.errors import InvalidArgument
from nerite.server.server import Server
from nerite.testing import serve

#: Tells the cores of its own thread and of one that it started while it was loaded.
MODEL = """import json
import os
import threading
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.cores = []
        started = threading.Thread(target=lambda: self.cores.append(os.sched_getaffinity(0)))
        started.start()
        started.join()

    def execute(self, requests):
        told = [sorted(cores) for cores in (os.sched_getaffinity(0), *self.cores)]
        text = np.array([json.dumps(told)], object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", text)]) for _ in requests]
"""
PYTHON = """backend: "python" GROUP
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_STRING dims: [ 1 ] }
"""
GROUPS = {
    "named": 'instance_group { kind: KIND_CPU host_policy: "pinned" }',
    "default": "instance_group { kind: KIND_CPU }",
    "kind_model": "instance_group { kind: KIND_MODEL }",
    "far": 'instance_group { kind: KIND_CPU host_policy: "far" }',
    "nowhere": 'instance_group { kind: KIND_CPU host_policy: "nowhere" }',
    "passive": """instance_group [ { name: "works" kind: KIND_CPU },
      { name: "waits" kind: KIND_CPU passive: true host_policy: "far" } ]""",
}
ONNX = """backend: "onnxruntime" instance_group { kind: KIND_CPU count: 1 host_policy: "pinned" }
parameters { key: "intra_op_thread_count" value { string_value: "4" } }
"""
CORE = min(os.sched_getaffinity(0))
POLICIES = [
    f"pinned,cpu-cores={CORE}",
    "pinned,numa-node=0",
    "far,cpu-cores=60000-60001",
    "nowhere,numa-node=999",
]


def pinned_threads() -> int:
    """Threads of this process that run on the one core of the policy, and would not otherwise."""
    count = 0
    for thread in Path("/proc/self/task").iterdir():
        try:
            count += os.sched_getaffinity(int(thread.name)) == {CORE}
        except OSError:  # it has ended meanwhile
            continue
    return count


def onnx_file() -> bytes:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("X", "Y")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["Y"])], "g", tensors[:1], tensors[1:]
    )
    opset = [helper.make_opsetid("", 13)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("policies")
    for name, group in GROUPS.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(PYTHON.replace("GROUP", group))
        (root / name / "1/model.py").write_text(MODEL)
    with serve(root, wait=None, host_policies=host_policies(POLICIES)) as running:
        assert running.wait_loaded(30)
        yield running


def cores_of(server: Server, model: str) -> Any:
    tensor = tritonclient.http.InferInput("X", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    url = server.http_url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(url) as client:
        return json.loads(client.infer(model, [tensor]).as_numpy("Y")[0])


def test_an_instance_and_what_it_starts_run_on_the_cores_of_its_policy(server: Server) -> None:
    assert cores_of(server, "named") == [[CORE], [CORE]]


@pytest.mark.parametrize("model", ["default", "kind_model", "nowhere", "passive"])
def test_others_run_where_they_like(server: Server, model: str) -> None:
    everywhere = sorted(os.sched_getaffinity(0))
    assert cores_of(server, model) == [everywhere, everywhere]


def test_cores_that_there_are_not_are_the_reason_of_the_model(server: Server) -> None:
    (entry,) = [entry for entry in server.states.index() if entry.name == "far"]
    assert str(entry.state) == "UNAVAILABLE"
    assert entry.reason.startswith(
        "Invalid argument: host policy 'far' of instance 'far_0_0' has cpu-cores 60000, 60001, of "
        "which this process may not use 60000, 60001; it may use"
    )


def test_a_policy_called_cpu_is_that_of_groups_which_name_none(tmp_path: Path) -> None:
    for name in ("default", "kind_model"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(PYTHON.replace("GROUP", GROUPS[name]))
        (tmp_path / name / "1/model.py").write_text(MODEL)
    with serve(tmp_path, host_policies=host_policies([f"cpu,cpu-cores={CORE}"])) as server:
        assert cores_of(server, "default") == [[CORE], [CORE]]
        assert cores_of(server, "kind_model")[0] == sorted(os.sched_getaffinity(0))


def test_the_threads_of_onnx_runtime_are_pinned_too(tmp_path: Path) -> None:
    (tmp_path / "onnx/1").mkdir(parents=True)
    (tmp_path / "onnx/config.pbtxt").write_text(ONNX)
    (tmp_path / "onnx/1/model.onnx").write_bytes(onnx_file())
    before = pinned_threads()
    with serve(tmp_path, host_policies=host_policies(POLICIES)) as server:
        # The instance's own thread, and three of the session.
        assert pinned_threads() - before == 4 or len(os.sched_getaffinity(0)) == 1
        assert server.ready


def test_a_node_that_there_is_not_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "nowhere/1").mkdir(parents=True)
    (tmp_path / "nowhere/config.pbtxt").write_text(PYTHON.replace("GROUP", GROUPS["nowhere"]))
    (tmp_path / "nowhere/1/model.py").write_text(MODEL)
    with serve(tmp_path, host_policies=host_policies(POLICIES)):
        told = "host policy 'nowhere' of instance 'nowhere_0_0': memory is not bound to numa-node"
        assert any(told in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("p", "'p' is not POLICY,SETTING=VALUE"),
        ("p,cpu-cores", "is not POLICY,SETTING=VALUE"),
        ("p,cores=1", "'cores' of 'p,cores=1' is no setting"),
        ("p,cpu-cores=3-1", "'3-1' of 'p,cpu-cores=3-1' are no cores"),
        ("p,cpu-cores=a", "are no cores"),
        ("p,numa-node=x", "'x' of 'p,numa-node=x' is not the number of a node"),
    ],
)
def test_a_word_that_is_no_policy_says_what_is(word: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        host_policies([word])
    assert told in str(refused.value)


def test_cores_are_numbers_and_ranges() -> None:
    (policy,) = host_policies(["p,cpu-cores=0-2,5", "p,numa-node=1"]).values()
    assert (policy.cores, policy.numa_node) == ((0, 1, 2, 5), 1)


def test_resources_have_a_count_and_perhaps_a_device() -> None:
    assert resources(["R:2", "S:3:0", "T:4:1"]) == {"R": 2, "S": 3}
    for word in ("R", "R:x", "R:1:gpu"):
        with pytest.raises(InvalidArgument, match="is not NAME:COUNT or NAME:COUNT:DEVICE"):
            resources([word])
