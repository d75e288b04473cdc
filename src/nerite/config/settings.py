# SPDX-License-Identifier: Apache-2.0
"""What the server's own settings mean for a model's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Backends whose models take rows, thousands of which cost little more than one.
TAKES_ROWS = frozenset({"lightgbm", "sklearn", "xgboost"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The server settings a configuration is completed and checked against."""

    backend_config: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`--backend-config`: backend -> key -> value; those for every backend under `""`."""
    min_compute_capability: float = 6.0
    rate_limit: bool = False
    """Whether `--rate-limit=execution_count` is on; otherwise resources are not looked at."""
    rate_limit_resources: Mapping[str, int] = field(default_factory=dict)
    """`--rate-limit-resource`: how much there is of each."""
    repoagent_directory: str = "/opt/tritonserver/repoagents"

    def for_backend(self, backend: str) -> dict[str, str]:
        """The `--backend-config` of one backend: its own settings over those for all."""
        size = "4096" if backend in TAKES_ROWS else "4"
        everywhere = {"default-max-batch-size": size, **self.backend_config.get("", {})}
        return {**everywhere, **self.backend_config.get(backend, {})}
