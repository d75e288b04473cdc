# SPDX-License-Identifier: Apache-2.0
"""Run ONNX files with ONNX Runtime on the CPU.

One session serves all instances of a version: sessions may be used by several threads at once,
and the weights are in memory once. What a session is made of is in `onnx_session`; completing
and checking configurations against the file is in `onnx_signature`. Here is only the execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nerite.backends.contract import Batch, Device, Executed, Model, require_cpu
from nerite.backends.onnx_session import (
    Session,
    failure,
    intra_op_threads,
    open_session,
    require,
)
from nerite.backends.onnx_signature import agree, complete
from nerite.errors import InvalidArgument
from nerite.tensors import object_array

if TYPE_CHECKING:
    from nerite.config.model import ModelConfig
    from nerite.config.parts import TensorSpec
    from nerite.tensors import Array

__all__ = ["OnnxBackend", "require"]

_Change = Callable[["Array"], "Array"]

#: Threads of the session that only tells what the file declares.
PROBING_THREADS = 1


class OnnxBackend:
    """One instance of an ONNX model."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._run: Callable[..., list[Any]] = _not_loaded
        self._names: list[str] = []
        self._ranks: list[tuple[str, int, tuple[int, ...]]] = []
        self._changes: dict[str, _Change] = {}
        self._batches = False

    @classmethod
    def complete(cls, model: Model) -> ModelConfig:
        """The configuration with the tensors and the batching that the file tells."""
        return complete(model, lambda: _session(model, PROBING_THREADS, ()))

    def load(self, model: Model, device: Device) -> None:
        """Opens the file and holds the configuration against it."""
        require_cpu(model, device)
        session = _session(model, device.threads, device.cores)
        probe = _key(model, PROBING_THREADS, ())
        if probe != _key(model, device.threads, device.cores):
            # Opened before anyone knew how many instances share the cores.
            model.shared.drop(probe)
        config = model.config
        agree(config, session)
        self._batches = config.max_batch_size > 0
        self._names = [tensor.name for tensor in config.outputs]
        self._ranks = [self._expected(tensor) for tensor in config.outputs]
        self._changes = {
            tensor.name: change
            for tensor in config.inputs
            if (change := _change(tensor, session, self._batches)) is not None
        }
        self._session = session
        self._run = session.run_bf16 if _has_bf16(config) else session.run

    def execute(self, batch: Batch) -> Executed:
        """Runs the whole batch at once."""
        feeds: Mapping[str, Array] = batch.inputs
        if self._changes:
            keep = self._changes.get
            feeds = {
                name: array if (change := keep(name)) is None else change(array)
                for name, array in feeds.items()
            }
        try:
            arrays = self._run(self._names, feeds)
        except Exception as why:
            raise failure(why) from why
        outputs = dict(zip(self._names, arrays, strict=True))
        for name, rank, shape in self._ranks:
            if outputs[name].ndim != rank:
                outputs[name] = self._as_declared(outputs[name], batch, shape)
        return outputs

    def unload(self) -> None:
        """Lets go of the session; the last instance's goes away with the version."""
        self._session = None
        self._run = _not_loaded

    def _expected(self, tensor: TensorSpec) -> tuple[str, int, tuple[int, ...]]:
        shape = tensor.dims if tensor.reshape is None else tensor.reshape
        return tensor.name, len(shape) + self._batches, shape

    def _as_declared(self, array: Array, batch: Batch, shape: tuple[int, ...]) -> Array:
        """The output in the declared shape, if it has as many elements; else as it came.

        Exporters often write an output's rank wrongly into the file (`[N]` for `[N, 1]`).
        """
        target = (batch.rows, *shape) if self._batches else shape
        try:
            return array.reshape(target)
        except ValueError:
            return array


def _session(model: Model, threads: int, cores: tuple[int, ...]) -> Session:
    return model.shared.get(_key(model, threads, cores), lambda: open_session(model, threads))


def _key(model: Model, threads: int, cores: tuple[int, ...]) -> tuple[str, int, tuple[int, ...]]:
    # The threads of a session run where the thread did that opened it.
    return "session", intra_op_threads(model, threads), cores


def _has_bf16(config: ModelConfig) -> bool:
    return any(tensor.datatype == "BF16" for tensor in (*config.inputs, *config.outputs))


def _change(tensor: TensorSpec, session: Session, batches: bool) -> _Change | None:
    """What must happen to an input's array before ONNX Runtime takes it."""
    if tensor.datatype == "BYTES":
        return _as_text
    if not batches and tensor.dims == (1,) and session.inputs[tensor.name].shape == ():
        # The configuration cannot declare a scalar without batching; the file wants one.
        return _as_scalar
    return None


def _as_scalar(array: Array) -> Array:
    return array.reshape(())


def _as_text(array: Array) -> Array:
    """ONNX strings are text: `bytes` objects would arrive as their printed form."""
    try:
        items = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
    except UnicodeDecodeError as why:
        raise InvalidArgument(f"a string is not UTF-8, which ONNX strings are: {why}") from why
    return object_array(items).reshape(array.shape)


def _not_loaded(*_arguments: Any) -> list[Any]:
    raise RuntimeError("the model is not loaded")
