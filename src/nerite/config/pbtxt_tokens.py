# SPDX-License-Identifier: Apache-2.0
"""The words of protobuf's text format, with their places.

Tolerant: a word that cannot be is kept as a `bad` token with the reason, so that the scan in
`pbtxt` can go on after it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nerite.config.positions import Place

_WORDS = re.compile(
    r"""
    (?P<space>[ \t\r\f\v]+|\#[^\n]*)
  | (?P<newline>\n)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)
  | (?P<string>"(?:\\[^\n]|[^"\\\n])*"|'(?:\\[^\n]|[^'\\\n])*')
  | (?P<open>["'])
  | (?P<mark>[{}<>\[\]:;,./-])
  | (?P<bad>.)
    """,
    re.VERBOSE,
)

_ESCAPES = re.compile(
    r"""(?:[^\\]|\\(?:[abfnrtv?'"\\]|[0-7]|[xX][0-9a-fA-F]|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*"""
)
#: protobuf's Python parser only warns of these, its C++ parser, and so Triton, refuses them.
BAD_ESCAPE = "Invalid escape sequence in string literal."


class Token(NamedTuple):
    """A word: `kind` is name, number, string, mark, bad or end."""

    kind: str
    text: str
    place: Place
    reason: str = ""


def tokens_of(text: str) -> list[Token]:
    """All tokens of a text, closed by one of kind `end`."""
    found: list[Token] = []
    line, start, index = 1, 0, 0
    while index < len(text):
        match = _WORDS.match(text, index)
        if match is None:  # cannot be: `bad` takes any character but a newline
            break
        kind, word = match.lastgroup or "bad", match.group()
        place = Place(line, index - start + 1)
        index = match.end()
        if kind == "newline":
            line, start = line + 1, index
        elif kind == "open":
            rest = text.find("\n", index)
            index = len(text) if rest < 0 else rest
            reason = "String literals cannot cross line boundaries."
            found.append(Token("bad", text[match.start() : index], place, reason))
        elif kind == "bad":
            found.append(Token(kind, word, place, f"Expected identifier, got: {word}"))
        elif kind == "string" and "\\" in word and not _ESCAPES.fullmatch(word):
            found.append(Token("bad", word, place, BAD_ESCAPE))
        elif kind != "space":
            found.append(Token(kind, word, place))
    found.append(Token("end", "", Place(line, len(text) - start + 1)))
    return found
