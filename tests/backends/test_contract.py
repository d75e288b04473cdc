"""The contract suite, over the built-in backends and the one of the example."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nerite.config import read_model
from nerite.testing import BackendContract


def tensor(name: str, datatype: str, *dims: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{datatype}", "dims": list(dims), **more}


def f32(*rows: Any) -> Any:
    return np.array(rows, np.float32)


def texts(*rows: list[bytes]) -> Any:
    return np.array(rows, dtype=object)


class TestIdentity(BackendContract):
    backend = "identity"
    config: ClassVar[dict[str, Any]] = {
        "max_batch_size": 8,
        "input": [tensor("INPUT0", "FP32", 2), tensor("INPUT1", "STRING", 1)],
        "output": [tensor("OUTPUT0", "FP32", 2), tensor("OUTPUT1", "STRING", 1)],
    }
    examples: ClassVar[list[Any]] = [
        (
            {"INPUT0": f32([1, 2]), "INPUT1": texts([b"a"])},
            {"OUTPUT0": f32([1, 2]), "OUTPUT1": texts([b"a"])},
        ),
        (
            {"INPUT0": f32([3, 4], [5, 6]), "INPUT1": texts([b""], [b"\xff\0"])},
            {"OUTPUT0": f32([3, 4], [5, 6]), "OUTPUT1": texts([b""], [b"\xff\0"])},
        ),
    ]


class TestPython(BackendContract):
    backend = "python"
    config: ClassVar[dict[str, Any]] = {"max_batch_size": 4}
    files: ClassVar[dict[str, bytes]] = {
        "model.py": b"""
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [2]})
        config.set_dynamic_batching()
        return config

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x * 2)]))
        return responses
"""
    }
    examples: ClassVar[list[Any]] = [
        ({"X": f32([1, 2])}, {"Y": f32([2, 4])}),
        ({"X": f32([0, 1], [5, 6])}, {"Y": f32([0, 2], [10, 12])}),
    ]


class TestOnnx(BackendContract):
    """X + X, with a string passed through."""

    backend = "onnxruntime"
    config: ClassVar[dict[str, Any]] = {}
    examples: ClassVar[list[Any]] = [
        (
            {"X": f32([1, 2]), "S": texts(["é".encode()])},
            {"Y": f32([2, 4]), "T": texts(["é".encode()])},
        ),
        (
            {"X": f32([0, 1], [5, 6]), "S": texts([b"a"], [b""])},
            {"Y": f32([0, 2], [10, 12]), "T": texts([b"a"], [b""])},
        ),
    ]

    @property
    def files(self) -> dict[str, bytes]:  # type: ignore[override]
        from onnx import TensorProto, helper

        def info(name: str, kind: int, *shape: Any) -> Any:
            return helper.make_tensor_value_info(name, kind, list(shape))

        graph = helper.make_graph(
            [
                helper.make_node("Add", ["X", "X"], ["Y"]),
                helper.make_node("Identity", ["S"], ["T"]),
            ],
            "double",
            [info("X", TensorProto.FLOAT, "N", 2), info("S", TensorProto.STRING, "N", 1)],
            [info("Y", TensorProto.FLOAT, "N", 2), info("T", TensorProto.STRING, "N", 1)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return {"model.onnx": model.SerializeToString()}


class TestExample(BackendContract):
    """A backend outside the package: one file, and one line in a configuration."""

    backend = "reverse_backend:ReverseBackend"
    config: ClassVar[dict[str, Any]] = {
        "max_batch_size": 8,
        "input": [tensor("TEXT", "STRING", 1)],
        "output": [tensor("REVERSED", "STRING", 1)],
    }
    examples: ClassVar[list[Any]] = [
        ({"TEXT": texts([b"abc"])}, {"REVERSED": texts([b"cba"])}),
        ({"TEXT": texts([b"x y"], [b""])}, {"REVERSED": texts([b"y x"], [b""])}),
    ]


def test_the_examples_configuration_names_its_backend_in_one_line() -> None:
    folder = Path(__file__).parents[2] / "examples/backend/models/reverse"
    assert read_model(folder).config.backend == TestExample.backend
