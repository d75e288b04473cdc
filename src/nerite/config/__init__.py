# SPDX-License-Identifier: Apache-2.0
"""Words on disk -> a checked, completed `ModelConfig`.

`read_model` reads one model folder, `check_path` tells all that is wrong under a path, `render`
writes a configuration back as text, `join_ensemble` checks an ensemble against its members. The
room knows Triton's model configuration and nothing about backends, sockets or the command line;
`models` loads what it finds here.
"""

from __future__ import annotations

from typing import Literal

from nerite.config import rendering
from nerite.config.complete import Inferrer
from nerite.config.ensemble import Member, circular, find_cycle, join_ensemble
from nerite.config.inspection import check_path
from nerite.config.layout import choose_versions, find_versions
from nerite.config.model import ModelConfig
from nerite.config.parts import (
    DynamicBatching,
    EnsembleStep,
    InstanceGroup,
    QueuePolicy,
    SequenceBatching,
    TensorSpec,
    VersionPolicy,
    WarmupInput,
    WarmupSample,
)
from nerite.config.positions import Positions
from nerite.config.read import LoadedConfig, Request, examine, read_config_file, read_model
from nerite.config.settings import Settings

__all__ = [
    "DynamicBatching",
    "EnsembleStep",
    "Inferrer",
    "InstanceGroup",
    "LoadedConfig",
    "Member",
    "ModelConfig",
    "Positions",
    "QueuePolicy",
    "Request",
    "SequenceBatching",
    "Settings",
    "TensorSpec",
    "VersionPolicy",
    "WarmupInput",
    "WarmupSample",
    "check_path",
    "choose_versions",
    "circular",
    "examine",
    "find_cycle",
    "find_versions",
    "join_ensemble",
    "read_config_file",
    "read_model",
    "render",
]


def render(config: ModelConfig, form: Literal["pbtxt", "yaml", "json"]) -> str:
    """The configuration as the text of a config.pbtxt, config.yaml or config.json."""
    message = config.to_message()
    if form == "pbtxt":
        return rendering.to_pbtxt(message)
    return rendering.to_yaml(message) if form == "yaml" else rendering.to_pretty_json(message)
