# SPDX-License-Identifier: Apache-2.0
"""An object as `kubectl describe` tells it, with the processes and events that only a daemon has.

Pure text: what is described comes from the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nerite.kserve.documents import Object
from nerite.local.tables import aligned, human_duration

_INDENT = "  "
_SEPARATE = ("metadata", "apiVersion", "kind")


def described(value: Object, details: Mapping[str, Any], now: float) -> str:
    """The whole description."""
    metadata = dict(value["metadata"])
    lines = ["Name:         " + str(metadata.pop("name"))]
    namespace = metadata.pop("namespace", "")
    lines.append(f"Namespace:    {namespace}".rstrip())
    lines += _pairs("Labels:", metadata.pop("labels", {}), "=")
    lines += _pairs("Annotations:", metadata.pop("annotations", {}), ": ")
    lines.append(f"API Version:  {value.get('apiVersion', '')}")
    lines.append(f"Kind:         {value.get('kind', '')}")
    rest = {"metadata": metadata, **{k: v for k, v in value.items() if k not in _SEPARATE}}
    for key, part in rest.items():
        lines += _entry(key, part, 0)
    if details.get("runs"):
        lines.append(f"Runs:         {details['runs']}")
    if details.get("components"):
        lines.append("Processes:")
        lines += [_INDENT + line for line in _processes(details["components"])]
    lines += _events(details.get("events", []), now)
    return "\n".join(lines)


def _pairs(head: str, values: Mapping[str, str], between: str) -> list[str]:
    texts = [f"{key}{between}{text}" for key, text in sorted(values.items())] or ["<none>"]
    return [f"{head if i == 0 else '':<14}{text}" for i, text in enumerate(texts)]


def title(key: str) -> str:
    """`storageUri` as `Storage Uri`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    return words[:1].upper() + words[1:]


def _entry(key: str, value: Any, depth: int) -> Iterator[str]:
    name = f"{_INDENT * depth}{title(key)}:"
    if isinstance(value, dict):
        yield name
        yield from _mapping(value, depth + 1)
    elif isinstance(value, list):
        yield name
        for item in value:
            if isinstance(item, dict):
                yield from _mapping(item, depth + 1)
            else:
                yield f"{_INDENT * (depth + 1)}{item}"
    else:
        yield f"{name}  {value}"


def _mapping(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    scalars = [k for k, v in value.items() if not isinstance(v, dict | list)]
    width = max((len(title(key)) + 1 for key in scalars), default=0)
    for key in sorted(value):
        if key in scalars:
            shown = value[key]
            text = str(shown).lower() if isinstance(shown, bool) else str(shown)
            yield f"{_INDENT * depth}{title(key) + ':':<{width}}  {text}"
        else:
            yield from _entry(key, value[key], depth)


def _processes(components: Sequence[Object]) -> list[str]:
    rows = [["Name", "Revision", "Ready", "Restarts", "Process", "URL"]]
    for component in components:
        state = "Stopping" if component["stopping"] else str(component["ready"])
        pids = ",".join(map(str, component["pids"])) or "-"
        if component.get("process"):
            pids = f"{pids} ({component['process']})"
        name, revision = component["name"], component["revision"]
        rows.append([name, revision, state, str(component["restarts"]), pids, component["url"]])
    return aligned(rows)


def _events(events: Sequence[Object], now: float) -> list[str]:
    if not events:
        return ["Events:         <none>"]
    rows = [["Type", "Reason", "Age", "Message"], ["----", "------", "----", "-------"]]
    for event in events:
        seen = human_duration(now - event["last"])
        if event["count"] > 1:
            since = human_duration(now - event["first"])
            seen = f"{seen} (x{event['count']} over {since})"
        rows.append([event["kind"], event["reason"], seen, event["message"]])
    return ["Events:", *(_INDENT + line for line in aligned(rows))]
