# SPDX-License-Identifier: Apache-2.0
"""Parse the Go template language as runtimes use it: text and actions into a tree.

Known are pipelines, fields, variables, literals, parentheses, comments, trim markers, and the
blocks `if`, `with`, `range` with `else`, `break` and `continue`. Not known are `define`, `block`
and `template`: a container's field has nothing to define. Running a tree is `templates`' work.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""\s+|(?P<raw>`[^`]*`)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<char>'(?:[^'\\]|\\.)+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))
    |(?P<variable>\$\w*)|(?P<field>\.\w+)|(?P<word>[^\W\d]\w*)|(?P<mark>:=|[|(),=.])""",
    re.VERBOSE,
)


class TemplateError(Exception):
    """A template that cannot be parsed or run; the text is Go's where Go has one."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    spaced: bool


@dataclass(frozen=True, slots=True)
class Literal:
    value: object


@dataclass(frozen=True, slots=True)
class Chain:
    """Fields of something: of the cursor (`root` None), a variable's name, or a pipeline."""

    root: str | Pipeline | None
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function by name, or a bare operand (`function` empty), with its arguments."""

    function: str
    arguments: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands in order, each fed to the next; `variables` receive the result."""

    commands: tuple[Call, ...]
    variables: tuple[str, ...] = ()
    declares: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """`if`, `with` or `range`, with what to do and what else."""

    keyword: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Jump:
    keyword: str


# A function without arguments may stand as an operand: `printf "%d" len`.
Operand = Literal | Chain | Pipeline | Call
Node = Text | Pipeline | Block | Jump


def parse(source: str, functions: frozenset[str]) -> tuple[Node, ...]:
    """The tree of `source`; raises TemplateError for an unknown function or broken syntax."""
    parser = _Parser(_pieces(source), functions)
    nodes, end = parser.nodes()
    if end:
        raise TemplateError(f"unexpected {{{{{end}}}}}")
    return tuple(nodes)


def _pieces(source: str) -> list[Text | list[Token]]:
    """Texts and the tokens of actions, in order; comments are gone and trims are done."""
    pieces: list[Text | list[Token]] = []
    position, trim = 0, False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        text = text.lstrip() if trim else text
        if start < 0:
            pieces.append(Text(text))
            return pieces
        start += 2
        if re.match(r"-\s", source[start:]):
            text, start = text.rstrip(), start + 1
        pieces.append(Text(text))
        comment = re.match(r"\s*/\*.*?\*/\s*?(\s-)?}}", source[start:], re.DOTALL)
        if comment:
            position, trim = start + comment.end(), comment[1] is not None
            continue
        tokens, position, trim = _action(source, start)
        pieces.append(tokens)


def _action(source: str, position: int) -> tuple[list[Token], int, bool]:
    tokens: list[Token] = []
    spaced = True
    while True:
        closing = re.compile(r"(\s-)?}}").match(source, position)
        if closing:
            return tokens, closing.end(), closing[1] is not None
        match = _TOKEN.match(source, position)
        if match is None:
            raise TemplateError(_bad_character(source, position))
        if match.lastgroup:
            tokens.append(Token(match.lastgroup, match[0], spaced))
        spaced = match.lastgroup is None
        position = match.end()


def _bad_character(source: str, position: int) -> str:
    if position >= len(source):
        return "unclosed action"
    character = source[position]
    if character in "\"`'":
        return "unterminated quoted string"
    return f"bad character U+{ord(character):04X} '{character}'"


class _Parser:
    def __init__(self, pieces: list[Text | list[Token]], functions: frozenset[str]) -> None:
        self._pieces = iter(pieces)
        self._functions = functions
        self._tokens: list[Token] = []

    def nodes(self) -> tuple[list[Node], str]:
        """The nodes up to an `end` or `else`, and which of the two it was ("" at the end)."""
        found: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, Text):
                found += [piece] if piece.text else []
                continue
            self._tokens = piece
            if not piece:
                raise TemplateError("missing value for command")
            keyword = piece[0].text if piece[0].kind == "word" else ""
            if keyword in ("end", "else"):
                self._tokens = piece[1:]
                return found, keyword
            found.append(self._node(keyword))
        return found, ""

    def _node(self, keyword: str) -> Node:
        if keyword in ("if", "with", "range"):
            self._tokens.pop(0)
            return self._block(keyword)
        if keyword in ("break", "continue"):
            return Jump(keyword)
        if keyword in ("define", "block", "template"):
            raise TemplateError(f"{{{{{keyword}}}}} is not supported here")
        return self._whole_pipeline(keyword)

    def _whole_pipeline(self, context: str) -> Pipeline:
        pipeline = self._pipeline()
        if self._tokens:
            raise TemplateError(f"unexpected <{self._tokens[0].text}> in {context or 'command'}")
        return pipeline

    def _block(self, keyword: str) -> Block:
        pipeline = self._whole_pipeline(keyword)
        body, end = self.nodes()
        otherwise: list[Node] = []
        if end == "else" and self._tokens:
            chained = self._tokens.pop(0).text
            if chained not in ("if", "with"):
                raise TemplateError(f"unexpected <{chained}> in else")
            otherwise = [self._block(chained)]
            return Block(keyword, pipeline, tuple(body), tuple(otherwise))
        if end == "else":
            otherwise, end = self.nodes()
        if end != "end":
            raise TemplateError("unexpected EOF" if not end else "expected end; found {{else}}")
        return Block(keyword, pipeline, tuple(body), tuple(otherwise))

    def _pipeline(self) -> Pipeline:
        variables, declares = self._assignment()
        commands = [self._command()]
        while self._tokens and self._tokens[0].text == "|":
            self._tokens.pop(0)
            commands.append(self._command())
        return Pipeline(tuple(commands), variables, declares)

    def _assignment(self) -> tuple[tuple[str, ...], bool]:
        kinds = [t.kind if t.kind == "variable" else t.text for t in self._tokens[:4]]
        for length in (1, 3):
            names = kinds[:length]
            are_names = set(names[::2]) == {"variable"} and names[1:2] in ([], [","])
            if are_names and kinds[length : length + 1] in ([":="], ["="]):
                found = tuple(t.text for t in self._tokens[:length:2])
                del self._tokens[: length + 1]
                return found, kinds[length] == ":="
        return (), False

    def _command(self) -> Call:
        function, arguments = "", []
        if self._tokens and self._tokens[0].kind == "word":
            word = self._tokens[0].text
            if word not in ("true", "false", "nil"):
                function = self._function(self._tokens.pop(0).text)
        while self._tokens and self._tokens[0].text not in ("|", ")"):
            arguments.append(self._operand())
        if not function and not arguments:
            raise TemplateError("missing value for command")
        if not function and len(arguments) > 1:
            raise TemplateError("can't give argument to non-function")
        return Call(function, tuple(arguments))

    def _function(self, name: str) -> str:
        if name not in self._functions:
            raise TemplateError(f'function "{name}" not defined')
        return name

    def _operand(self) -> Operand:
        token = self._tokens.pop(0)
        if token.text == "(":
            inner = self._pipeline()
            if not self._tokens or self._tokens.pop(0).text != ")":
                raise TemplateError("unclosed left paren")
            fields = self._fields()
            return Chain(inner, fields) if fields else inner
        if token.kind == "field":
            return Chain(None, (token.text[1:], *self._fields()))
        if token.kind == "variable":
            return Chain(token.text, self._fields())
        if token.text == ".":
            return Chain(None, ())
        if token.kind == "word" and token.text not in ("true", "false", "nil"):
            return Call(self._function(token.text), ())
        return Literal(_literal(token))

    def _fields(self) -> tuple[str, ...]:
        fields = []
        while self._tokens and self._tokens[0].kind == "field" and not self._tokens[0].spaced:
            fields.append(self._tokens.pop(0).text[1:])
        return tuple(fields)


def _literal(token: Token) -> object:
    if token.kind == "raw":
        return token.text[1:-1]
    if token.kind == "string":
        try:
            return json.loads(token.text, strict=False)
        except ValueError:
            raise TemplateError(f"invalid syntax: {token.text}") from None
    if token.kind == "char":
        return ord(token.text[1:-1].encode().decode("unicode_escape"))
    if token.kind == "number":
        return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text, 0)
    words = {"true": True, "false": False, "nil": None}
    if token.text in words:
        return words[token.text]
    raise TemplateError(f'unexpected "{token.text}" in operand')
