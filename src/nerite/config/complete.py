# SPDX-License-Identifier: Apache-2.0
"""Fill in what a configuration leaves out.

`complete_backend` reads it off the files of the version folder, `normalise` adds the defaults that
do not depend on the backend, `complete_instances` decides how many instances run where. What only
a backend knows (the tensors of an ONNX file) comes through an `Inferrer`, so that a configuration
can be completed and checked on a machine without the backend. Rules are in `check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from nerite.config.model import ModelConfig
from nerite.config.model_files import starts_as_lightgbm
from nerite.config.schema import Message
from nerite.config.settings import Settings
from nerite.errors import ConfigError, ConfigProblem

SEQUENCE_IDLE_DEFAULT_US = 1_000_000
#: Backends that run two instances on a CPU unless told otherwise.
TWO_ON_CPU = frozenset({"onnxruntime", "tensorflow"})


class Inferrer(Protocol):
    """What a backend can add to a configuration by looking at the model itself.

    Called once per model with the highest version folder to be served, after the server's own
    completion and before the rules about tensors. It answers the same or a richer configuration
    (`config.with_fields(...)`) and raises an error of `nerite.errors` where file and model differ.
    """

    def __call__(
        self, config: ModelConfig, version_dir: Path, settings: Settings
    ) -> ModelConfig: ...


class _Known(NamedTuple):
    """A file name by which a backend is recognised, and what goes with it."""

    backend: str
    platform: str
    filename: str
    is_file: bool | None = None
    """True: must be a file; False: must be a folder; None: either."""


# In this order; the first that is found wins.
KNOWN_MODELS = (
    _Known("tensorflow", "tensorflow_savedmodel", "model.savedmodel", False),
    _Known("tensorflow", "tensorflow_graphdef", "model.graphdef", True),
    _Known("tensorrt", "tensorrt_plan", "model.plan", True),
    _Known("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    _Known("openvino", "", "model.xml"),
    _Known("pytorch", "pytorch_libtorch", "model.pt", True),
    _Known("pytorch", "torch_aoti", "model.pt2", True),
    _Known("python", "", "model.py"),
    # Not Triton's: after all of its own, so that no repository of it is read differently.
    _Known("sklearn", "", "model.skops", True),
    _Known("sklearn", "", "model.joblib", True),
    _Known("sklearn", "", "model.pkl", True),
    _Known("sklearn", "", "model.pickle", True),
    _Known("xgboost", "", "model.ubj", True),
    _Known("xgboost", "", "model.json", True),
    _Known("xgboost", "", "model.bst", True),
    _Known("lightgbm", "", "model.txt", True),
    _Known("lightgbm", "", "model.bst", True),
)


def complete_backend(message: Message, name: str, version_dir: Path | None) -> None:
    """Set name, backend, platform and default_model_filename from what is written and found.

    Raises ConfigError when no backend can be told.
    """
    if not message.name:
        message.name = name
    known = _recognised(message, version_dir) or _usual(message.backend)
    if known is not None:
        message.backend = message.backend or known.backend
        message.platform = message.platform or known.platform
        message.default_model_filename = message.default_model_filename or known.filename
    elif not (message.backend or message.platform or message.default_model_filename):
        if "." not in name:
            raise ConfigError(_no_backend(name))
        message.backend = name.partition(".")[2]
        message.default_model_filename = f"model.{message.backend}"


def _recognised(message: Message, version_dir: Path | None) -> _Known | None:
    for known in KNOWN_MODELS:
        if message.backend in ("", known.backend) and _fits(message, known, version_dir):
            return known
    return None


def _fits(message: Message, known: _Known, version_dir: Path | None) -> bool:
    if message.platform:
        # Any platform goes with a backend that has none of its own.
        return message.platform == (known.platform or message.platform) and bool(
            known.platform or message.backend
        )
    if message.default_model_filename:
        return bool(message.default_model_filename == known.filename)
    if version_dir is None:
        return False
    path = version_dir / known.filename
    if known.filename == "model.bst" and not message.backend:  # two backends have that ending
        return path.is_file() and starts_as_lightgbm(path) == (known.backend == "lightgbm")
    return _is_there(path, known.is_file)


def _usual(backend: str) -> _Known | None:
    """What a backend serves when nothing says otherwise; for TensorFlow the platform must."""
    if backend == "tensorflow":
        return None
    return next((known for known in KNOWN_MODELS if known.backend == backend), None)


def _is_there(path: Path, is_file: bool | None) -> bool:
    if is_file is None:
        return path.exists()
    return path.is_file() if is_file else path.is_dir()


def _no_backend(name: str) -> ConfigProblem:
    message = (
        f"Invalid model name: Could not determine backend for model '{name}' with no backend in "
        "model configuration. Expected model name of the form 'model.<backend_name>'."
    )
    files = ", ".join(known.filename for known in KNOWN_MODELS)
    fix = f"set 'backend', or put one of these into the version folder: {files}"
    return ConfigProblem(message, key="backend", fix=fix)


def normalise(message: Message) -> None:
    """Add the defaults that Triton's config endpoint shows; a second call changes nothing."""
    if not message.HasField("version_policy"):
        message.version_policy.latest.num_versions = 1
    if message.HasField("dynamic_batching"):
        _prefer_full_batches(message.dynamic_batching, message.max_batch_size)
    if message.HasField("sequence_batching"):
        batching = message.sequence_batching
        if batching.max_sequence_idle_microseconds == 0:
            batching.max_sequence_idle_microseconds = SEQUENCE_IDLE_DEFAULT_US
        if batching.HasField("oldest"):
            _prefer_full_batches(batching.oldest, message.max_batch_size)
    if not message.HasField("ensemble_scheduling") and message.platform != "ensemble":
        for pinned in ("input_pinned_memory", "output_pinned_memory"):
            if not message.optimization.HasField(pinned):
                getattr(message.optimization, pinned).enable = True


def _prefer_full_batches(batching: Message, max_batch_size: int) -> None:
    if not batching.preferred_batch_size and max_batch_size > 0:
        batching.preferred_batch_size.append(max_batch_size)


def complete_instances(message: Message, gpus: tuple[int, ...]) -> None:
    """Make sure there is an instance group, and give each its name, kind, count and GPUs."""
    if message.HasField("ensemble_scheduling"):
        return
    if not message.instance_group:
        message.instance_group.add(name=message.name)
    for index, group in enumerate(message.instance_group):
        group.name = group.name or f"{message.name}_{index}"
        kinds = group.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_name
        gpu, cpu = kinds["KIND_GPU"].number, kinds["KIND_CPU"].number
        if group.kind == kinds["KIND_AUTO"].number:
            usable = bool(gpus) and set(group.gpus) <= set(gpus)
            group.kind = gpu if usable else cpu
        if group.count < 1:
            group.count = 2 if group.kind == cpu and message.backend in TWO_ON_CPU else 1
        if group.kind == gpu and not group.gpus:
            group.gpus.extend(gpus)
