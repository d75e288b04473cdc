# SPDX-License-Identifier: Apache-2.0
"""Read config.pbtxt.

protobuf's own parser decides what is valid and what it means. The scan here walks the same words
along the schema for two things that parser cannot give: where every key stands, and, when it
refuses the file, *all* faults with advice instead of the first without any. The words of a fault
are those of Triton's (C++) parser.
"""

from __future__ import annotations

import re
from itertools import islice

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from nerite.config import suggestions
from nerite.config.pbtxt_tokens import BAD_ESCAPE, Token, tokens_of
from nerite.config.positions import Place, Positions
from nerite.config.schema import (
    DESCRIPTOR,
    FLOATS,
    INTEGER_RANGES,
    Message,
    ModelConfigMessage,
    enum_of,
    is_map,
    is_repeated,
)
from nerite.config.tree import MOST_PROBLEMS
from nerite.errors import ConfigError, ConfigProblem

_CLOSING = {"{": "}", "<": ">"}
_FIRST_ERROR = re.compile(r"(?:(\d+):(\d+) ?: ?)?(.*)", re.DOTALL)
_BOOLS = frozenset({"true", "false", "True", "False", "t", "f", "0", "1"})


def read_pbtxt(text: str, file: str) -> tuple[Message, Positions]:
    """The message of a text and where its keys stand; raises ConfigError with every fault."""
    scan = Scan(text, file)
    scan.message(DESCRIPTOR, "", "")
    message = ModelConfigMessage()
    if scan.problems and any(token.reason == BAD_ESCAPE for token in scan.tokens):
        raise ConfigError(*scan.problems)
    try:
        text_format.Parse(text, message)
    except (text_format.ParseError, RecursionError, ValueError) as error:
        raise ConfigError(*(scan.problems or [_plain(str(error), file)])) from None
    return message, scan.positions


def _plain(cause: str, file: str) -> ConfigProblem:
    match = _FIRST_ERROR.fullmatch(cause)
    line, column, text = match.groups() if match else ("0", "0", cause)
    return ConfigProblem(_told(file, text), file, int(line or 0), int(column or 0))


def _told(file: str, cause: str) -> str:
    # The words before the colon are all that Triton says to a client.
    return f"failed to read text proto from {file}: {cause}"


class Scan:
    """One pass over the words of a file, along the schema."""

    def __init__(self, text: str, file: str) -> None:
        self.tokens = tokens_of(text)
        self.index = 0
        self.positions = Positions(file)
        self.problems: list[ConfigProblem] = []

    @property
    def is_full(self) -> bool:
        """Whether so much is wrong that advice for more would be work for nobody."""
        return len(self.problems) >= MOST_PROBLEMS

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def next(self) -> Token:
        token = self.token
        self.index = min(self.index + 1, len(self.tokens) - 1)
        return token

    def take(self, *marks: str) -> bool:
        if self.token.kind == "mark" and self.token.text in marks:
            self.next()
            return True
        return False

    def fault(self, token: Token, cause: str, key: str, fix: str, value: str = "") -> None:
        if self.is_full:
            return
        file, place = self.positions.file, token.place
        text = _told(file, cause)
        self.problems.append(ConfigProblem(text, file, *place, key=key, value=value, fix=fix))

    def message(self, message: Descriptor, path: str, closing: str) -> None:
        """The fields up to the closing mark (the end of the file at the top level)."""
        seen: dict[str, int] = {}
        start = self.tokens[max(self.index - 1, 0)]
        while self.token.kind != "end":
            if closing and self.take(closing):
                return
            if self.token.kind != "name":
                self._stray(path)
                continue
            self._field(message, path, seen)
            self.take(",", ";")
        if closing:
            fix = f"add the missing '{closing}' for the '{start.text}' in line {start.place.line}"
            self.fault(self.token, f"Expected '{closing}', got: end of file", path, fix)

    def _stray(self, path: str) -> None:
        token = self.next()
        cause = token.reason or f"Expected identifier, got: {token.text}"
        fix = "close the quotes" if "literals" in cause else f"remove '{token.text}'"
        fix = r"write \\ for a backslash" if cause == BAD_ESCAPE else fix
        self.fault(token, cause, path, fix, token.text)

    def _field(self, message: Descriptor, path: str, seen: dict[str, int]) -> None:
        name = self.next()
        key = f"{path}.{name.text}" if path else name.text
        field = message.fields_by_name.get(name.text)
        if field is None:
            cause = f'Message type "{message.full_name}" has no field named "{name.text}".'
            fix = "" if self.is_full else suggestions.for_field(name.text, message)
            self.fault(name, cause, key, fix)
            self.take(":")
            self._skip_value()
            return
        self.positions.record(key, name.place)
        if not is_repeated(field):
            self._once(field, name, key, seen)
        self._values(field, name, key, seen)

    def _once(self, field: FieldDescriptor, name: Token, key: str, seen: dict[str, int]) -> None:
        if field.name in seen:
            cause = f'Non-repeated field "{field.name}" is specified multiple times.'
            self.fault(name, cause, key, "keep only one of them")
        seen[field.name] = 1
        oneof = field.containing_oneof
        others = [f.name for f in oneof.fields if f is not field] if oneof is not None else []
        for other in (name for name in others if name in seen):
            cause = (
                f'Field "{field.name}" is specified along with field "{other}", '
                f'another member of oneof "{oneof.name}".'  # type: ignore[union-attr]
            )
            fix = f"keep only one of '{other}' and '{field.name}'"
            self.fault(name, cause, key, fix)

    def _values(self, field: FieldDescriptor, name: Token, key: str, seen: dict[str, int]) -> None:
        if not self.take(":") and field.message_type is None:
            cause = f"Expected ':', got: {self.token.text or 'end of file'}"
            self.fault(self.token, cause, key, f"write `{name.text}: value`")
        if not is_repeated(field):
            self._value(field, key)
        elif self.take("["):
            while self.token.kind != "end" and not self.take("]"):
                before = self.index
                self._element(field, key, seen)
                self.take(",", ";")
                if self.index == before:  # a mark that fits nowhere; it was told
                    self.next()
        else:
            self._element(field, key, seen)

    def _element(self, field: FieldDescriptor, key: str, seen: dict[str, int]) -> None:
        place = self.token.place
        if is_map(field):
            self._map_entry(field, key, place)
            return
        number = seen.get(field.name, 0)
        seen[field.name] = number + 1
        self.positions.record(f"{key}[{number}]", place)
        self._value(field, f"{key}[{number}]")

    def _map_entry(self, field: FieldDescriptor, key: str, place: Place) -> None:
        # The entry's name is only known after its words were read: look ahead for `key:`.
        entry = f"{key}[{self._entry_name()}]"
        self.positions.record(entry, place)
        known = len(self.positions.places)
        self._value(field, entry)
        places = self.positions.places
        # The newest ones: from the front it would take the square of the number of entries.
        for path, where in list(islice(reversed(places.items()), len(places) - known)):
            # Paths do not name the entry message's own `value` field: `parameters[a].string_value`.
            if path.startswith(f"{entry}.value."):
                self.positions.record(f"{entry}.{path.removeprefix(f'{entry}.value.')}", where)

    def _entry_name(self) -> str:
        depth = 0
        for index in range(self.index, len(self.tokens) - 2):
            token = self.tokens[index]
            depth += token.text in ("{", "<") if token.kind == "mark" else 0
            depth -= token.text in ("}", ">") if token.kind == "mark" else 0
            if depth == 0:
                return ""
            if depth == 1 and token.kind == "name" and token.text == "key":
                return _unquoted(self.tokens[index + 2].text)
        return ""

    def _value(self, field: FieldDescriptor, key: str) -> None:
        if field.message_type is not None:
            if self.take("{", "<"):
                closing = _CLOSING[self.tokens[self.index - 1].text]
                self.message(field.message_type, key, closing)
                return
            cause = f'Expected "{{", found "{self.token.text}".'
            self.fault(self.token, cause, key, f"write `{field.name} {{ ... }}`", self.token.text)
            self._skip_value()
            return
        if self.token.kind == "bad":
            self._stray(key)
            return
        if self.token.kind == "end" or self.token.text in ("{", "<", "[", "}", ">", "]"):
            cause = f"Expected {_kind(field)}, got: {self.token.text or 'end of file'}"
            self.fault(self.token, cause, key, f"write `{field.name}: value`", self.token.text)
            if self.token.text in ("{", "<", "["):
                self._skip_value()
            return
        self._scalar(field, key)

    def _scalar(self, field: FieldDescriptor, key: str) -> None:
        token = self.token
        minus = self.take("-")
        word = self.next()
        text = f"-{word.text}" if minus else word.text
        if field.type == FieldDescriptor.TYPE_STRING:
            if word.kind != "string" or minus:
                cause = f"Expected string, got: {text}"
                self.fault(token, cause, key, f'put it in quotes: "{text}"', text)
            while self.token.kind == "string":
                self.next()
        elif field.enum_type is not None:
            self._enum(field, word, key)
        elif field.type == FieldDescriptor.TYPE_BOOL:
            if text not in _BOOLS:
                cause = f'Invalid value for boolean field "{field.name}". Value: "{text}".'
                self.fault(token, cause, key, "write true or false", text)
        elif field.type in FLOATS:
            if word.kind == "string":
                fix = "write a number such as 0.5, without quotes"
                self.fault(token, f"Expected double, got: {text}", key, fix, text)
        else:
            self._integer(field, token, word, minus, key)

    def _enum(self, field: FieldDescriptor, word: Token, key: str) -> None:
        enum = enum_of(field)
        if word.kind == "number" or word.text in enum.values_by_name:
            return
        name = _unquoted(word.text)
        cause = f'Unknown enumeration value of "{name}" for field "{field.name}".'
        fix = "" if self.is_full else suggestions.for_enum(name, enum)
        if word.kind == "string":
            cause = f"Expected integer or identifier, got: {word.text}"
            fix = "write it without quotes" if name in enum.values_by_name else fix
        self.fault(word, cause, key, fix, word.text)

    def _integer(
        self, field: FieldDescriptor, token: Token, word: Token, minus: bool, key: str
    ) -> None:
        low, high = INTEGER_RANGES[field.type]
        fix = f"an integer from {low} to {high}"
        text = f"-{word.text}" if minus else word.text
        if minus and low == 0:
            self.fault(token, "Expected integer, got: -", key, fix, text)
            return
        number = _whole(word.text) if word.kind == "number" else None
        if number is None:
            self.fault(token, f"Expected integer, got: {text}", key, fix, text)
        elif not low <= (-number if minus else number) <= high:
            self.fault(token, f"Integer out of range ({text})", key, fix, text)

    def _skip_value(self) -> None:
        depth = 0
        while self.token.kind != "end":
            if self.token.text in ("}", ">", "]") and self.token.kind == "mark" and depth == 0:
                return
            token = self.next()
            if token.kind == "mark":
                depth += (token.text in "{<[") - (token.text in "}>]")
            if depth == 0 and token.text != "-":
                while token.kind == "string" and self.token.kind == "string":
                    self.next()
                return


def _kind(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "string"
    return "identifier" if field.enum_type is not None else "integer"


def _unquoted(text: str) -> str:
    return text[1:-1] if text[:1] in ('"', "'") else text


def _whole(text: str) -> int | None:
    try:
        if text[:1] == "0" and text.isdigit():
            return int(text, 8)
        return int(text, 0)
    except ValueError:
        return None
