# SPDX-License-Identifier: Apache-2.0
"""kubectl's JSONPath: `{.status.url}`, `{.items[*].metadata.name}`, `{range .items[*]}...{end}`.

What is asked for with it most: keys, indexes, slices, `*`, filters such as
`[?(@.type=="Ready")]`, quoted text and ranges. What is not there gives nothing, as in kubectl.
Recursive descent (`..`) and unions are refused. Pure: a template and a value in, text out.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nerite.errors import InvalidArgument

_TOKEN = re.compile(
    r"""\.?\*
    | \.(?P<key>(?:[^\s.\[\]{}()\\=!<>'"*]|\\.)+)
    | \['(?P<quoted>[^']*)'\] | \["(?P<double>[^"]*)"\]
    | \[(?P<index>-?\d+)\]
    | \[(?P<low>-?\d*):(?P<high>-?\d*)\]
    | \[(?P<all>\*)\]
    | \[\?\((?P<filter>(?:"[^"]*"|'[^']*'|[^"')])*)\)\]""",
    re.VERBOSE,
)
_FILTER = re.compile(r"\s*@(?P<path>.*?)\s*(?:(?P<sign>[=!]=|[<>]=?)\s*(?P<literal>\S.*?)\s*)?")
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
_PIECE = re.compile(r"""\{((?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^{}"'])*)\}|([^{}]+)""")
_QUOTED = re.compile(r"""(["'])(.*)\1""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a template: text, or what stands between braces."""

    text: str
    inside: bool


def evaluated(template: str, value: Any) -> str:
    """The template with its paths replaced by what they name in `value`.

    Raises:
        InvalidArgument: It is no template, or has what is not offered here.
    """
    if "{" not in template and template.startswith((".", "[")):
        template = f"{{{template}}}"
    pieces, at = [], 0
    while at < len(template):
        match = _PIECE.match(template, at)
        if match is None:
            raise _refusal(template, template[at:])
        inside = match[1] is not None
        pieces.append(_Piece(match[1].strip() if inside else match[2], inside))
        at = match.end()
    written, rest = _written(template, pieces, value, value)
    if rest:
        raise _refusal(template, "{end}")
    return written


def values_at(path: str, value: Any) -> list[Any]:
    """What a path such as `.metadata.name` names; nothing where there is none."""
    found, at = [value], 1 if path.startswith(("$", "@")) else 0
    while at < len(path):
        match = _TOKEN.match(path, at)
        if match is None or match.end() == at:
            raise _refusal(path, path[at:])
        found = [inner for each in found for inner in _step(match, each)]
        at = match.end()
    return found


def shown(value: Any) -> str:
    """A value as kubectl prints it: texts as they are, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _written(
    template: str, pieces: Sequence[_Piece], value: Any, root: Any
) -> tuple[str, Sequence[_Piece]]:
    """The text of all pieces, up to the `{end}` that is not theirs; what follows that one."""
    text = ""
    while pieces:
        piece, pieces = pieces[0], pieces[1:]
        if not piece.inside:
            text += piece.text
        elif piece.text == "end":
            return text, [piece, *pieces]
        elif piece.text.startswith("range "):
            over = values_at(piece.text.removeprefix("range ").strip(), value)
            for each in over or [None]:
                part, rest = _written(template, pieces, each, root)
                text += part if over else ""
            if not rest:
                raise _refusal(template, f"{{{piece.text}}}, which has no {{end}}")
            pieces = rest[1:]
        else:
            text += _expression(piece.text, value, root)
    return text, []


def _expression(text: str, value: Any, root: Any) -> str:
    if quoted := _QUOTED.fullmatch(text):
        return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), quoted[2])
    found = values_at(text, root if text.startswith("$") else value)
    return " ".join(shown(each) for each in found if each is not None)


def _step(match: re.Match[str], value: Any) -> Iterator[Any]:
    key = match["quoted"] if match["quoted"] is not None else match["double"]
    if match["key"] is not None:
        key = re.sub(r"\\(.)", r"\1", match["key"])
    if key is not None:
        if isinstance(value, dict) and key in value:
            yield value[key]
    elif match["index"] is not None:
        if isinstance(value, list) and -len(value) <= int(match["index"]) < len(value):
            yield value[int(match["index"])]
    elif match["low"] is not None:
        ends = [int(end) if end else None for end in (match["low"], match["high"])]
        yield from value[slice(*ends)] if isinstance(value, list) else ()
    elif match["filter"] is not None:
        yield from filter(_condition(match["filter"]), value if isinstance(value, list) else ())
    else:
        yield from _inner(value)


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _condition(text: str) -> Callable[[Any], bool]:
    match = _FILTER.fullmatch(text)
    if match is None:
        raise _refusal(text, text)
    path, sign = match["path"], match["sign"]
    if sign is None:
        return lambda value: bool(values_at(path, value))
    quoted = _QUOTED.fullmatch(match["literal"])
    try:
        literal = quoted[2] if quoted else json.loads(match["literal"])
    except ValueError:
        raise _refusal(text, match["literal"]) from None

    def holds(value: Any) -> bool:
        found = values_at(path, value)
        try:
            return bool(found) and _SIGNS[sign](found[0], literal)
        except TypeError:
            return False

    return holds


def _refusal(template: str, rest: str) -> InvalidArgument:
    return InvalidArgument(
        f"jsonpath '{template}': not understood at '{rest}'; there is {{.a.b}}, [0], [*], "
        '[?(@.type=="Ready")], {"\\n"} and {range .items[*]}...{end}'
    )
