# SPDX-License-Identifier: Apache-2.0
"""What a supervisor acts with: everything that is not a decision, so that a test can replace it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nerite.local.components import Component
from nerite.local.lifeline import Patience
from nerite.local.logs import Log
from nerite.local.model_control import HttpModelControl, ModelControl
from nerite.local.ports import Ports
from nerite.local.processes import Prober, Spawner
from nerite.local.storage import Storage


@dataclass(frozen=True, slots=True)
class Tools:
    """What a supervisor acts with."""

    spawner: Spawner
    prober: Prober
    storage: Storage
    ports: Ports
    log: Callable[[Component, str], Log]
    """The log of one container of a component."""
    folder: Path
    """Where models are laid out."""
    background: Callable[[Callable[[], None]], None]
    """Runs something slow elsewhere."""
    front: Callable[[str, str], str] | None = None
    """The lasting address of a component, by namespace and name, if a gateway gives it one."""
    shared: Callable[[int], Component] | None = None
    """The shared process of a number; None where nothing is shared."""
    models: ModelControl = field(default_factory=HttpModelControl)
    patience: Patience = field(default_factory=Patience)
