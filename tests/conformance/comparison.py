# SPDX-License-Identifier: Apache-2.0
"""Whether an answer is the recorded one, leaving out what the recordings say need not agree.

Those are: times, the version, the order of map-like lists, frames of a backend's own files, and the
content type of errors (`spec/triton.md` 10.1, 17: Triton's differ by endpoint, here it is one).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

ANY_NUMBER = "<ns>"
TRITON_VERSION = "2.51.0"
#: In lists of these endpoints the order is a hash map's.
UNORDERED = ("model_stats", "index", "models")


def http_difference(expect: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    """What differs between two HTTP answers; empty if they agree."""
    if "failed" in expect or "failed" in got:
        return _unequal("outcome", expect.get("failed"), got.get("failed"))
    if expect["status"] != got["status"]:
        return _unequal("status", expect["status"], got["status"]) + f" with {got.get('body')!r}"
    if expect["status"] < 300:
        wanted, had = expect.get("headers", {}), got["headers"]
        for name in wanted:
            if wanted[name] != had.get(name) and not _same_framing(name, wanted, had):
                return _unequal(f"header {name}", wanted[name], had.get(name))
    if "json" in expect:
        if expect.get("tail_b64") != got.get("tail_b64"):
            return _unequal("tail", expect.get("tail_b64"), got.get("tail_b64"))
        return value_difference(json.loads(expect["json"]), got.get("json"))
    if "body_b64" in expect:
        return "" if expect["body_b64"] == got.get("body_b64") else _unequal("body", expect, got)
    return body_difference(expect.get("body", ""), got.get("body"))


def _same_framing(name: str, wanted: Mapping[str, str], had: Mapping[str, str]) -> bool:
    # Triton types some empty answers, where we have no type, and chunks where it need not.
    return name == "transfer-encoding" or (name == "content-type" and name not in had)


def body_difference(expect: str, got: str | None) -> str:
    """What differs between two bodies: as JSON where both are, else as text."""
    try:
        wanted = json.loads(expect)
    except ValueError:
        return "" if expect == got else _unequal("body", expect, got)
    try:
        had = json.loads(got or "")
    except ValueError:
        return _unequal("body", expect, got)
    return value_difference(_ordered(wanted), _ordered(had))


def grpc_difference(expect: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    """What differs between two gRPC answers; empty if they agree."""
    if expect["code"] != got["code"]:
        return _unequal("code", expect["code"], got["code"]) + f" with {got.get('details')!r}"
    if expect["code"] != "OK":
        difference = value_difference(expect.get("details", ""), got.get("details", ""))
        if difference:
            return difference
    for key in ("response", "responses"):
        wanted, had = expect.get(key), got.get(key)
        if wanted is not None:
            difference = value_difference(_ordered(wanted), _ordered(had), key)
            if difference:
                return difference
    return ""


def _ordered(value: Any) -> Any:
    """Map-like lists by name."""
    if isinstance(value, list) and value and all(_named(each) for each in value):
        return sorted(value, key=lambda each: (each["name"], each.get("version", "")))
    if isinstance(value, Mapping):
        return {key: _ordered(v) if key in UNORDERED else v for key, v in value.items()}
    return value


def _named(value: Any) -> bool:
    return isinstance(value, Mapping) and "name" in value


def value_difference(expect: Any, got: Any, where: str = "") -> str:
    """The first place where two values differ; empty if there is none."""
    if expect == ANY_NUMBER:
        return "" if isinstance(got, int | float | str) else _unequal(where, expect, got)
    if isinstance(expect, Mapping) and isinstance(got, Mapping):
        return _mapping_difference(expect, got, where)
    if isinstance(expect, list) and isinstance(got, list):
        if len(expect) != len(got):
            return _unequal(f"{where} length", expect, got)
        pairs = enumerate(zip(expect, got, strict=True))
        found = (value_difference(a, b, f"{where}[{i}]") for i, (a, b) in pairs)
        return next((each for each in found if each), "")
    if isinstance(expect, str) and isinstance(got, str):
        return "" if _text(expect) == _text(got) else _unequal(where, expect, got)
    if isinstance(expect, float) and isinstance(got, float) and math.isnan(expect):
        return "" if math.isnan(got) else _unequal(where, expect, got)
    same = expect == got and isinstance(expect, bool) == isinstance(got, bool)
    return "" if same else _unequal(where, expect, got)


def _mapping_difference(expect: Mapping[str, Any], got: Mapping[str, Any], where: str) -> str:
    got = {k: v for k, v in got.items() if k not in ("last_inference", "ns") or k in expect}
    if expect.get("version") == TRITON_VERSION:
        expect = {**expect, "version": got.get("version")}
    if expect.keys() != got.keys():
        return _unequal(f"{where} keys", sorted(expect), sorted(got)) + f" in {got!r}"
    found = (value_difference(value, got[key], f"{where}.{key}") for key, value in expect.items())
    return next((each for each in found if each), "")


def _text(text: str) -> str:
    return text.partition("\n\nAt:\n")[0]


def _unequal(what: str, expect: Any, got: Any) -> str:
    return f"{what or 'value'}: recorded {expect!r}, got {got!r}"
