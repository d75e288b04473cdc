# SPDX-License-Identifier: Apache-2.0
"""Open an ONNX Runtime session as a model's configuration asks for.

Parameters have Triton's names. Threads: unless told otherwise a session may use the cores that
its instances have as their share, and idle threads do not spin: a server has others to serve.
Data files beside the model must lie in its folder; ONNX Runtime itself refuses others.
"""

from __future__ import annotations

import ctypes
import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from nerite.backends.contract import Memory, Model
from nerite.errors import InternalError, InvalidArgument, NeriteError, Unsupported

#: ONNX Runtime's name of an element type -> the protocol's.
DATATYPES: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

_BFLOAT16: Final = 16  # onnx.TensorProto.BFLOAT16
_ERROR = re.compile(r"^\[ONNXRuntimeError\] : (\d+) : \w+ : (.*)$", re.DOTALL)
#: The configuration's graph level -> the name of ONNX Runtime's.
_LEVELS: Final = {
    -1: "ORT_ENABLE_BASIC",
    0: "ORT_ENABLE_ALL",
    1: "ORT_ENABLE_EXTENDED",
    2: "ORT_DISABLE_ALL",
}


def require() -> None:
    """Imports the package, so that a missing one is known before a model needs it."""
    import onnxruntime  # noqa: F401


@dataclass(frozen=True, slots=True)
class Signature:
    """A tensor as the file declares it."""

    kind: str
    """ONNX Runtime's name of its type."""
    shape: tuple[int, ...]
    """-1 for a size chosen at run time; `()` for a scalar, and where the file says nothing."""

    @property
    def datatype(self) -> str | None:
        """The protocol's data type; None if it is no tensor that the protocol has."""
        return DATATYPES.get(self.kind)


class Session:
    """An open session and what it takes and gives."""

    def __init__(self, session: Any, file_bytes: int, run_options: Any = None) -> None:
        self._file_bytes = file_bytes
        self.inputs = _signatures(session.get_inputs())
        self.outputs = _signatures(session.get_outputs())
        self._session = session
        self._options = run_options
        # The public `run` checks names again and costs a fifth of a small model's time.
        raw = getattr(session, "_sess", None)
        self._call = session.run if raw is None else raw.run

    def held_memory(self) -> list[Memory]:
        """The weights: ONNX Runtime does not tell what it takes, but they are most of a file."""
        return [Memory("CPU", 0, self._file_bytes)]

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs of these names."""
        return self._call(names, feeds, self._options)  # type: ignore[no-any-return]

    def run_bf16(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """The same where BF16 is among the types, which NumPy has no name for."""
        import onnxruntime as ort

        make = ort.OrtValue
        values = {
            name: make.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
            if self.inputs[name].datatype == "BF16"
            else make.ortvalue_from_numpy(array)
            for name, array in feeds.items()
        }
        return [
            _bits(value) if value.data_type() == "tensor(bfloat16)" else value.numpy()
            for value in self._session.run_with_ort_values(names, values, self._options)
        ]


def open_session(model: Model, threads: int) -> Session:
    """Opens the model's file.

    Raises:
        InvalidArgument: A parameter is not what it should be.
        InternalError: The file is missing, or ONNX Runtime does not take it.
    """
    import onnxruntime as ort

    options = _session_options(ort, model, threads)
    file = model.file
    if file.is_dir():
        file = file / "model.onnx"
    if not file.exists():
        raise InternalError(f"failed to stat file {file}")
    try:
        session = ort.InferenceSession(
            str(file), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as why:
        raise failure(why) from why
    return Session(session, _bytes(file), _run_options(ort, model))


def _bytes(file: Path) -> int:
    """Bytes of a model file and of the data files beside it, which exporters name `FILE.data` or
    `FILE_data`."""
    parts = file.parent.glob(f"{glob.escape(file.name)}*")
    return sum(part.stat().st_size for part in parts if part.is_file())


def failure(why: Exception) -> NeriteError:
    """An exception of ONNX Runtime in Triton's words."""
    if isinstance(why, NeriteError):
        return why
    told = _ERROR.match(str(why))
    if told is None:
        return InternalError(f"onnx runtime error: {why}")
    return InternalError(f"onnx runtime error {told[1]}: {told[2]}")


def intra_op_threads(model: Model, share: int) -> int:
    """Threads of one run: what the configuration says, or the instance's share of the cores."""
    return _number(model, "intra_op_thread_count", share)


def _session_options(ort: Any, model: Model, threads: int) -> Any:
    config = model.config.to_dict()
    accelerators = (config.get("optimization") or {}).get("execution_accelerators") or {}
    if any(accelerators.values()):
        raise Unsupported(
            f"model '{model.name}' asks for execution accelerators (optimization), "
            "which this version of Nerite does not offer; leave them out to run on the CPU"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: ONNX Runtime warns on stderr, in colour
    options.intra_op_num_threads = intra_op_threads(model, threads)
    options.inter_op_num_threads = _number(model, "inter_op_thread_count", 1)
    options.execution_mode = (
        ort.ExecutionMode.ORT_PARALLEL
        if _number(model, "execution_mode", 0)
        else ort.ExecutionMode.ORT_SEQUENTIAL
    )
    options.enable_cpu_mem_arena = bool(_number(model, "enable_mem_arena", 1))
    options.enable_mem_pattern = bool(_number(model, "enable_mem_pattern", 1))
    options.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, _LEVELS.get(model.config.graph_level, "ORT_ENABLE_ALL")
    )
    entries = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
    entries |= {k: v for k, v in model.config.parameters.items() if k.startswith("session.")}
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def _run_options(ort: Any, model: Model) -> Any:
    shrinkage = model.parameter("memory.enable_memory_arena_shrinkage")
    if not shrinkage:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", shrinkage)
    return options


def _number(model: Model, key: str, default: int) -> int:
    """A number from the model's parameters, else from the backend's settings; 0 is the default."""
    text = model.parameter(key) or model.settings.get(key, "")
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        raise InvalidArgument(f"failed to convert '{text}' to integral number") from None
    if number < 0:
        raise InvalidArgument(
            f"parameter '{key}' of model '{model.name}' is {number}; 0 or more is expected"
        )
    return number


def _signatures(arguments: Any) -> dict[str, Signature]:
    return {
        argument.name: Signature(
            argument.type,
            tuple(size if isinstance(size, int) else -1 for size in argument.shape),
        )
        for argument in arguments
    }


def _bits(value: Any) -> Any:
    """The bit patterns of a BF16 value, copied: the value's memory goes away with it."""
    shape = value.shape()
    count = int(np.prod(shape))
    if count == 0:
        return np.empty(shape, np.uint16)
    memory = (ctypes.c_uint16 * count).from_address(value.data_ptr())
    return np.frombuffer(memoryview(memory), np.uint16).reshape(shape).copy()
