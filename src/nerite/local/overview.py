# SPDX-License-Identifier: Apache-2.0
"""What `nerite up` shows: a row for every component with its state, its address and why not.

Pure: objects with their status and the details of their processes in, rows out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nerite.kserve.documents import Object
from nerite.local.conditions import ready_of

_CONDITIONS = {
    "predictor": "PredictorReady",
    "transformer": "TransformerReady",
    "explainer": "ExplainerReady",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    """The service with its namespace, or below it a component."""
    ready: str
    url: str = ""
    restarts: int = 0
    message: str = ""

    @property
    def is_service(self) -> bool:
        """Whether it is a service's own line."""
        return "/" in self.name


def overview(
    services: Iterable[tuple[Object, Object]], trained: Sequence[Object] = ()
) -> list[Row]:
    """The rows of services, each given as its object and the daemon's details, with their models.

    A model whose service is not there has a row of its own.
    """
    rows: list[Row] = []
    left: dict[tuple[str, str], list[Object]] = {_parent(model): [] for model in trained}
    for model in trained:
        left[_parent(model)].append(model)
    for value, details in services:
        metadata = value["metadata"]
        rows += _of_service(value, details)
        mine = left.pop((metadata["namespace"], metadata["name"]), [])
        rows += [trained_row(model) for model in mine]
    for (namespace, _), models in left.items():
        alone = [(trained_row(model), model["metadata"]["name"]) for model in models]
        rows += [replace(row, name=f"{namespace}/{name}") for row, name in alone]
    return rows


def _parent(model: Object) -> tuple[str, str]:
    return model["metadata"]["namespace"], model["spec"]["inferenceService"]


def trained_row(value: Object) -> Row:
    """The row of a TrainedModel, below its service."""
    metadata, status = value["metadata"], value.get("status", {})
    ready = ready_of(status)
    name = f"  model {metadata['name']}"
    url, why = status.get("url", ""), ready.get("message", "")
    return Row(name, ready.get("status", "Unknown"), url, message=why.partition("\n")[0])


def graph_row(value: Object) -> Row:
    """The row of an InferenceGraph."""
    metadata, status = value["metadata"], value.get("status", {})
    ready = ready_of(status)
    name = f"{metadata['namespace']}/{metadata['name']}"
    why = ready.get("message", "") or ready.get("reason", "")
    return Row(name, ready.get("status", "Unknown"), status.get("url", ""), message=why)


def _of_service(value: Object, details: Object) -> list[Row]:
    metadata, status = value["metadata"], value.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    name = f"{metadata['namespace']}/{metadata['name']}"
    why = _why(status, ready)
    service = Row(name, ready.get("status", "Unknown"), status.get("url", ""), message=why)
    below = []
    for role, kind in _CONDITIONS.items():
        if role in value["spec"] and kind in conditions:
            below.append(_of_role(role, conditions[kind], status, details))
    return [service, *below]


def _why(status: Object, ready: Object) -> str:
    """What keeps a service from running, where no component can tell."""
    model = status.get("modelStatus", {})
    if ready.get("reason") == "Stopped":
        return "stopped"
    if model.get("transitionStatus") == "InvalidSpec":
        return str(model.get("lastFailureInfo", {}).get("message", ""))
    return ""


def _of_role(role: str, condition: Object, status: Object, details: Object) -> Row:
    component: dict[str, Any] = status.get("components", {}).get(role, {})
    mine = [
        copy
        for copy in details.get("components", [])
        if copy["name"].endswith(f"-{role}") and not copy["stopping"]
    ]
    message = condition.get("message", "").removeprefix(
        "Deployment does not have minimum availability."
    )
    transition = status.get("modelStatus", {})
    if role == "predictor" and condition["status"] == "True":
        # An old revision serves while the latest one is loading, or cannot be loaded.
        if transition.get("transitionStatus") == "InProgress":
            message = "the latest revision is being loaded"
        elif transition.get("transitionStatus") == "BlockedByFailedLoad":
            why = transition.get("lastFailureInfo", {}).get("message", "")
            message = f"the latest revision failed: {why}"
    return Row(
        f"  {role}",
        condition["status"],
        component.get("url", ""),
        sum(copy["restarts"] for copy in mine),
        message.strip().partition("\n")[0],
    )
