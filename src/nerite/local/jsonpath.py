# SPDX-License-Identifier: Apache-2.0
"""The part of kubectl's JSONPath that names one value: `{.status.url}`, `{.a.b[0].c}`.

Filters and ranges are refused; whoever needs them pipes `-o json` into a tool that has them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from nerite.errors import InvalidArgument

_WHOLE = re.compile(r"\{?((?:\.(?:[\w-]|\\.)+|\[\d+\])+)\}?")
_PART = re.compile(r"\.((?:[\w-]|\\.)+)|\[(\d+)\]")


def value_at(value: Any, path: str) -> str:
    """The value as text; empty where there is none, as kubectl has it."""
    whole = _WHOLE.fullmatch(path)
    if whole is None:
        raise InvalidArgument(
            f"jsonpath '{path}' is more than a path to one value such as {{.status.url}}; "
            "use -o json for the rest"
        )
    for key, index in _PART.findall(whole[1]):
        if key and isinstance(value, dict):
            value = value.get(key.replace("\\.", "."))
        elif index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
        else:
            return ""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
