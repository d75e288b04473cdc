# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities: `500m`, `2Gi`, `1e3`.

Comparing and adding needs their value; showing them needs the form Kubernetes itself would
write, because the API server rewrites what users wrote (`0.5` becomes `500m`).
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_PATTERN = re.compile(
    r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)$"
)
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
REFUSED = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


def parse_quantity(text: str | int | float) -> Decimal:
    """The number that a quantity stands for; ValueError with Kubernetes' words otherwise."""
    match = _PATTERN.match(str(text))
    if match is None:
        raise ValueError(REFUSED)
    number, exponent, suffix = match.groups()
    value = Decimal(number + (exponent or ""))
    if suffix in _BINARY:
        return value * (1 << _BINARY[suffix])
    return value.scaleb(_DECIMAL[suffix or ""])


def check_quantity(text: str | int | float) -> str | int | float:
    """`text` itself, if it is a quantity."""
    parse_quantity(text)
    return text


def canonical_quantity(text: str | int | float) -> str:
    """The same quantity as Kubernetes writes it: no fraction, the largest suffix that fits."""
    match = _PATTERN.match(str(text))
    value = parse_quantity(text)
    if match is not None and match[3] in _BINARY:
        return _binary(value)
    # Kubernetes keeps nothing below a nano, rounding up.
    value = value.quantize(Decimal("1e-9"), rounding=ROUND_CEILING)
    if match is not None and match[2]:
        return _exponent(value)
    return _decimal(value)


def _binary(value: Decimal) -> str:
    if value != value.to_integral_value() or abs(value) < 1024:
        return _decimal(value)
    whole, suffix = int(value), ""
    for name in _BINARY:
        if whole % 1024 or not whole:
            break
        whole, suffix = whole // 1024, name
    return f"{whole}{suffix}"


def _decimal(value: Decimal) -> str:
    if not value:
        return "0"
    for suffix, power in reversed(_DECIMAL.items()):
        scaled = value.scaleb(-power)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return str(value)


def _exponent(value: Decimal) -> str:
    for power in (18, 15, 12, 9, 6, 3, 0, -3, -6, -9):
        scaled = value.scaleb(-power)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}e{power}" if power else str(int(scaled))
    return str(value)
