# SPDX-License-Identifier: Apache-2.0
"""Words given for flags -> checked values, with a warning or a refusal for what has no effect here.

The table of flags is in `flags`; this module knows how each kind of value is written (as Triton's
parser takes it: `true`, `True` and `1` are true) and turns the values into `ServerOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nerite.cli.flags import BY_NAME, FLAGS, Flag
from nerite.errors import InvalidArgument

_TRUE = ("true", "True", "1")
_FALSE = ("false", "False", "0")

#: What a number may be at most if its flag says nothing else: every language and JSON hold it.
LARGEST = 2**53

Given = str | bool | Sequence[str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The values of the flags that work and were given, by option name, and what to warn about."""

    values: Mapping[str, Any]
    warnings: tuple[str, ...]


def choose(given: Mapping[str, Given]) -> Chosen:
    """Reads what was given for each flag (`--name` -> words).

    Raises:
        InvalidArgument: A value cannot be read.
    """
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for flag in FLAGS:
        if flag.name not in given:
            continue
        value = read_value(flag, given[flag.name])
        if flag.fate == "works":
            before = values.get(flag.option, []) if flag.kind == "list" else None
            values[flag.option] = value if before is None else before + value
        elif not _is_idle(flag, value):
            warnings.append(f"{flag.name} has no effect: {flag.help}")
    return Chosen(values, tuple(warnings))


def _is_idle(flag: Flag, value: object) -> bool:
    words = value if isinstance(value, list) else [value]
    return all((str(v).lower() if isinstance(v, bool) else str(v)) in flag.idle for v in words)


def read_value(flag: Flag, given: Given) -> Any:
    """What was written for a flag, as a value of its kind.

    Raises:
        InvalidArgument: It is none.
    """
    if flag.kind == "switch":
        return bool(given)
    if flag.kind == "list":
        return [given] if isinstance(given, (str, bool)) else list(given)
    word = str(given)
    if not word and flag.name == "--model-config-name":
        raise InvalidArgument(
            f"empty argument for {flag.name}; name a file of the folder 'configs'"
        )
    if flag.kind == "bool":
        return read_bool(flag, word)
    if flag.kind == "level":
        return int(read_bool(flag, word)) if word.lower() in ("true", "false") else _int(flag, word)
    if flag.kind == "int":
        return _int(flag, word)
    if flag.kind == "float":
        return _float(flag, word)
    if flag.choices and word not in flag.choices:
        accepted = " or ".join(f"'{choice}'" for choice in flag.choices)
        raise InvalidArgument(f"{flag.name}: '{word}' is not accepted; {accepted} is")
    return word


def read_bool(flag: Flag, word: str) -> bool:
    """A boolean as Triton writes it."""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidArgument(f"{flag.name}: '{word}' is not a boolean; write true or false")


def _int(flag: Flag, word: str) -> int:
    try:
        number = int(word)
    except ValueError:
        raise InvalidArgument(f"{flag.name}: '{word}' is not a whole number") from None
    low, high = flag.minimum, LARGEST if flag.maximum is None else flag.maximum
    if (low is not None and number < low) or number > high:
        limits = f"from {low} to {high}" if flag.maximum is not None else f"at least {low}"
        limits = f"at most {high}" if number > high and flag.maximum is None else limits
        raise InvalidArgument(f"{flag.name}: {number} is out of range; it must be {limits}")
    return number


def _float(flag: Flag, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        raise InvalidArgument(f"{flag.name}: '{word}' is not a number") from None
    low, high = flag.minimum, flag.maximum
    if low is not None and high is not None and not low <= number <= high:
        raise InvalidArgument(
            f"{flag.name}: {word} is out of range; it must be from {low} to {high}"
        )
    return number


def backend_settings(words: Sequence[str]) -> dict[str, dict[str, str]]:
    """`BACKEND,KEY=VALUE` words -> backend -> key -> value; without a backend they are for all.

    Raises:
        InvalidArgument: A word has no `=`.
    """
    settings: dict[str, dict[str, str]] = {}
    for word in words:
        named = "," in word.partition("=")[0]
        backend, _, pair = word.partition(",") if named else ("", "", word)
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidArgument(f"--backend-config: '{word}' is not BACKEND,KEY=VALUE")
        settings.setdefault(backend, {})[key] = value
    return settings


def metrics_settings(words: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` words of `--metrics-config` -> options of the server.

    Raises:
        InvalidArgument: A key is not offered, or its value cannot be read.
    """
    flag = BY_NAME["--metrics-config"]
    settings: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key == "summary_quantiles":
            settings[key] = _quantiles(flag, value)
        elif key == "histogram_latencies":
            settings["first_response_histogram"] = read_bool(flag, value)
            settings["latency_histograms"] = read_bool(flag, value)
        elif key in ("counter_latencies", "summary_latencies"):
            settings[key] = read_bool(flag, value)
        else:
            raise InvalidArgument(
                f"{flag.name}: '{word}' is not offered; counter_latencies=BOOL, "
                "histogram_latencies=BOOL, summary_latencies=BOOL and "
                "summary_quantiles=QUANTILE:ERROR,... are"
            )
    return settings


def _quantiles(flag: Flag, text: str) -> tuple[tuple[float, float], ...]:
    """`0.5:0.05,0.9:0.01` as pairs."""
    pairs = []
    for part in text.strip('"').split(","):
        quantile, _, error = part.partition(":")
        try:
            pairs.append((float(quantile), float(error)))
        except ValueError:
            raise InvalidArgument(
                f"{flag.name}: summary_quantiles has '{part}'; QUANTILE:ERROR is expected, "
                "for instance 0.99:0.001"
            ) from None
    return tuple(pairs)
