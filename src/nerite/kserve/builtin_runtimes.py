# SPDX-License-Identifier: Apache-2.0
"""The runtimes that KServe installs itself, shipped as data in `builtin/`.

Two generations: 0.20 is what a cluster has today, 0.11 what articles of late 2023 were written
for (xgboost was "1" then, lightgbm "3"). They enter a `Cluster` like anyone's runtimes.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from nerite.errors import InvalidArgument
from nerite.kserve.admission import Cluster, admit_all
from nerite.kserve.documents import read_documents

GENERATIONS = ("0.20", "0.11", "none")


@cache
def builtin_cluster(generation: str = "0.20") -> Cluster:
    """A cluster that holds the built-in runtimes of a generation and nothing else."""
    if generation not in GENERATIONS:
        known = ", ".join(GENERATIONS)
        raise InvalidArgument(f"no built-in runtimes of generation '{generation}'; known: {known}")
    if generation == "none":
        return Cluster()
    name = f"{generation}.yaml"
    text = (files("nerite.kserve") / "builtin" / name).read_text(encoding="utf-8")
    return admit_all(read_documents(text, f"builtin/{name}"), Cluster())
