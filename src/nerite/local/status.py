# SPDX-License-Identifier: Apache-2.0
"""The status of an InferenceService, in KServe's fields and words, from what really runs.

A pure function of the decision, the running copies and the last status (which knows since when a
condition holds). Where a cluster could only say that a Deployment has no replicas, the reason is
the same and the message says more.
"""

from __future__ import annotations

from collections.abc import Sequence

from nerite.kserve.defaulting import deployment_mode
from nerite.kserve.documents import Object
from nerite.kserve.rendering import Rendering
from nerite.kserve.selection import scope_of
from nerite.local.components import is_stopped
from nerite.local.conditions import condition, since
from nerite.local.model_status import model_status
from nerite.local.running import Running, latest_copy, shares
from nerite.local.supervisor import GroupView

ROLES = ("predictor", "transformer", "explainer")
_NOT_AVAILABLE = "MinimumReplicasUnavailable"
_NO_MINIMUM = "Deployment does not have minimum availability."
CANNOT_RUN = "CannotRunHere"


def service_status(rendering: Rendering, running: Running, last: Object, now: float) -> Object:
    """The whole status."""
    service = rendering.service
    conditions = _conditions(rendering, running)
    status: Object = {
        "conditions": since(conditions, last.get("conditions", []), now),
        "deploymentMode": deployment_mode(service.object),
        "modelStatus": model_status(rendering, running),
        "observedGeneration": service.object["metadata"].get("generation", 1),
    }
    chosen = rendering.selection.chosen if rendering.selection else None
    if chosen is not None:
        key = "servingRuntimeName" if scope_of(chosen) == "namespace" else None
        status[key or "clusterServingRuntimeName"] = chosen.name
    components = _components(running)
    if components:
        status["components"] = components
    entry = _entry(running)
    if entry is not None and entry.serving:
        url = entry.serving[0].url
        status["address"] = {"url": url}
        status["url"] = running.url or url
    return status


def _entry(running: Running) -> GroupView | None:
    """The component that requests come to first."""
    groups = running.of("transformer") or running.of("predictor")
    return groups[0] if groups else None


# Conditions.


def _conditions(rendering: Rendering, running: Running) -> list[Object]:
    service = rendering.service
    if is_stopped(service):
        return [
            condition("PredictorReady", "False", "Stopped"),
            condition("Ready", "False", "Stopped"),
            condition("Stopped", "True"),
        ]
    if rendering.failure and not running.groups:
        kinds = ("IngressReady", "PredictorReady", "Ready")
        return [condition(kind, "Unknown") for kind in kinds]
    found = []
    for role in ROLES:
        if role in service.spec:
            found.append(_role_condition(f"{role.title()}Ready", running.of(role)))
    if service.spec.get("canary"):
        canaries = running.of("predictor", canary=True)
        found.append(_role_condition("CanaryPredictorReady", canaries))
    ingress = condition("IngressReady", "True")
    for each in reversed(found):
        if each["status"] != "True":
            role = each["type"].removesuffix("Ready")
            ingress = condition("IngressReady", "False", f"{role} ingress not created")
    # Ready tells the reason of the ingress, which waits for everything else, as in a cluster.
    ready = {**ingress, "type": "Ready"}
    found += [ingress, ready, condition("Stopped", "False")]
    return sorted(found, key=lambda each: str(each["type"]))


def _role_condition(kind: str, groups: Sequence[GroupView]) -> Object:
    if groups and all(group.serving for group in groups):
        return condition(kind, "True")
    for group in groups:
        if group.serving:
            continue
        obstacle = next((c.obstacle for c in group.wanted if c.obstacle), "")
        if obstacle:
            return condition(kind, "False", CANNOT_RUN, obstacle)
        why = _why_not(group)
        return condition(kind, "False", _NOT_AVAILABLE, f"{_NO_MINIMUM} {why}".strip())
    return condition(kind, "False", _NOT_AVAILABLE, _NO_MINIMUM)


def why_absent(rendering: Rendering, groups: Sequence[GroupView]) -> str:
    """What a client of a component is told that nobody answers for."""
    if is_stopped(rendering.service):
        return "it is stopped (annotation serving.kserve.io/stop)"
    for group in groups:
        obstacle = next((c.obstacle for c in group.wanted if c.obstacle), "")
        if why := obstacle or _why_not(group):
            return why
    failure = rendering.failure
    return (failure.message or failure.error) if failure else "it is not started yet"


def _why_not(group: GroupView) -> str:
    if group.waiting_for:
        return f"It waits for {group.waiting_for}."
    copy = latest_copy(group)
    if copy is None:
        return ""
    if copy.problem:
        return copy.problem
    if copy.fetching:
        return f"The model is being fetched: {copy.progress or 'begun'}."
    if copy.failing and copy.last_exit is not None:
        return f"It ended with exit code {copy.last_exit.code}: {copy.last_exit.message}"
    if copy.restarts and copy.last_exit is not None:
        return f"It ended with exit code {copy.last_exit.code} and is started again."
    return "The model is being loaded."


# Components and models.


def _components(running: Running) -> Object:
    found: Object = {}
    for role in ROLES:
        groups = running.of(role)
        if not groups:
            continue
        group = groups[0]
        latest = group.wanted[0]
        entry: Object = {"latestCreatedRevision": running.name(latest)}
        if group.serving:
            serving = group.serving[0]
            entry["url"] = entry["restUrl"] = serving.url
            if serving.grpc_port:
                entry["grpcUrl"] = f"grpc://127.0.0.1:{serving.grpc_port}"
            entry["latestReadyRevision"] = running.name(serving.component)
            if serving.host:
                entry["process"] = serving.host.rpartition("/")[2]
            entry["traffic"] = traffic_of(group, running)
        if role == "predictor" and running.rolled_out:
            entry["latestRolledoutRevision"] = f"{latest.name}-{running.rolled_out:05}"
        found[role] = entry
    return found


def traffic_of(group: GroupView, running: Running) -> list[Object]:
    """The traffic targets as Knative lists them."""
    found = []
    latest = group.wanted[0].digest
    for (copy, *_), percent in shares(group):
        target: Object = {
            "latestRevision": copy.component.digest == latest,
            "percent": percent,
            "revisionName": running.name(copy.component),
        }
        if not target["latestRevision"]:
            target["tag"] = "prev"
        found.append(target)
    return found
