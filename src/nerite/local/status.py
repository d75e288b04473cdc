# SPDX-License-Identifier: Apache-2.0
"""The status of an InferenceService, in KServe's fields and words, from what really runs.

A pure function of the decision, the running copies and the last status (which knows since when a
condition holds). Where a cluster could only say that a Deployment has no replicas, the reason is
the same and the message says more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nerite.kserve.defaulting import deployment_mode
from nerite.kserve.documents import Object
from nerite.kserve.rendering import Rendering
from nerite.kserve.selection import scope_of
from nerite.local.components import Component, is_stopped
from nerite.local.copies import CopyView
from nerite.local.supervisor import GroupView

ROLES = ("predictor", "transformer", "explainer")
_NOT_AVAILABLE = "MinimumReplicasUnavailable"
_NO_MINIMUM = "Deployment does not have minimum availability."
CANNOT_RUN = "CannotRunHere"


@dataclass(frozen=True, slots=True)
class Running:
    """What runs for one service: its components with their copies, the predictor's first."""

    groups: tuple[GroupView, ...] = ()
    revisions: Mapping[tuple[str, str], int] | None = None
    """Number of each revision, by component key and digest."""
    rolled_out: int = 0
    """The number of the predictor's last revision that had all the traffic."""
    url: str = ""
    """Where a gateway answers for the service; empty without one."""

    def of(self, role: str, canary: bool = False) -> list[GroupView]:
        """The groups of a role; canaries are asked for by themselves."""
        return [
            group
            for group in self.groups
            if group.wanted[0].role == role and bool(group.wanted[0].canary) == canary
        ]

    def name(self, component: Component) -> str:
        """The revision's name as Knative would give it."""
        number = (self.revisions or {}).get((component.key, component.digest), 0)
        return f"{component.name}-{number:05}"


def timestamp(now: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def service_status(rendering: Rendering, running: Running, last: Object, now: float) -> Object:
    """The whole status."""
    service = rendering.service
    conditions = _conditions(rendering, running)
    status: Object = {
        "conditions": since(conditions, last.get("conditions", []), now),
        "deploymentMode": deployment_mode(service.object),
        "modelStatus": _model_status(rendering, running),
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


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    """A condition but for the time."""
    found = {"type": kind, "status": status}
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    return found


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
    copy = _latest(group)
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


def since(conditions: list[Object], last: Sequence[Object], now: float) -> list[Object]:
    """The conditions with the time since when each has its status."""
    before = {condition["type"]: condition for condition in last}
    for condition in conditions:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if same else timestamp(now)
    return conditions


# Components and models.


def _latest(group: GroupView) -> CopyView | None:
    """The copy of the latest wanted revision, or any."""
    digest = group.wanted[0].digest
    alive = [copy for copy in group.copies if not copy.stopping]
    same = [copy for copy in alive if copy.component.digest == digest]
    return next(iter([*reversed(same), *reversed(alive)]), None)


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
            entry["traffic"] = traffic_of(group, running)
        if role == "predictor" and running.rolled_out:
            entry["latestRolledoutRevision"] = f"{latest.name}-{running.rolled_out:05}"
        found[role] = entry
    return found


def shares(group: GroupView) -> list[tuple[CopyView, int]]:
    """The serving copies with their per cent of this group's requests, the latest first."""
    percents = {component.digest: component.percent for component in group.wanted}
    if len(group.serving) < 2 or len(group.wanted) < 2:
        # One that is alone takes everything, whatever share it was given.
        return [(copy, 100) for copy in group.serving[:1]]
    return [(copy, percents.get(copy.component.digest, 0)) for copy in group.serving]


def traffic_of(group: GroupView, running: Running) -> list[Object]:
    """The traffic targets as Knative lists them."""
    found = []
    latest = group.wanted[0].digest
    for copy, percent in shares(group):
        target: Object = {
            "latestRevision": copy.component.digest == latest,
            "percent": percent,
            "revisionName": running.name(copy.component),
        }
        if not target["latestRevision"]:
            target["tag"] = "prev"
        found.append(target)
    return found


def _model_status(rendering: Rendering, running: Running) -> Object:
    groups = running.of("predictor")
    serving = groups[0].serving if groups else ()
    active = "Loaded" if serving else ""
    if rendering.failure:
        info: Object = {}
        if rendering.failure.reason:
            reason, message = rendering.failure.reason, rendering.failure.message
            info = {"lastFailureInfo": {"reason": reason, "message": message}}
        else:
            info = {"lastFailureInfo": {"message": rendering.failure.error}}
        states = {"activeModelState": active, "targetModelState": "FailedToLoad"}
        return {**info, "states": states, "transitionStatus": "InvalidSpec"}
    if not groups:
        states = {"activeModelState": "", "targetModelState": "Pending"}
        return {"states": states, "transitionStatus": "InProgress"}
    group = groups[0]
    target, transition = _target(group)
    found: Object = {
        "copies": {
            "failedCopies": sum(c.failing for c in group.copies if not c.stopping),
            "totalCopies": len(group.serving),
        },
        "states": {"activeModelState": active, "targetModelState": target},
        "transitionStatus": transition,
    }
    failure = _failure(group, running)
    if failure:
        found["lastFailureInfo"] = failure
    return found


def _target(group: GroupView) -> tuple[str, str]:
    if group.wanted[0].obstacle:
        return "FailedToLoad", "BlockedByFailedLoad"
    copy = _latest(group)
    if copy is None or copy.component.digest != group.wanted[0].digest:
        return "Pending", "InProgress"
    if copy.ready:
        return "Loaded", "UpToDate"
    if copy.failing:
        return "FailedToLoad", "BlockedByFailedLoad"
    return "Loading", "InProgress"


def _failure(group: GroupView, running: Running) -> dict[str, Any]:
    wanted = group.wanted[0]
    if wanted.obstacle:
        return {
            "location": wanted.name,
            "reason": "RuntimeUnhealthy",
            "message": wanted.obstacle,
            "modelRevisionName": running.name(wanted),
        }
    copy = _latest(group)
    if copy is None:
        return {}
    name = running.name(copy.component)
    head = {"location": copy.component.name, "modelRevisionName": name}
    if copy.problem:
        return {**head, "reason": "ModelLoadFailed", "message": copy.problem}
    last = copy.last_exit
    if last is None:
        return {}
    reason = "RuntimeUnhealthy" if last.was_ready else "ModelLoadFailed"
    time = timestamp(last.at)
    told = {"reason": reason, "message": last.message, "exitCode": last.code, "time": time}
    return {**head, **told}
