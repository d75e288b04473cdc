# SPDX-License-Identifier: Apache-2.0
"""kubectl's label selectors: `-l team=a,tier!=dev,region in (eu, us),gpu,!spot`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from nerite.errors import InvalidArgument
from nerite.kserve.documents import Object

Selector = Callable[[Object], bool]
_Requirement = Callable[[Mapping[str, str]], bool]

_KEY = r"(?P<key>[\w./-]+)"
_VALUE = r"(?P<value>[\w.-]*)"
_FORMS = re.compile(
    rf"\s*(?:(?P<absent>!)\s*)?{_KEY}\s*"
    rf"(?:(?P<sign>==?|!=)\s*{_VALUE}\s*|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\)\s*)?"
)
_COMMA = re.compile(r",(?![^()]*\))")


def selector(text: str) -> Selector:
    """Whether an object's labels are as the text asks; every object if it is empty.

    Raises:
        InvalidArgument: It is no selector.
    """
    requirements = [_requirement(part, text) for part in _COMMA.split(text)] if text else []

    def matches(value: Object) -> bool:
        labels = value["metadata"].get("labels") or {}
        return all(requirement(labels) for requirement in requirements)

    return matches


def _requirement(part: str, text: str) -> _Requirement:
    match = _FORMS.fullmatch(part)
    if match is None or (match["absent"] and (match["sign"] or match["set"])):
        raise InvalidArgument(
            f"-l '{text}' is not understood at '{part.strip()}'; there is key=value, key!=value, "
            "key in (a,b), key notin (a,b), key and !key, with commas between"
        )
    key, value = match["key"], match["value"]
    if match["absent"]:
        return lambda labels: key not in labels
    if match["sign"] is not None:
        equal = match["sign"] != "!="
        return lambda labels: (labels.get(key) == value) is equal
    if match["set"] is not None:
        among = {each.strip() for each in match["values"].split(",")}
        inside = match["set"] == "in"
        return lambda labels: (labels.get(key) in among) is inside
    return lambda labels: key in labels
