# SPDX-License-Identifier: Apache-2.0
"""`modelStatus`: what became of the latest revision of the predictor, and why it failed."""

from __future__ import annotations

from typing import Any

from nerite.kserve.documents import Object
from nerite.kserve.rendering import Rendering
from nerite.local.conditions import timestamp
from nerite.local.running import Running, latest_copy
from nerite.local.supervisor import GroupView


def model_status(rendering: Rendering, running: Running) -> Object:
    """The whole of it."""
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
    copy = latest_copy(group)
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
    copy = latest_copy(group)
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
