# SPDX-License-Identifier: Apache-2.0
"""The trace settings while the server runs: those of all models and of single ones (`spec` 7.3).

A model's settings lie over those of all; clearing one lets the other through again, and clearing
one of all brings back that of the start. Texts of refusals are Triton's. Which requests are sampled
is decided in the data plane, by the rules that are handed on here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nerite.errors import InvalidArgument, Unsupported
from nerite.server.envelope import settings_of
from nerite.server.trace_options import LEVELS, TraceOptions, TraceRule

#: Name in the protocol -> field of a rule.
_FIELDS = {
    "trace_level": "levels",
    "trace_rate": "rate",
    "trace_count": "count",
    "log_frequency": "log_frequency",
}
_LARGEST = 2**32 - 1


class TraceSettings:
    """What is traced, and with whom a change is shared."""

    def __init__(self, options: TraceOptions, knows: Callable[[str], bool]) -> None:
        """`knows` says whether there is a model of a name."""
        self.options = options
        self._knows = knows
        self._lock = threading.Lock()
        self._all: dict[str, Any] = {}
        self._models: dict[str, dict[str, Any]] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called after every change."""
        self.left: Callable[[], Mapping[str, int]] = dict
        """Asked how many traces each rule may still take."""

    def rules(self) -> dict[str, TraceRule]:
        """The rule of each model that has its own, and under `""` that of all others."""
        models = dict(self._models)
        return {"": self._rule(None), **{name: self._rule(name) for name in models}}

    def answer(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The verb `trace_settings`: sets what is given and tells everything."""
        transport, given = settings_of(payload)
        model = payload.get("model") or None
        if model is not None and not self._knows(model):
            raise InvalidArgument(f"Request for unknown model : {model}")
        with self._lock:
            if given:
                self._set(model, _changes(given, transport))
            return self._told(model)

    def _set(self, model: str | None, changes: Mapping[str, Any]) -> None:
        before = self._all if model is None else self._models.get(model, {})
        after = {**before, **changes}
        after = {name: value for name, value in after.items() if value is not None}
        if after == before:
            return
        base = self.options.rule if model is None else self._rule(None)
        self.options.check(replace(base, **after))
        if model is None:
            self._all = after
        elif after:
            self._models[model] = after
        else:
            self._models.pop(model, None)
        self.changed()

    def _rule(self, model: str | None) -> TraceRule:
        own = {} if model is None else self._models.get(model, {})
        return replace(self.options.rule, **{**self._all, **own})

    def _told(self, model: str | None) -> dict[str, Any]:
        rule = self._rule(model)
        count = rule.count
        if count >= 0:
            # The traces that are left, as the protocol has it, not those that were asked for.
            count = self.left().get(model if model in self._models else "", count)
        told: dict[str, Any] = {
            "trace_level": list(rule.levels) or ["OFF"],
            "trace_rate": str(rule.rate),
            "trace_count": str(count),
        }
        if self.options.mode == "triton":
            told["log_frequency"] = str(rule.log_frequency)
            told["trace_file"] = self.options.file
        else:
            told["url"] = self.options.url
            told |= {key: str(value) for key, value in self.options.processor.items()}
        return told | {"trace_mode": self.options.mode}


def _changes(given: Mapping[str, Any], transport: str) -> dict[str, Any]:
    """Fields of a rule -> values, None where a setting is cleared."""
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name == "trace_file":
            raise Unsupported("trace file location can not be updated through network protocol")
        if name not in _FIELDS:
            continue  # Triton passes over what it does not know, and what cannot be set.
        words = _words(name, value, transport)
        field = _FIELDS[name]
        if words is None:
            changes[field] = None
        elif name == "trace_level":
            changes[field] = levels_of(words)
        else:
            changes[field] = _number(name, words[0])
    return changes


def _words(name: str, value: Any, transport: str) -> list[str] | None:
    """The words of a setting; None if it is cleared."""
    if transport == "grpc":
        if len(value) > 1 and name != "trace_level":
            raise InvalidArgument(f"expect only 1 value for '{name}'")
        return list(value) or None
    if value is None:
        return None
    if name != "trace_level":
        value = [value]
    elif not isinstance(value, list):
        raise InvalidArgument("attempt to access JSON non-array as array")
    if not all(isinstance(word, str) for word in value):
        raise InvalidArgument("attempt to access JSON non-string as string")
    return list(value)


def levels_of(words: list[str]) -> tuple[str, ...]:
    """The levels that words name, in order; words that name none are passed over, as Triton does.

    Raises:
        InvalidArgument: `OFF` has company.
    """
    if "OFF" in words and len(words) > 1:
        raise InvalidArgument("Expect only one trace level 'OFF' is specified")
    named = {"TIMESTAMPS" if word in ("MIN", "MAX") else word for word in words}
    return tuple(level for level in LEVELS if level in named)


def _number(name: str, word: str) -> int:
    try:
        number = int(word)
    except ValueError:
        raise InvalidArgument(f"Unable to parse '{name}', got: {word}") from None
    if name == "trace_count" and number < -1:
        raise InvalidArgument(f"Unable to parse 'trace_count'. Expecting value >= -1, got:{word}")
    if not (-1 if name == "trace_count" else 0) <= number <= _LARGEST:
        raise InvalidArgument(f"Unable to parse '{name}', got: {word}")
    return number
