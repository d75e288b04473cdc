"""ONNX models: files of every shape, options, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from nerite.backends.contract import Device
from nerite.backends.onnx import OnnxBackend
from nerite.backends.onnx_session import _session_options, failure
from nerite.errors import InternalError, InvalidArgument, Unsupported
from nerite.testing import answers_of, batch_of, model_for

FLOAT, STRING, BF16, HALF = (
    TensorProto.FLOAT,
    TensorProto.STRING,
    TensorProto.BFLOAT16,
    TensorProto.FLOAT16,
)
Tensor = tuple[str, int, Sequence[Any] | None]


def graph(
    path: Path, inputs: list[Tensor], outputs: list[Tensor], nodes: Any = None, weights: Any = ()
) -> None:
    """Writes a graph; without nodes each input becomes the output beside it."""
    if nodes is None:
        nodes = [
            helper.make_node("Identity", [given[0]], [wanted[0]])
            for given, wanted in zip(inputs, outputs, strict=True)
        ]
    infos = [[helper.make_tensor_value_info(*one) for one in side] for side in (inputs, outputs)]
    made = helper.make_graph(nodes, "g", *infos, initializer=list(weights))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


def open_model(folder: Path, **fields: Any) -> tuple[Any, OnnxBackend]:
    model = model_for(folder, {"backend": "onnxruntime", **fields})
    backend = OnnxBackend()
    backend.load(model, Device(threads=1))
    return model, backend


def run(folder: Path, *requests: dict[str, Any], **fields: Any) -> list[Any]:
    model, backend = open_model(folder, **fields)
    batch = batch_of(*requests, batches=model.config.max_batch_size > 0)
    return answers_of(backend.execute(batch), batch)


def declared(model: Any) -> list[Any]:
    return [(t.name, t.datatype, t.dims, t.reshape) for t in model.config.inputs]


def test_a_scalar_can_be_served_without_batching(tmp_path: Path) -> None:
    graph(
        tmp_path / "m/1/model.onnx",
        [("RATE", FLOAT, []), ("STATE", FLOAT, [2, "N"])],
        [("R", FLOAT, []), ("S", FLOAT, [2, "N"])],
    )
    model, backend = open_model(tmp_path / "m")
    assert declared(model) == [("RATE", "FP32", (1,), None), ("STATE", "FP32", (2, -1), None)]
    assert model.config.max_batch_size == 0
    inputs = {"RATE": np.array([7], "f4"), "STATE": np.ones((2, 3), "f4")}
    outputs = backend.execute(batch_of(inputs, batches=False))
    assert outputs["R"].tolist() == [7]  # type: ignore[call-overload, index]
    assert outputs["S"].shape == (2, 3)  # type: ignore[call-overload, index]


def test_a_vector_becomes_a_batch_of_scalars(tmp_path: Path) -> None:
    graph(tmp_path / "m/1/model.onnx", [("X", FLOAT, ["N"])], [("Y", FLOAT, ["N"])])
    model, _ = open_model(tmp_path / "m")
    assert declared(model) == [("X", "FP32", (1,), ())]
    # The data plane applies the reshape, so the backend is given one dimension.
    answers = run(tmp_path / "m", {"X": np.ones(2, "f4")}, {"X": np.zeros(1, "f4")})
    assert [answer["Y"].tolist() for answer in answers] == [[1, 1], [0]]


def test_an_output_whose_file_declares_another_rank_comes_as_configured(tmp_path: Path) -> None:
    nodes = [helper.make_node("Squeeze", ["X"], ["Y"])]  # its rank is known only at run time
    graph(tmp_path / "m/1/model.onnx", [("X", FLOAT, ["N", 1])], [("Y", FLOAT, None)], nodes)
    fields = {
        "max_batch_size": 4,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [1]}],
    }
    requests = [{"X": np.ones((2, 1), "f4")}, {"X": np.zeros((1, 1), "f4")}]
    first, second = run(tmp_path / "m", *requests, **fields)
    assert (first["Y"].shape, second["Y"].shape) == ((2, 1), (1, 1))


def test_strings_are_text_in_the_model_and_bytes_outside(tmp_path: Path) -> None:
    graph(tmp_path / "m/1/model.onnx", [("X", STRING, ["N", 2])], [("Y", STRING, ["N", 2])])
    text = np.array([["é".encode(), b""]], object)
    (answer,) = run(tmp_path / "m", {"X": text})
    assert answer["Y"].tolist() == [["é", ""]]
    with pytest.raises(InvalidArgument, match="a string is not UTF-8"):
        run(tmp_path / "m", {"X": np.array([[b"\xff", b""]], object)})


def test_half_precision_of_both_kinds_passes(tmp_path: Path) -> None:
    graph(
        tmp_path / "m/1/model.onnx",
        [("B", BF16, ["N", 2]), ("H", HALF, ["N", 2])],
        [("C", BF16, ["N", 2]), ("I", HALF, ["N", 2])],
    )
    bits = np.array([[0x3F80, 0x4000], [1, 2]], np.uint16)
    (answer,) = run(tmp_path / "m", {"B": bits, "H": np.full((2, 2), 0.5, "f2")})
    assert answer["C"].tolist() == bits.tolist()
    assert answer["C"].dtype == np.uint16
    assert answer["I"].dtype == np.float16
    (empty,) = run(tmp_path / "m", {"B": bits[:0], "H": np.zeros((0, 2), "f2")})
    assert empty["C"].shape == (0, 2)


def test_instances_share_one_session(tmp_path: Path) -> None:
    graph(tmp_path / "m/1/model.onnx", [("X", FLOAT, ["N", 2])], [("Y", FLOAT, ["N", 2])])
    model = model_for(tmp_path / "m", {"backend": "onnxruntime"})
    first, second = OnnxBackend(), OnnxBackend()
    first.load(model, Device())
    second.load(model, Device())
    assert first._session is second._session


def test_only_configured_outputs_are_computed(tmp_path: Path) -> None:
    graph(
        tmp_path / "m/1/model.onnx",
        [("A", FLOAT, ["N", 1]), ("B", FLOAT, ["N", 1])],
        [("C", FLOAT, ["N", 1]), ("D", FLOAT, ["N", 1])],
    )
    fields = {"output": [{"name": "D", "data_type": "TYPE_FP32", "dims": [1]}]}
    one = np.ones((1, 1), "f4")
    assert list(run(tmp_path / "m", {"A": one, "B": one}, **fields)[0]) == ["D"]


def options_of(tmp_path: Path, threads: int = 3, **fields: Any) -> Any:
    import onnxruntime

    graph(tmp_path / "m/1/model.onnx", [("X", FLOAT, ["N", 2])], [("Y", FLOAT, ["N", 2])])
    model = model_for(tmp_path / "m", {"backend": "onnxruntime", **fields})
    return _session_options(onnxruntime, model, threads)


def test_threads_are_the_instances_share_and_do_not_spin(tmp_path: Path) -> None:
    options = options_of(tmp_path)
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("threads", [1, 3])
def test_a_completed_model_runs_on_its_share_and_is_in_memory_once(
    tmp_path: Path, threads: int
) -> None:
    """The session that completing opens has one thread; it used to stay for the requests."""
    graph(tmp_path / "m/1/model.onnx", [("X", FLOAT, ["N", 2])], [("Y", FLOAT, ["N", 2])])
    model = model_for(tmp_path / "m", {"backend": "onnxruntime"})
    OnnxBackend.complete(model)
    backend = OnnxBackend()
    backend.load(model, Device(threads=threads))
    [session] = model.shared._things.values()
    assert session is backend._session
    assert session._session.get_session_options().intra_op_num_threads == threads


def test_parameters_reach_the_session(tmp_path: Path) -> None:
    import onnxruntime as ort

    parameters = {
        "intra_op_thread_count": "2",
        "inter_op_thread_count": "4",
        "execution_mode": "1",
        "enable_mem_arena": "0",
        "enable_mem_pattern": "0",
        "session.intra_op.allow_spinning": "1",
    }
    options = options_of(
        tmp_path,
        parameters={key: {"string_value": value} for key, value in parameters.items()},
        optimization={"graph": {"level": 1}},
    )
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 4)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"


@pytest.mark.parametrize(
    ("level", "name"), [(-1, "BASIC"), (0, "ALL"), (1, "EXTENDED"), (2, "DISABLE")]
)
def test_graph_levels_are_tritons(level: int, name: str, tmp_path: Path) -> None:
    options = options_of(tmp_path, optimization={"graph": {"level": level}})
    assert name in str(options.graph_optimization_level)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("../../outside.bin", "escapes model directory"),
        ("{tmp}/outside.bin", "Absolute path not allowed"),
        ("link.bin", "escapes model directory"),
    ],
)
def test_weights_outside_the_folder_are_refused(location: str, text: str, tmp_path: Path) -> None:
    weights = np.arange(4, dtype="f4").tobytes()
    for name in ("outside.bin", "m/1/inside.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(weights)
    os.symlink(tmp_path / "outside.bin", tmp_path / "m/1/link.bin")

    def with_weights(where: str) -> None:
        weight = TensorProto(name="W", data_type=FLOAT, dims=[4])
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=where)
        nodes = [helper.make_node("Add", ["X", "W"], ["Y"])]
        graph(tmp_path / "m/1/model.onnx", [("X", FLOAT, ["N", 4])], [("Y", FLOAT, ["N", 4])],
              nodes, [weight])  # fmt: skip

    with_weights("inside.bin")
    (answer,) = run(tmp_path / "m", {"X": np.zeros((1, 4), "f4")})
    assert answer["Y"].tolist() == [[0, 1, 2, 3]]
    with_weights(location.format(tmp=tmp_path))
    with pytest.raises(InternalError, match=text):
        run(tmp_path / "m", {"X": np.zeros((1, 4), "f4")})


def test_what_cannot_be_opened_says_why_in_tritons_words(tmp_path: Path) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    with pytest.raises(InternalError, match=r"^failed to stat file .*/m/1/model.onnx$"):
        open_model(tmp_path / "m")
    (tmp_path / "m/1/model.onnx").write_bytes(b"no model")
    with pytest.raises(InternalError) as caught:
        open_model(tmp_path / "m")
    assert str(caught.value) == (
        f"onnx runtime error 7: Load model from {tmp_path}/m/1/model.onnx "
        "failed:Protobuf parsing failed."
    )


def test_a_model_that_fails_while_running_says_why(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["A", "B"], ["C"])]
    graph(
        tmp_path / "m/1/model.onnx",
        [("A", FLOAT, ["N", "K", 2]), ("B", FLOAT, ["N", "L", 2])],
        [("C", FLOAT, ["N", "K", 2])],
        nodes,
    )
    one = np.ones((1, 3, 2), "f4")
    with pytest.raises(InternalError, match=r"^onnx runtime error \d+: Non-zero status code"):
        run(tmp_path / "m", {"A": one, "B": one})
    assert str(failure(ValueError("odd"))) == "onnx runtime error: odd"


def test_what_is_not_offered_is_refused(tmp_path: Path) -> None:
    graph(tmp_path / "m/1/model.onnx", [("X", FLOAT, ["N", 2])], [("Y", FLOAT, ["N", 2])])
    accelerators = {"execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}}
    with pytest.raises(Unsupported, match="execution accelerators"):
        open_model(tmp_path / "m", optimization=accelerators)
    with pytest.raises(InvalidArgument, match="'execution_mode' of model 'm' is -1"):
        open_model(tmp_path / "m", parameters={"execution_mode": {"string_value": "-1"}})


def test_a_real_model_from_a_package_runs(tmp_path: Path) -> None:
    """Silero VAD: a scalar input, a state whose batch dimension is the second."""
    spec = find_spec("silero_vad")
    assert spec is not None
    assert spec.origin is not None
    (tmp_path / "vad/1").mkdir(parents=True)
    shutil.copy(Path(spec.origin).parent / "data/silero_vad.onnx", tmp_path / "vad/1/model.onnx")
    inputs = {
        "input": np.zeros((1, 576), "f4"),
        "state": np.zeros((2, 1, 128), "f4"),
        "sr": np.array([16000], np.int64),
    }
    (answer,) = run(tmp_path / "vad", inputs)
    assert answer["output"].shape == (1, 1)
    assert answer["stateN"].shape == (2, 1, 128)
    assert 0 <= float(answer["output"][0, 0]) < 0.5
