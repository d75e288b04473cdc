# SPDX-License-Identifier: Apache-2.0
"""What a component's `batcher`, `logger`, `timeout` and `containerConcurrency` ask of the gateway.

In a cluster these are containers beside the server, and Knative's. Values that are missing, or that
KServe takes as missing, get KServe's defaults.
"""

from __future__ import annotations

from nerite.errors import InvalidArgument
from nerite.kserve.documents import Object
from nerite.kserve.gateway import Batcher, Logger
from nerite.kserve.resources import Resource

_DEFAULT_SINK = "http://default-broker"


def batcher_of(component: Object) -> Batcher | None:
    """How V1 predictions are joined."""
    told = component.get("batcher")
    if told is None:
        return None
    default = Batcher()
    size, latency = int(told.get("maxBatchSize") or 0), int(told.get("maxLatency") or 0)
    return Batcher(
        size if size > 0 else default.max_batch_size,
        latency if latency > 0 else default.max_latency_ms,
    )


def logger_of(component: Object, service: Resource) -> Logger | None:
    """Where requests and answers are told.

    Raises:
        InvalidArgument: There nothing can be told.
    """
    told = component.get("logger")
    if told is None:
        return None
    annotations = service.object["metadata"].get("annotations", {})
    wanted = told.get("metadataAnnotations") or []
    logger = Logger(
        str(told.get("url") or _DEFAULT_SINK),
        str(told.get("mode") or "all"),
        metadata_headers=tuple(told.get("metadataHeaders") or ()),
        annotations={key: annotations[key] for key in wanted if key in annotations},
    )
    logger.parts()
    return logger


def logger_problem(component: Object, service: Resource) -> str:
    """Why the logger cannot be used; empty if it can, or there is none."""
    try:
        logger_of(component, service)
    except InvalidArgument as why:
        return str(why)
    return ""


def concurrency_of(component: Object) -> int:
    """Requests that each copy works on at a time; 0 for any number."""
    return max(0, int(component.get("containerConcurrency") or 0))


def scaling_warnings(component: Object) -> list[str]:
    """What of the scaling that a component asks for is not done here."""
    least = component.get("minReplicas")
    most = component.get("maxReplicas") or 0
    found = []
    if least == 0:
        found.append("minReplicas: 0: nothing is scaled to zero here; one copy runs all the time")
    if most > max(1, least if least is not None else 1):
        copies = "copy runs" if (least or 1) == 1 else "copies run"
        found.append(f"maxReplicas: {most}: nothing is scaled here; {least or 1} {copies}")
    return found


def timeout_of(component: Object) -> float | None:
    """Seconds until an answer must have begun."""
    seconds = float(component.get("timeout") or 0)
    return seconds if seconds > 0 else None
