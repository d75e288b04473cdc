# SPDX-License-Identifier: Apache-2.0
"""What models import as `triton_python_backend_utils`.

Names and behaviour are Triton's (`pb_utils`); the classes live next door. What this version does
not offer exists all the same, so that a model can be imported and fails where it uses it, with a
sentence that says what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from nerite.backends.python.failures import TritonError, TritonModelException, refuse
from nerite.backends.python.logger import Logger
from nerite.backends.python.messages import (
    InferenceRequest,
    InferenceResponse,
    get_input_tensor_by_name,
    get_output_tensor_by_name,
)
from nerite.backends.python.metrics import Metric, MetricFamily
from nerite.backends.python.model_config import ModelConfig
from nerite.backends.python.senders import InferenceResponseSender
from nerite.backends.python.tensor import (
    Tensor,
    numpy_to_triton_type,
    triton_string_to_numpy,
    triton_to_numpy_type,
)
from nerite.tensors import deserialize_bytes as deserialize_bytes_tensor
from nerite.tensors import serialize_bytes as serialize_byte_tensor

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU = 0
TRITONSERVER_MEMORY_GPU = 2

__all__ = [
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "Logger",
    "Metric",
    "MetricFamily",
    "ModelConfig",
    "PreferredMemory",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "is_model_ready",
    "load_model",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "unload_model",
    "using_decoupled_model_transaction_policy",
]


class PreferredMemory:
    """Where the answers of called models should lie; there is nothing but CPU memory here."""

    def __init__(self, memory_type: int, memory_type_id: int = 0) -> None:
        if memory_type != TRITONSERVER_MEMORY_CPU:
            refuse("GPU memory (PreferredMemory)")


def get_input_config_by_name(config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The properties of an input in a parsed `model_config`, or None."""
    return _named(config.get("input", ()), name)


def get_output_config_by_name(config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The properties of an output in a parsed `model_config`, or None."""
    return _named(config.get("output", ()), name)


def _named(properties: Any, name: str) -> dict[str, Any] | None:
    return next((found for found in properties if found["name"] == name), None)


def using_decoupled_model_transaction_policy(config: Mapping[str, Any]) -> bool:
    """Whether a parsed `model_config` is of a decoupled model."""
    return bool((config.get("model_transaction_policy") or {}).get("decoupled", False))


def load_model(*_args: Any, **_options: Any) -> NoReturn:
    """Would load a model: not offered yet."""
    refuse("pb_utils.load_model")


def unload_model(*_args: Any, **_options: Any) -> NoReturn:
    """Would unload a model: not offered yet."""
    refuse("pb_utils.unload_model")


def is_model_ready(*_args: Any, **_options: Any) -> NoReturn:
    """Would say whether another model is ready: not offered yet."""
    refuse("pb_utils.is_model_ready")


def install() -> None:
    """Makes `import triton_python_backend_utils` find this module."""
    sys.modules.setdefault("triton_python_backend_utils", sys.modules[__name__])
