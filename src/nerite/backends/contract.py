# SPDX-License-Identifier: Apache-2.0
"""What a backend is: three methods, and what they are given.

`load`, `execute` and `unload` are called one at a time, always on the thread of the instance. What
else a backend can do it says by having a further method (`AutoCompletes`). `Batch` and
`Request` describe what the data plane passes in (`nerite._core`), so that a backend can be written
and tested without it; `nerite.testing` has batches made from arrays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    runtime_checkable,
)

from nerite.errors import Unsupported

if TYPE_CHECKING:
    from nerite.config.model import ModelConfig
    from nerite.tensors import Array

    Outputs: TypeAlias = Mapping[str, Array]
else:
    Outputs: TypeAlias = Mapping[str, Any]

T = TypeVar("T")

ParameterValue: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, ParameterValue]

Answer: TypeAlias = Outputs | tuple[Outputs, Parameters] | BaseException
"""What one request gets: its outputs, outputs with response parameters, or an error."""

Executed: TypeAlias = Outputs | tuple[Outputs, Parameters] | Sequence[Answer]
"""What `execute` returns. For all requests together: one mapping, whose arrays have
`batch.rows` rows first, or a tuple of it and the response parameters of each request. Otherwise a
*list* with one `Answer` per request, in order."""


class ResponseSender(Protocol):
    """Where a decoupled model answers; see `nerite._core.ResponseSender`."""

    def send(self, answer: Answer | None, last: bool) -> bool: ...
    def is_cancelled(self) -> bool: ...


class Request(Protocol):
    """One request of a batch; see `nerite._core.Request`."""

    @property
    def id(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def inputs(self) -> Mapping[str, Array]: ...
    @property
    def parameters(self) -> Mapping[str, ParameterValue]: ...
    @property
    def requested_outputs(self) -> list[str]: ...
    @property
    def correlation_id(self) -> int | str: ...
    @property
    def flags(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def timeout_us(self) -> int: ...
    def is_cancelled(self) -> bool: ...
    def response_sender(self) -> ResponseSender | None: ...


class Batch(Protocol):
    """The requests of one execution; see `nerite._core.Batch`."""

    def __len__(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def inputs(self) -> Mapping[str, Array]: ...
    @property
    def requested_outputs(self) -> list[str]: ...
    @property
    def requests(self) -> Sequence[Request]: ...


@dataclass(frozen=True, slots=True)
class Device:
    """Where an instance runs, and how much of the machine is its share."""

    kind: str = "CPU"
    """`CPU`, `MODEL` (the backend decides) or `GPU`."""
    id: int = 0
    """Number of the GPU; 0 otherwise."""
    threads: int = 1
    """How many cores the instance may keep busy if its configuration does not say."""
    cores: tuple[int, ...] = ()
    """The cores that its thread, and those that it starts, are pinned to; empty if they are not."""


class Memory(NamedTuple):
    """Memory that a model holds."""

    kind: Literal["CPU", "CPU_PINNED", "GPU"]
    id: int
    """Number of the GPU; 0 otherwise."""
    byte_size: int


@runtime_checkable
class TellsMemory(Protocol):
    """A backend, or a thing that instances share, that can tell what it holds once it is loaded."""

    def held_memory(self) -> Sequence[Memory]:
        """What it holds, as well as it knows; what is shared is the shared thing's to tell."""


def memory_of(thing: object) -> Sequence[Memory]:
    """What a backend or a shared thing says that it holds."""
    return thing.held_memory() if isinstance(thing, TellsMemory) else ()


class Shared:
    """Things that the instances of one model version have in common.

    The first to ask makes a thing, the others wait and get the same one. It lives as long as the
    version does; then it is closed if it has a method `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._things: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """The thing called `key`, made by `make` if nobody has made it yet."""
        with self._lock:
            if key not in self._things:
                self._things[key] = make()
            return cast(T, self._things[key])

    def held_memory(self) -> list[Memory]:
        """What those of the things hold that can tell it."""
        with self._lock:
            things = list(self._things.values())
        return [held for thing in things for held in memory_of(thing)]

    def drop(self, key: Any) -> None:
        """Closes and lets go of the thing called `key`, if somebody has made it."""
        with self._lock:
            thing = self._things.pop(key, None)
        _close(thing)

    def clear(self) -> None:
        """Closes and lets go of everything; whoever asks next makes it anew."""
        with self._lock:
            things, self._things = list(self._things.values()), {}
        for thing in things:
            _close(thing)


def _close(thing: Any) -> None:
    close = getattr(thing, "close", None)
    if close is not None:
        close()


@dataclass(frozen=True, slots=True)
class Model:
    """What a backend instance is to run."""

    config: ModelConfig
    """The completed configuration; while it is being completed, as much as is known."""
    version: int
    folder: Path
    """The model's folder, which everything that the configuration names lies in."""
    version_folder: Path
    """The folder of this version's files."""
    instance: str = ""
    """Name of the instance, `{group}_{index}`; what Triton's texts call the model."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The `--backend-config` of this backend, with the settings for all backends below it."""
    shared: Shared = field(default_factory=Shared)
    trusted: bool = False
    """Whether files that run code when they are loaded may be (`--trust`)."""

    @property
    def name(self) -> str:
        """The name clients use."""
        return self.config.name

    @property
    def file(self) -> Path:
        """The model file: `default_model_filename` in the version's folder."""
        return self.version_folder / self.config.default_model_filename

    def parameter(self, key: str, default: str = "") -> str:
        """The string of a parameter of the configuration."""
        return self.config.parameters.get(key, default)


def require_cpu(model: Model, device: Device) -> None:
    """Refuses a GPU, for a backend that cannot use one."""
    if device.kind == "GPU":
        raise Unsupported(f"model '{model.name}': GPUs are not supported by this version")


class Backend(Protocol):
    """Runs one model instance. Calls arrive one at a time, always on the same thread."""

    def load(self, model: Model, device: Device) -> None:
        """Gets ready to execute; what it raises is the reason why the model is unavailable."""

    def execute(self, batch: Batch) -> Executed | None:
        """Answers every request of a batch; what it raises fails them all.

        A decoupled model returns None and answers with the requests' senders, then or later.
        """

    def unload(self) -> None:
        """Lets go of what `load` took. Called once, also after a `load` that failed."""


@runtime_checkable
class AutoCompletes(Protocol):
    """A backend that can tell what the configuration leaves out from the model itself."""

    @classmethod
    def complete(cls, model: Model) -> ModelConfig:
        """`model.config` with the gaps filled (`model.config.with_fields(...)`).

        It holds what was written and what Nerite knows by itself.
        """
