# SPDX-License-Identifier: Apache-2.0
"""Model repositories made for a run: the identity of FP32[16], with dynamic batching.

The same configuration goes to every server, so that only the server and the backend differ.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

PYTHON_MODEL = Path(__file__).parent / "models" / "identity_python.py"


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity model: what it is called, what runs it, and how long it gathers a batch."""

    name: str
    backend: str
    model_file: Path | None = None
    queue_delay_us: int = 0
    dims: int = 16
    """Floats a row; -1 for any number."""


NATIVE = Identity("identity", "identity")
CLASS = Identity("identity_class", "benches.load.models.identity_class:IdentityClass")
PYTHON = Identity("identity_python", "python", PYTHON_MODEL)


def config_text(model: Identity) -> str:
    """The model's `config.pbtxt`."""
    delay = model.queue_delay_us
    gathering = f" max_queue_delay_microseconds: {delay} preferred_batch_size: [ 64 ]"
    return f"""\
name: "{model.name}"
backend: "{model.backend}"
max_batch_size: 64
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ {model.dims} ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ {model.dims} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{{gathering if delay else ""} }}
"""


def write(models: list[Identity], folder: Path) -> Path:
    """The folder, now a model repository that holds exactly these models, each in version 1."""
    shutil.rmtree(folder, ignore_errors=True)
    for model in models:
        version = folder / model.name / "1"
        version.mkdir(parents=True)
        (folder / model.name / "config.pbtxt").write_text(config_text(model))
        if model.model_file is not None:
            shutil.copy(model.model_file, version / "model.py")
    return folder
