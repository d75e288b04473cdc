# SPDX-License-Identifier: Apache-2.0
"""What the server's options mean for loading models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nerite.config.settings import Settings
from nerite.models.host_policy import HostPolicy


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are loaded."""

    auto_complete: bool = True
    config_name: str | None = None
    threads: int = 4
    """How many models load at the same time."""
    retries: int = 0
    """How often a load that failed is tried again."""
    cores: int = 1
    """How many cores the process may use; instances get their share of them."""
    trusted: bool = False
    """Whether files that run code when they are loaded may be (`--trust`)."""
    host_policies: Mapping[str, HostPolicy] = field(default_factory=dict)
    """Where instances of groups that name them run (`--host-policy`)."""
    caching: bool = False
    """Whether there is a response cache."""
    settings: Settings = field(default_factory=Settings)
