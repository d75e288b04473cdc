# SPDX-License-Identifier: Apache-2.0
"""Conditions as Kubernetes has them: made, given the time since when they hold, and looked up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from nerite.kserve.documents import Object


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    """A condition but for the time."""
    found = {"type": kind, "status": status}
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    return found


def timestamp(now: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def since(conditions: list[Object], last: Sequence[Object], now: float) -> list[Object]:
    """The conditions with the time since when each has its status."""
    before = {condition["type"]: condition for condition in last}
    for condition in conditions:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if same else timestamp(now)
    return conditions


def ready_of(status: Object) -> Object:
    """The condition Ready of a status; empty if it has none."""
    conditions: list[Object] = status.get("conditions", [])
    return next((each for each in conditions if each["type"] == "Ready"), {})


def is_ready(status: Object) -> bool:
    """Whether that one is True."""
    return bool(ready_of(status).get("status") == "True")
