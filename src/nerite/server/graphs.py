# SPDX-License-Identifier: Apache-2.0
"""InferenceGraphs that a server runs itself: where they answer, and which models they ask.

The data plane runs them; a step whose URL is a path is answered in this process. What a graph's
file says is read in `nerite.kserve.graphs`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

#: Paths of steps: those that ask a model, and those that ask a graph.
_MODEL = re.compile(
    r"/v1/models/(?P<v1>[^/?:]+)(/versions/\d+)?(:|%3[Aa])predict(\?.*)?"
    r"|/v2/models/(?P<v2>[^/?]+)(/versions/\d+)?/infer(\?.*)?"
)
_GRAPH = re.compile(r"/graphs/[^/?]+(/[^?]*)?(\?.*)?")
PATHS = "/v1/models/NAME:predict, /v2/models/NAME/infer or /graphs/NAMESPACE/NAME"


@dataclass(frozen=True, slots=True)
class OwnGraph:
    """A graph as the data plane takes it."""

    namespace: str
    name: str
    definition: str
    """JSON; see `nerite._core.Engine.put_graph`."""
    asked: tuple[tuple[str, str, str], ...] = ()
    """Node, step and model, of every step that asks a model of the server."""

    @property
    def path(self) -> str:
        """Where it answers."""
        return f"/graphs/{self.namespace}/{self.name}"

    def missing(self, models: Collection[str]) -> Iterator[str]:
        """A sentence for every step whose model is none of these."""
        for node, step, model in self.asked:
            if model not in models:
                yield (
                    f"graph '{self.namespace}/{self.name}', node '{node}', step '{step}': no model "
                    f"repository has the model '{model}'; until it is loaded the step answers "
                    "that it does not exist"
                )


def is_own_path(url: str) -> bool:
    """Whether a step's URL is a path that the server itself answers."""
    return bool(_MODEL.fullmatch(url) or _GRAPH.fullmatch(url))


def asked_models(nodes: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Node, step (its name or number) and model, of every step that asks a model by a path."""
    for node, value in nodes.items():
        for number, step in enumerate(value.get("steps") or []):
            if found := _MODEL.fullmatch(step.get("serviceUrl") or ""):
                yield node, step.get("name") or str(number), found["v1"] or found["v2"]
