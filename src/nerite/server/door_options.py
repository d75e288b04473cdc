# SPDX-License-Identifier: Apache-2.0
"""The ports that clouds expect of a container, as they are chosen at the start (`spec` 9.4, 9.5).

The data plane answers on them; here is only what may be asked for, and which model is meant where
a request names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.errors import InvalidArgument

PINGS = ("ready", "live")
INVOCATIONS = ("infer", "generate", "generate_stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOptions:
    """SageMaker's port and Vertex AI's; both take the address of HTTP."""

    sagemaker: bool = False
    sagemaker_port: int = 8080
    sagemaker_safe_ports: tuple[int, int] | None = None
    """The first and the last that its port may be."""
    sagemaker_model: str = ""
    """The model of `/invocations`; the only one unless given."""
    sagemaker_ping: str = "ready"
    """Whether `/ping` asks for `ready` or only for `live`."""
    sagemaker_invocation: str = "infer"
    """What `/invocations` is: `infer`, `generate` or `generate_stream`."""
    sagemaker_root: Path = Path("/opt/ml/models")
    """The folder below which SageMaker unpacks archives; no flag and no request changes it."""
    vertex_ai: bool = False
    vertex_ai_port: int = 8080
    vertex_ai_model: str = ""
    """The model of predictions; the only one unless given."""
    vertex_ai_predict_route: str = ""
    vertex_ai_health_route: str = ""

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("sagemaker_ping", self.sagemaker_ping, PINGS),
            ("sagemaker_invocation", self.sagemaker_invocation, INVOCATIONS),
        ):
            if value not in choices:
                raise InvalidArgument(
                    f"option '{name}' is '{value}'; one of {', '.join(choices)} is expected"
                )
        if self.sagemaker and self.sagemaker_safe_ports is not None:
            low, high = self.sagemaker_safe_ports
            if not low <= self.sagemaker_port <= high:
                raise InvalidArgument(
                    f"--sagemaker-port: {self.sagemaker_port} is not in the safe range {low} to "
                    f"{high} of --sagemaker-safe-port-range"
                )

    def engine_options(self, models: Sequence[str]) -> dict[str, Any]:
        """The part that the engine is made with; `models` are the names of those that are there.

        Raises:
            InvalidArgument: A route is missing, or no model is named for predictions and there is
                not just one.
        """
        only = models[0] if len(models) == 1 else ""
        if self.vertex_ai:
            self._check_routes()
        if self.vertex_ai and not (self.vertex_ai_model or only):
            raise InvalidArgument(
                "Expect the model repository contains only a single model if default model is not "
                f"specified; there are {len(models)}, name one with --vertex-ai-default-model"
            )
        return {
            "sagemaker": {
                "default_model": self.sagemaker_model or only,
                "ping_live": self.sagemaker_ping == "live",
                "invocation": self.sagemaker_invocation,
            },
            "vertex_ai": {
                "default_model": self.vertex_ai_model or only,
                "predict_route": self.vertex_ai_predict_route,
                "health_route": self.vertex_ai_health_route,
            },
        }

    def _check_routes(self) -> None:
        predict, health = self.vertex_ai_predict_route, self.vertex_ai_health_route
        for name, route in (("PREDICT", predict), ("HEALTH", health)):
            if not route.startswith("/"):
                raise InvalidArgument(
                    f"the Vertex AI endpoint needs a route that begins with '/' in "
                    f"AIP_{name}_ROUTE, got '{route}'"
                )
        if predict == health:
            raise InvalidArgument(
                f"AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE are both '{health}'; predictions and the "
                "health check need a route each"
            )
