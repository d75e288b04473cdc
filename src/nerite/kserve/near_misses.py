# SPDX-License-Identifier: Apache-2.0
"""What was probably meant by a format, version, protocol or runtime that is not there.

Pure text: what was asked for and what there is in, a hint out; empty if nothing comes near.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def of_format(asked: str, known: Iterable[str]) -> str:
    """The name of a format, written in another case or with a slip."""
    names = list(dict.fromkeys(known))
    for name in names:
        if name.lower() == asked.lower():
            return f'format names are compared by case: write "{name}"'
    near = difflib.get_close_matches(asked.lower(), [name.lower() for name in names], n=1)
    meant = next((name for name in names if near and name.lower() == near[0]), "")
    return f'did you mean the format "{meant}"?' if meant else ""


def of_version(known: Iterable[str]) -> str:
    """The version of a format, which must be the same text."""
    shown = ", ".join(f'"{version}"' for version in dict.fromkeys(known))
    if not shown:
        hint = "its entry has no version, and such an entry never matches a model that gives one"
        return f"{hint}: leave modelFormat.version out"
    return f"versions are compared as text, and it has {shown}: write that, or leave version out"


def of_protocol(asked: str, spoken: Sequence[str]) -> str:
    """The name of a protocol: `v1`, `v2`, `grpc-v1` and `grpc-v2` are what KServe asks for."""
    plain = asked.lower().replace("_", "-")
    for name in spoken:
        if name in (plain, plain.removeprefix("http-").removeprefix("rest-")):
            return f'protocols are compared as text: write "{name}"'
    return ""


def of_runtime(asked: str, names: Sequence[str]) -> str:
    """The runtime that was probably meant: one whose name holds `asked`, or is most like it."""
    holding = [name for name in names if asked and asked in name]
    return next(iter(holding or difflib.get_close_matches(asked, names, n=1)), "")
