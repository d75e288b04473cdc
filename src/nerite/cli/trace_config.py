# SPDX-License-Identifier: Apache-2.0
"""Read `--trace-config` words, and Triton's older flags for the same, into `TraceOptions`.

A word is `KEY=VALUE` for what all modes have, or `MODE,KEY=VALUE` for what one has. What a key
means is `server.trace_options`' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nerite.cli.options import LARGEST
from nerite.errors import InvalidArgument

if TYPE_CHECKING:
    from nerite.server.trace_options import TraceOptions

_FLAG = "--trace-config"
_NUMBERS = {"rate": 0, "count": -1, "log-frequency": 0}
_PROCESSOR = ("bsp_max_queue_size", "bsp_schedule_delay", "bsp_max_export_batch_size")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "": ("mode", "rate", "level", "count"),
    "triton": ("file", "log-frequency"),
    "opentelemetry": ("url", "resource", *_PROCESSOR),
}
#: The older flag -> the word that says the same.
OLDER = {
    "trace_file": "triton,file",
    "trace_level": "level",
    "trace_rate": "rate",
    "trace_count": "count",
    "trace_log_frequency": "triton,log-frequency",
}


def older_words(values: dict[str, Any]) -> list[str]:
    """The words that older flags stand for; takes those flags out of `values`."""
    words = []
    for option, key in OLDER.items():
        given = values.pop(option, ())
        each = given if isinstance(given, (list, tuple)) else [given]
        words += [f"{key}={value}" for value in each]
    return words


def trace_options(words: Sequence[str]) -> TraceOptions:
    """What the words ask for.

    Raises:
        InvalidArgument: A word is not understood, or what they ask for together cannot be.
    """
    from nerite.server.trace_options import TraceOptions, TraceRule
    from nerite.server.trace_settings import levels_of

    rule: dict[str, int] = {}
    levels: list[str] = []
    chosen: dict[str, Any] = {}
    resource: dict[str, str] = {}
    processor: dict[str, int] = {}
    for word in words:
        mode, key, value = _split(word)
        if key == "level":
            levels.append(value)
        elif key in _NUMBERS:
            rule[key.replace("-", "_")] = _number(word, value, _NUMBERS[key])
        elif key in _PROCESSOR:
            processor[key] = _number(word, value, 1)
        elif key == "resource":
            name, _, text = value.partition("=")
            resource[name] = text
        else:
            chosen[key] = value
        if mode == "opentelemetry":
            chosen.setdefault("mode", mode)
    made = replace(TraceRule(), levels=levels_of(levels), **rule)
    return TraceOptions(rule=made, resource=resource, processor=processor, **chosen)


def _split(word: str) -> tuple[str, str, str]:
    """Mode, key and value of a word."""
    name, equals, value = word.partition("=")
    mode, _, key = name.rpartition(",")
    if mode not in _KEYS or not equals or not value:
        raise InvalidArgument(f"{_FLAG}: '{word}' is not KEY=VALUE or MODE,KEY=VALUE")
    # Triton takes what all modes have behind a mode too.
    if key not in _KEYS[mode] and key not in _KEYS[""]:
        accepted = ", ".join((*_KEYS[mode], *(_KEYS[""] if mode else ())))
        raise InvalidArgument(f"{_FLAG}: '{word}' is not offered; one of {accepted} is")
    return mode, key, value


def _number(word: str, value: str, least: int) -> int:
    try:
        number = int(value)
    except ValueError:
        raise InvalidArgument(f"{_FLAG}: '{word}' has no whole number") from None
    if number < least:
        raise InvalidArgument(f"{_FLAG}: '{word}' is out of range; it must be at least {least}")
    if number > LARGEST:
        raise InvalidArgument(f"{_FLAG}: '{word}' is out of range; it must be at most {LARGEST}")
    return number
