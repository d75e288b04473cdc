# SPDX-License-Identifier: Apache-2.0
"""Objects as kubectl's tables show them: KServe's columns, Kubernetes' ages, three blanks between.

Pure: objects and a time in, rows of text out.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Sequence
from typing import Any

from nerite.kserve.documents import Object
from nerite.kserve.gateway import DOMAIN
from nerite.local.conditions import ready_of

Column = tuple[str, Callable[[Object], str]]


def _at(value: Any, *path: str) -> str:
    for part in path:
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return str(value) if value not in ({}, None) else ""


def _ready(value: Object) -> str:
    return str(ready_of(value.get("status", {})).get("status", ""))


def _traffic(key: str, field: str) -> Callable[[Object], str]:
    def cell(value: Object) -> str:
        predictor = value.get("status", {}).get("components", {}).get("predictor", {})
        for target in predictor.get("traffic", []):
            is_latest = bool(target.get("latestRevision"))
            if is_latest if key == "latest" else target.get("tag") == "prev":
                return str(target.get(field, ""))
        return ""

    return cell


def _runtime(value: Object) -> str:
    status = value.get("status", {})
    return str(status.get("servingRuntimeName") or status.get("clusterServingRuntimeName") or "")


def _reason(value: Object) -> str:
    return str(ready_of(value.get("status", {})).get("reason", ""))


def _process(value: Object) -> str:
    """The shared process of the predictor, or that it has one of its own."""
    if not _at(value, "status", "components", "predictor", "url"):
        return ""
    return _at(value, "status", "components", "predictor", "process") or "own"


def _host(value: Object) -> str:
    """The name by which a gateway knows it; gRPC clients give it as their authority."""
    metadata = value["metadata"]
    known = value.get("status", {}).get("url")
    return f"{metadata['name']}-{metadata['namespace']}.{DOMAIN}" if known else ""


_URL: Column = ("URL", lambda value: _at(value, "status", "url"))
_READY: Column = ("READY", _ready)

_COLUMNS: dict[str, Sequence[Column]] = {
    "InferenceService": (
        _URL,
        _READY,
        ("PREV", _traffic("prev", "percent")),
        ("LATEST", _traffic("latest", "percent")),
        ("PREVROLLEDOUTREVISION", _traffic("prev", "revisionName")),
        ("LATESTREADYREVISION", _traffic("latest", "revisionName")),
    ),
    "ServingRuntime": (
        ("DISABLED", lambda value: _at(value, "spec", "disabled").lower()),
        ("MODELTYPE", lambda value: _first(value, "supportedModelFormats")),
        ("CONTAINERS", lambda value: _first(value, "containers")),
    ),
    "InferenceGraph": (_URL, _READY),
    "TrainedModel": (_URL, _READY),
}
_COLUMNS["ClusterServingRuntime"] = _COLUMNS["ServingRuntime"]
_WIDE: dict[str, Sequence[Column]] = {
    "InferenceGraph": (("HOST", _host), ("REASON", _reason)),
    "TrainedModel": (
        ("INFERENCESERVICE", lambda value: _at(value, "spec", "inferenceService")),
        ("REASON", _reason),
    ),
    "InferenceService": (
        ("HOST", _host),
        ("RUNTIME", _runtime),
        ("PROCESS", _process),
        ("TRANSITION", lambda value: _at(value, "status", "modelStatus", "transitionStatus")),
        ("REASON", _reason),
    ),
}


def _first(value: Object, key: str) -> str:
    entries = value.get("spec", {}).get(key, [])
    return str(entries[0]["name"]) if entries else ""


def columns(kind: str, wide: bool = False, namespaces: bool = False) -> list[str]:
    """The heading of a kind's table."""
    head = ["NAMESPACE"] if namespaces else []
    extra = _WIDE.get(kind, ()) if wide else ()
    own = [name for name, _ in _COLUMNS.get(kind, ())]
    return [*head, "NAME", *own, "AGE", *(name for name, _ in extra)]


def cells(
    value: Object, kind: str, now: float, wide: bool = False, namespaces: bool = False
) -> list[str]:
    """One object's row."""
    head = [str(value["metadata"].get("namespace", ""))] if namespaces else []
    extra = _WIDE.get(kind, ()) if wide else ()
    return [
        *head,
        str(value["metadata"]["name"]),
        *(cell(value) for _, cell in _COLUMNS.get(kind, ())),
        age(value, now),
        *(cell(value) for _, cell in extra),
    ]


def age(value: Object, now: float) -> str:
    """How old an object is; `<unknown>` for one that was not created here."""
    created = value["metadata"].get("creationTimestamp")
    if not created:
        return "<unknown>"
    begun = calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
    return human_duration(now - begun)


def human_duration(seconds: float) -> str:
    """A duration as kubectl rounds it: `45s`, `3m20s`, `25m`, `5h10m`, `30h`, `3d4h`, `20d`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"


def aligned(rows: Sequence[Sequence[str]], widths: Sequence[int] | None = None) -> list[str]:
    """Rows as lines, columns three blanks apart; `widths` are at least kept."""
    found = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if widths is not None:
        found = [max(pair) for pair in zip(found, widths, strict=True)]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, found, strict=True)).rstrip()
        for row in rows
    ]
