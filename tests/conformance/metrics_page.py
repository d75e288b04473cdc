# SPDX-License-Identifier: Apache-2.0
"""Prometheus text as the vectors write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def families(text: str) -> dict[str, dict[str, Any]]:
    """Family -> help, type and samples."""
    found: dict[str, dict[str, Any]] = {}
    current: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, told = line[7:].partition(" ")
            current = found.setdefault(name, {"samples": []})
            current["help"] = told
        elif line.startswith("# TYPE "):
            current["type"] = line.rpartition(" ")[2]
        elif line:
            match = _SAMPLE.match(line)
            assert match, line
            name, labels, value = match.groups()
            sample = {
                "name": name,
                "labels": dict(_LABEL.findall(labels or "")),
                "value": float(value),
            }
            current["samples"].append(sample)
    return found


def metrics_difference(step: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    """Where a page lacks what was recorded; families that only we have are no difference."""
    for name, expect in step["expect"]["families"].items():
        if name not in got:
            return f"family {name} is missing"
        had = got[name]
        for key in ("help", "type"):
            if key in expect and expect[key] != had.get(key):
                return f"{name} {key}: recorded {expect[key]!r}, got {had.get(key)!r}"
        wanted = {_key(sample): sample["value"] for sample in expect["samples"]}
        have = {_key(sample): sample["value"] for sample in had["samples"]}
        if wanted.keys() != have.keys():
            missing, more = wanted.keys() - have.keys(), have.keys() - wanted.keys()
            return f"{name} samples: missing {missing}, more {more}"
        for sample, value in wanted.items():
            if value is not None and value != have[sample]:
                return f"{name} {sample}: recorded {value}, got {have[sample]}"
    return ""


def _key(sample: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    return sample["name"], tuple(sorted(sample["labels"].items()))
