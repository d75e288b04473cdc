# SPDX-License-Identifier: Apache-2.0
"""The page on the flags of `nerite serve`, from the table that the command reads them by."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.site.tables import NOTE, code, sentence, table

from nerite.cli.flags import FLAGS, Flag

_TRITON = Path(__file__).parents[2] / "tests/cli/triton_flags.json"
_HEAD = f"""{NOTE}
# Flags of `nerite serve`

Every flag that the command takes. Those of Triton have Triton's names and defaults; where
Nerite's default is another, both are shown.
Flags may be written `--flag=value` or `--flag value`. [The same on the command
line](cli.md#nerite-serve): `nerite serve --help`.
"""
_TELL = {
    "warned": "Accepted with a warning, so that a command line of Triton's need not be edited.",
}


def page() -> str:
    """All flags in their groups."""
    triton: dict[str, str] = json.loads(_TRITON.read_text())
    groups: dict[str, list[Flag]] = {}
    for flag in FLAGS:
        groups.setdefault(flag.group, []).append(flag)
    parts = [_HEAD]
    for name, flags in sorted(groups.items(), key=lambda item: item[1][0].fate != "works"):
        parts.append(f"\n## {name}\n\n{_TELL.get(flags[0].fate, '')}\n\n")
        parts.append(table(("flag", "default", "what it does", "Triton"), _rows(flags, triton)))
    return "".join(parts)


def _rows(flags: list[Flag], triton: dict[str, str]) -> list[tuple[str, ...]]:
    return [
        (code(flag.name), code(flag.default), _what(flag), _of_triton(flag, triton))
        for flag in flags
    ]


def _what(flag: Flag) -> str:
    text = sentence(flag.help)
    if flag.help.startswith(flag.choices or ("-",)):  # a value is written as it is meant
        text = flag.help[0] + text[1:]
    if flag.choices:
        text += f" One of {', '.join(map(code, flag.choices))}."
    if flag.idle:
        text += f" {', '.join(map(code, flag.idle))} is what is so anyway."
    return text


def _of_triton(flag: Flag, triton: dict[str, str]) -> str:
    if flag.name not in triton:
        return "Nerite's own"
    default = triton[flag.name]
    differs = flag.fate == "works" and flag.default and default != flag.default
    return f"default {code(default)}" if differs else "the same"
