# SPDX-License-Identifier: Apache-2.0
"""Sequences on the real wire: order, instance, controls, slots, and every way in which they end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from onnx import TensorProto, helper
from tests.backends.test_onnx import graph
from tritonclient.utils import InferenceServerException

from nerite.server.server import Server
from nerite.testing import serve

CONTROLS = """
  control_input { name: "START"
    control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
  control_input { name: "READY"
    control { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } }
  control_input { name: "END"
    control { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } }
  control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: %s } }
"""
#: Adds up what a sequence brings; tells its flags, its instance, and what was in the batch.
MODEL = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.instance = args["model_instance_name"]
        self.sums = {}

    def execute(self, requests):
        def value(request, name):
            tensor = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            assert tensor.shape == (1, 1), tensor.shape
            return tensor.item()

        rows = ["".join(map(str, (int(value(r, "READY")),))) for r in requests]
        answers = []
        for request in requests:
            key = value(request, "CORRID")
            key = key.decode() if isinstance(key, bytes) else int(key)
            if value(request, "START"):
                self.sums[key] = 0
            total = self.sums.get(key, -1000) + int(value(request, "IN"))
            if value(request, "READY"):
                self.sums[key] = total
            if value(request, "END"):
                del self.sums[key]
            told = {"sum": total, "key": key, "instance": self.instance, "rows": "".join(rows),
                    "live": len(self.sums)}
            text = np.array([[json.dumps(told).encode()]], object)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", text)]))
        return answers
"""


def write(root: Path, name: str, batching: str, *, kind: str = "TYPE_UINT64", **extra: Any) -> None:
    count, batch = extra.get("count", 1), extra.get("batch", 4)
    config = f"""backend: "python" max_batch_size: {batch}
input {{ name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }}
output {{ name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }}
instance_group {{ kind: KIND_CPU count: {count} }}
sequence_batching {{ {batching} {CONTROLS % kind} }}
"""
    (root / name / "1").mkdir(parents=True)
    (root / name / "config.pbtxt").write_text(config)
    (root / name / "1/model.py").write_text(MODEL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("sequences")
    write(root, "direct", "direct {}")
    write(root, "oldest", "oldest { max_candidate_sequences: 8 }", count=2)
    write(root, "one", "direct {} max_sequence_idle_microseconds: 60000000", batch=1)
    write(root, "short", "direct {} max_sequence_idle_microseconds: 50000", batch=1)
    write(root, "text", "direct {}", kind="TYPE_STRING")
    with serve(root) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    with client_of(server, httpclient if request.param == "http" else grpcclient) as made:
        yield made


@contextmanager
def client_of(server: Server, module: Any = httpclient) -> Iterator[Any]:
    """A client for one thread: that for HTTP is not made for more."""
    url = server.http_url.removeprefix("http://") if module is httpclient else server.grpc_url
    with module.InferenceServerClient(url) as made:
        made.module = module
        yield made


def elsewhere(server: Server, module: Any, *words: Any) -> Any:
    """A step of a client of its own, for another thread."""
    with client_of(server, module) as client:
        return step(client, *words)


def step(client: Any, model: str, key: int | str, value: int, flags: str = "", **more: Any) -> Any:
    """What the model tells of one request; `flags` has `s` for START and `e` for END."""
    tensor = client.module.InferInput("IN", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    answer = client.infer(
        model,
        [tensor],
        sequence_id=key,
        sequence_start="s" in flags,
        sequence_end="e" in flags,
        **more,
    )
    return json.loads(answer.as_numpy("OUT").item())


def refusal(client: Any, *words: Any, **more: Any) -> str:
    with pytest.raises(InferenceServerException) as told:
        step(client, *words, **more)
    return str(told.value)


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_a_sequence_is_summed_up_with_its_id_and_flags(client: Any, model: str) -> None:
    assert step(client, model, 7, 1, "s")["sum"] == 1
    assert step(client, model, 7, 2)["sum"] == 3
    last = step(client, model, 7, 3, "e")
    assert (last["sum"], last["key"], last["live"]) == (6, 7, 0)
    assert step(client, model, 2**63 - 1, 5, "se")["key"] == 2**63 - 1


def test_an_id_may_be_text(client: Any) -> None:
    assert step(client, "text", "who", 1, "s")["sum"] == 1
    assert step(client, "text", "who", 4, "e") | {"instance": ""} == {
        "sum": 5,
        "key": "who",
        "instance": "",
        "rows": "1",
        "live": 0,
    }
    told = refusal(client, "direct", "who", 1, "s")
    assert (
        "sequence batching control 'CORRID' data-type is 'BYTES', but model 'direct' expects "
        "'UINT64'" in told
    )


def test_what_is_in_no_sequence_is_refused_and_counted(client: Any, server: Server) -> None:
    assert (
        "inference request to model 'direct' must specify a non-zero or non-empty correlation ID"
        in refusal(client, "direct", 0, 1, "s")
    )
    assert (
        "inference request for sequence 99 to model 'direct' must specify the START flag on the "
        "first request of the sequence" in refusal(client, "direct", 99, 1)
    )
    tensor = client.module.InferInput("IN", [2, 1], "INT32")
    tensor.set_data_from_numpy(np.zeros((2, 1), np.int32))
    with pytest.raises(InferenceServerException, match="must specify batch-size 1 due to require"):
        client.infer("direct", [tensor], sequence_id=3, sequence_start=True)
    controls = client.module.InferInput("START", [1, 1], "INT32")
    controls.set_data_from_numpy(np.ones((1, 1), np.int32))
    with pytest.raises(InferenceServerException, match="START"):
        client.infer("direct", [controls], sequence_id=3, sequence_start=True)


@pytest.mark.parametrize("module", [httpclient, grpcclient])
def test_many_at_once_each_in_order_on_one_instance(server: Server, module: Any) -> None:
    def whole(key: int) -> set[str]:
        instances = set()
        with client_of(server, module) as client:
            for at in range(1, 21):
                flags = "s" if at == 1 else "e" if at == 20 else ""
                told = step(client, "oldest", key, at, flags)
                assert (told["sum"], told["key"]) == (at * (at + 1) // 2, key)
                instances.add(told["instance"])
        return instances

    with ThreadPoolExecutor(12) as pool:
        used = list(pool.map(whole, range(100, 112)))
    assert all(len(instances) == 1 for instances in used)
    assert len(set.union(*used)) == 2


def test_a_row_stays_with_its_sequence(client: Any) -> None:
    step(client, "direct", 1, 1, "s")
    step(client, "direct", 2, 1, "s")
    step(client, "direct", 3, 1, "s")
    assert step(client, "direct", 3, 1)["rows"] == "001"
    assert step(client, "direct", 1, 1)["rows"] == "100"
    step(client, "direct", 3, 0, "e")
    assert step(client, "direct", 2, 1)["rows"] == "01"
    assert step(client, "direct", 2, 0, "e")["sum"] == 2
    assert step(client, "direct", 1, 0, "e")["rows"] == "1"


def test_who_finds_no_slot_waits_until_one_ends(client: Any, server: Server) -> None:
    step(client, "one", 1, 1, "s")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(elsewhere, server, client.module, "one", 2, 5, "se")
        while server.engine.counters()["in_flight"] == 0:
            pass
        assert step(client, "one", 1, 1)["sum"] == 2
        assert not waiting.done()
        step(client, "one", 1, 1, "e")
        assert waiting.result(20)["sum"] == 5


def test_who_waits_too_long_for_a_slot_is_told(client: Any) -> None:
    step(client, "one", 1, 1, "s")
    told = refusal(client, "one", 2, 5, "s", timeout=20_000)
    assert "timeout of the corresponding sequence has been expired" in told
    assert "must specify the START flag" in refusal(client, "one", 2, 5)
    step(client, "one", 1, 1, "e")


def test_an_idle_sequence_makes_room_and_is_forgotten(client: Any) -> None:
    step(client, "short", 1, 1, "s")
    assert step(client, "short", 2, 7, "s")["sum"] == 7
    assert "must specify the START flag" in refusal(client, "short", 1, 1)
    step(client, "short", 3, 1, "se")


def test_a_stream_carries_several_sequences(server: Server) -> None:
    got: list[Any] = []
    done = threading.Event()

    def came(result: Any, error: Any) -> None:
        got.append(error or json.loads(result.as_numpy("OUT").item()))
        if len(got) == 6:
            done.set()

    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(came)
        for at, flags in enumerate(("s", "", "e")):
            for key in (21, 22):
                tensor = grpcclient.InferInput("IN", [1, 1], "INT32")
                tensor.set_data_from_numpy(np.array([[key * at]], np.int32))
                client.async_stream_infer(
                    "oldest",
                    [tensor],
                    sequence_id=key,
                    sequence_start="s" in flags,
                    sequence_end="e" in flags,
                )
        assert done.wait(20), got
        client.stop_stream()
    assert [told["sum"] for told in got if told["key"] == 21] == [0, 21, 63]
    assert [told["sum"] for told in got if told["key"] == 22] == [0, 22, 66]


def test_metadata_shows_no_controls_and_statistics_count_requests(server: Server) -> None:
    with httpclient.InferenceServerClient(server.http_url.removeprefix("http://")) as client:
        client.module = httpclient
        assert [each["name"] for each in client.get_model_metadata("direct")["inputs"]] == ["IN"]
        before = success(client)
        step(client, "direct", 31, 1, "s")
        step(client, "direct", 32, 1, "s")
        step(client, "direct", 32, 1, "e")  # with an empty row before it
        step(client, "direct", 31, 1, "e")
        assert success(client) - before == 4


def success(client: Any) -> int:
    told = client.get_inference_statistics("direct")["model_stats"][0]
    return int(told["inference_stats"]["success"]["count"])


def test_an_unload_ends_sequences_and_answers_what_waits(tmp_path: Path) -> None:
    write(tmp_path, "one", "direct {} max_sequence_idle_microseconds: 60000000", batch=1)
    with (
        serve(tmp_path, model_control_mode="explicit", load_models=("one",)) as server,
        client_of(server) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        step(client, "one", 1, 1, "s")
        waiting = pool.submit(elsewhere, server, httpclient, "one", 2, 5, "s")
        while server.engine.counters()["in_flight"] == 0:
            pass
        client.unload_model("one")  # the sequence in the only slot has no end
        assert waiting.result(20)["sum"] == 5


def test_an_onnx_model_gets_its_controls(tmp_path: Path) -> None:
    inputs: list[Any] = [(name, TensorProto.FLOAT, ["b", 1]) for name in ("IN", "START", "READY")]
    nodes = [
        helper.make_node("Add", ["IN", "START"], ["SUM"]),
        helper.make_node("Mul", ["SUM", "READY"], ["OUT"]),
    ]
    graph(tmp_path / "onnx/1/model.onnx", inputs, [("OUT", TensorProto.FLOAT, ["b", 1])], nodes)
    controls = "".join(
        f'control_input {{ name: "{kind}" control {{ kind: CONTROL_SEQUENCE_{kind} '
        "fp32_false_true: [ 0, 100 ] } } "
        for kind in ("START", "READY")
    )
    text = (
        f'backend: "onnxruntime" max_batch_size: 4 sequence_batching {{ oldest {{}} {controls} }}'
    )
    (tmp_path / "onnx/config.pbtxt").write_text(text)
    with serve(tmp_path) as server, client_of(server) as client:
        assert [each["name"] for each in client.get_model_metadata("onnx")["inputs"]] == ["IN"]
        for flags, expected in (("s", 10100), ("", 100), ("e", 100)):
            tensor = httpclient.InferInput("IN", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
            answer = client.infer(
                "onnx",
                [tensor],
                sequence_id=5,
                sequence_start="s" in flags,
                sequence_end="e" in flags,
            )
            assert answer.as_numpy("OUT").item() == expected


@pytest.mark.parametrize(
    ("batching", "text"),
    [
        (
            'state { input_name: "S" output_name: "T" data_type: TYPE_INT32 dims: [ 1 ] }',
            "uses implicit state (sequence_batching.state)",
        ),
        ("iterative_sequence: true", "uses iterative sequences"),
    ],
)
def test_what_is_not_offered_refuses_the_model(tmp_path: Path, batching: str, text: str) -> None:
    write(tmp_path, "later", batching)
    with serve(tmp_path, wait=None) as server:
        assert server.wait_loaded(30)
        assert text in server.states.index()[0].reason
