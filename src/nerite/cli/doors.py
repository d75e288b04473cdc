# SPDX-License-Identifier: Apache-2.0
"""Read the flags and variables about the ports of clouds into `DoorOptions`.

SageMaker and Vertex AI start a container with variables, and Triton obeys them; so does Nerite. On
Vertex AI (`AIP_MODE=PREDICTION`) the plain ports are closed unless they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nerite.errors import InvalidArgument

if TYPE_CHECKING:
    from nerite.server.door_options import DoorOptions

_PORT = 8080
_NAMES = (
    "allow_sagemaker",
    "sagemaker_port",
    "sagemaker_safe_port_range",
    "allow_vertex_ai",
    "vertex_ai_port",
    "vertex_ai_default_model",
)


def door_options(values: dict[str, Any], variables: Mapping[str, str]) -> DoorOptions:
    """What flags and variables ask for; takes the flags' values out of `values`.

    Raises:
        InvalidArgument: A port is no port or not a safe one, or a route is missing.
    """
    from nerite.server.door_options import DoorOptions

    given = {name: values.pop(name) for name in _NAMES if name in values}
    on_vertex = variables.get("AIP_MODE") == "PREDICTION"
    vertex_ai = given.get("allow_vertex_ai", on_vertex)
    if on_vertex and vertex_ai:
        values.setdefault("allow_http", False)
        values.setdefault("allow_grpc", False)
    return DoorOptions(
        sagemaker=given.get("allow_sagemaker", False),
        sagemaker_port=given.get("sagemaker_port", _PORT),
        sagemaker_safe_ports=_span(given.get("sagemaker_safe_port_range", "")),
        sagemaker_model=variables.get("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", ""),
        sagemaker_ping=variables.get("SAGEMAKER_TRITON_PING_MODE", "") or "ready",
        sagemaker_invocation=variables.get("SAGEMAKER_TRITON_INFERENCE_TYPE", "") or "infer",
        vertex_ai=vertex_ai,
        vertex_ai_port=given.get("vertex_ai_port", _port(variables.get("AIP_HTTP_PORT", ""))),
        vertex_ai_model=given.get("vertex_ai_default_model", ""),
        vertex_ai_predict_route=variables.get("AIP_PREDICT_ROUTE", ""),
        vertex_ai_health_route=variables.get("AIP_HEALTH_ROUTE", ""),
    )


def cloud_repository(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Where Vertex AI says that the models are."""
    uri = variables.get("AIP_STORAGE_URI", "")
    return (uri,) if uri and variables.get("AIP_MODE") == "PREDICTION" else ()


def _port(word: str) -> int:
    if not word:
        return _PORT
    if not (word.isascii() and word.isdigit() and int(word) <= 65535):
        raise InvalidArgument(f"AIP_HTTP_PORT is '{word}'; a port is expected, for instance 8080")
    return int(word)


def _span(word: str) -> tuple[int, int] | None:
    """`8000-9000` as two ports."""
    if not word:
        return None
    low, dash, high = word.partition("-")
    if not (dash and low.isascii() and low.isdigit() and high.isascii() and high.isdigit()):
        raise InvalidArgument(
            f"--sagemaker-safe-port-range: '{word}' is no range of ports; write FIRST-LAST"
        )
    return int(low), int(high)
