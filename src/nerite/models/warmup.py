# SPDX-License-Identifier: Apache-2.0
"""Warming up: made-up requests that every instance executes before its model is ready.

Samples are Triton's (`model_warmup`): each is `batch_size` equal requests that are executed
together, `count` times. They go to the backend itself and past the queue, so that nothing counts
them; what is answered is not looked at, only whether it is an error. The rules of `config` have
checked them before.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from nerite.backends.contract import Answer, Backend
from nerite.backends.made import MadeBatch, MadeRequest, frozen
from nerite.config import ModelConfig, WarmupInput, WarmupSample
from nerite.config.parts import TensorSpec
from nerite.errors import InternalError, InvalidArgument
from nerite.stores.local import resolve_inside
from nerite.tensors import Array, deserialize_bytes, dtype_of, object_array

_log = logging.getLogger(__name__)

#: Random data is the same at each load: a model that loads once loads again.
SEED: Final = 0
LET_GO: Final = "the model let go of the response sender before its last response"


@dataclass(frozen=True, slots=True)
class Warmup:
    """One sample, ready to be executed."""

    name: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    requests: int
    """How many requests it consists of."""
    count: int
    """How often it is executed."""
    together: bool
    """Whether its requests are one batch: those of a model without batching are executed singly."""
    decoupled: bool


def warmups(config: ModelConfig, folder: Path) -> tuple[Warmup, ...]:
    """The samples of a model, their data read from its `warmup` folder or made.

    Raises:
        NeriteError: A data file cannot be read, or does not hold what the sample says.
    """
    # Triton skips a sample of no requests.
    return tuple(
        _prepared(sample, config, folder) for sample in config.model_warmup if sample.batch_size
    )


def _prepared(sample: WarmupSample, config: ModelConfig, folder: Path) -> Warmup:
    declared = {tensor.name: tensor for tensor in config.inputs}
    batches = config.max_batch_size > 0
    generator = np.random.default_rng(SEED)
    inputs = {}
    for name, made in sample.inputs.items():
        data = _data(name, made, folder, generator)
        # A name that is not declared is a control input of the sequence batcher.
        shape = _backend_shape(made.dims, declared.get(name))
        inputs[name] = frozen(data.reshape((1, *shape) if batches else shape))
    return Warmup(
        name=sample.name,
        inputs=inputs,
        outputs=tuple(tensor.name for tensor in config.outputs),
        requests=sample.batch_size,
        count=sample.count,
        together=batches,
        decoupled=config.decoupled,
    )


def _backend_shape(dims: tuple[int, ...], declared: TensorSpec | None) -> tuple[int, ...]:
    if declared is None or declared.reshape is None:
        return dims
    variable = iter([size for size, dim in zip(dims, declared.dims, strict=True) if dim == -1])
    return tuple(next(variable) if dim == -1 else dim for dim in declared.reshape)


def _data(name: str, made: WarmupInput, folder: Path, generator: np.random.Generator) -> Array:
    elements = math.prod(made.dims)
    if made.source == "file":
        return _from_file(name, made, folder, elements)
    if made.datatype == "BYTES":
        return object_array([b""] * elements)  # of random data too, as in Triton
    dtype = dtype_of(made.datatype)
    if made.source == "zero":
        return np.zeros(elements, dtype)
    return _random(made.datatype, elements, generator)


def _random(datatype: str, elements: int, generator: np.random.Generator) -> Array:
    """Fractions between 0 and 1, or any whole numbers of the type."""
    dtype = dtype_of(datatype)
    drawn: Array
    if datatype == "BF16":
        drawn = generator.random(elements, np.float32).view(np.uint32) >> 16
    elif dtype.kind == "f":
        drawn = generator.random(elements)
    elif dtype.kind == "b":
        drawn = generator.integers(0, 2, elements)
    else:
        limits = np.iinfo(dtype)
        drawn = generator.integers(limits.min, limits.max, elements, dtype, endpoint=True)
    return drawn.astype(dtype)


def _from_file(name: str, made: WarmupInput, folder: Path, elements: int) -> Array:
    file = resolve_inside(folder / "warmup", made.file)
    try:
        data = file.read_bytes()
    except OSError as why:
        raise InternalError(f"failed to open text file for read {file}: {why.strerror}") from why
    if made.datatype != "BYTES":
        dtype = dtype_of(made.datatype)
        return np.frombuffer(data[: elements * dtype.itemsize], dtype)
    strings = deserialize_bytes(data)
    if len(strings) != elements:
        raise InvalidArgument(
            f"warmup setting expects {elements} strings for input '{name}', but the data provided "
            f"from {made.file} has {len(strings)}"
        )
    return strings


def warm_up(backend: Backend, warmup: Warmup, instance: str) -> None:
    """Has an instance execute a sample, on the calling thread.

    Raises:
        InvalidArgument: A request was answered with an error.
    """
    batches = [warmup.requests] if warmup.together else [1] * warmup.requests
    for iteration in range(1, warmup.count + 1):
        _log.debug(
            "instance '%s' is running warmup sample '%s' for iteration %d",
            instance,
            warmup.name,
            iteration,
        )
        # As one text where all requests of a batch fail alike.
        errors = dict.fromkeys(text for size in batches for text in _errors(backend, warmup, size))
        if errors:
            told = "".join(f"{text}; " for text in errors)
            raise InvalidArgument(f"failed to run warmup sample '{warmup.name}': {told}")


def _errors(backend: Backend, warmup: Warmup, size: int) -> list[str]:
    """Executes one batch; the errors that its requests were answered with."""
    ends = [_End() for _ in range(size)] if warmup.decoupled else []
    try:
        # Nothing here may keep the batch: who lets go of a sender is noticed by its end.
        executed = backend.execute(_batch(warmup, size, ends))
    except Exception as why:
        return [str(why)]
    if executed is None:
        return [error for end in ends for error in end.wait()]
    answers = executed if isinstance(executed, list) else []
    return [str(answer) for answer in answers if isinstance(answer, BaseException)]


def _batch(warmup: Warmup, size: int, ends: list[_End]) -> MadeBatch:
    requests = [
        MadeRequest(warmup.inputs, requested_outputs=list(warmup.outputs)) for _ in range(size)
    ]
    for request, end in zip(requests, ends, strict=False):
        request.sender = _Sender(end)
    return MadeBatch(requests)


class _End:
    """Where a request of a decoupled model ends."""

    def __init__(self) -> None:
        self.closed = False
        self.errors: list[str] = []
        self._came = threading.Event()

    def close(self) -> None:
        self.closed = True
        self._came.set()

    def wait(self) -> list[str]:
        self._came.wait()
        return self.errors


class _Sender:
    """The response sender of a made-up request; responses go nowhere."""

    def __init__(self, end: _End) -> None:
        self._end = end

    def send(self, answer: Answer | None, last: bool) -> bool:
        if self._end.closed:
            return False
        if isinstance(answer, BaseException):
            self._end.errors.append(str(answer))
        if last:
            self._end.close()
        return True

    def is_cancelled(self) -> bool:
        return False

    def __del__(self) -> None:
        if not self._end.closed:
            self._end.errors.append(
                "the model let go of the response sender before its last response"
            )
            self._end.close()
