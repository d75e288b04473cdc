# SPDX-License-Identifier: Apache-2.0
"""Replace placeholders such as `{{.Name}}` by what the InferenceService's metadata says.

The fields and functions are Go's. KServe runs the whole container through an HTML template, which
escapes values, chokes on quotes and takes any braces of the user for its own; here each text is a
template by itself, values arrive as they are, and a text of the service's own that is no template
stays as it is, with a warning.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

from nerite.kserve.documents import Object
from nerite.kserve.template_syntax import (
    Block,
    Call,
    Jump,
    Literal,
    Node,
    Operand,
    Pipeline,
    TemplateError,
    Text,
    parse,
)

# The Go names of ObjectMeta's fields that a manifest can hold.
_META_FIELDS = {
    "Name": "name",
    "GenerateName": "generateName",
    "Namespace": "namespace",
    "UID": "uid",
    "ResourceVersion": "resourceVersion",
    "SelfLink": "selfLink",
}


class ObjectMetaView(dict[str, Any]):
    """What a template sees as its data: a Go struct, so unknown fields are errors."""


def metadata_view(metadata: Object) -> ObjectMetaView:
    """The data that templates of a service are run with."""
    view = ObjectMetaView({go: metadata.get(key, "") for go, key in _META_FIELDS.items()})
    view["Labels"] = dict(metadata.get("labels", {}))
    view["Annotations"] = dict(metadata.get("annotations", {}))
    view["Generation"] = metadata.get("generation", 0)
    return view


@dataclass(slots=True)
class Rendered:
    """A rendered container, and a warning for each text that was left as it was."""

    value: Any
    warnings: list[str] = field(default_factory=list)


def render_container(container: Object, own: Object, metadata: Object) -> Rendered:
    """`container` with every text rendered; texts of `own` (the service's) may fail harmlessly."""
    data = metadata_view(metadata)
    forgiven = set(_texts(own))
    warnings: list[str] = []

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, str) or "{{" not in value:
            return value
        try:
            return render(value, data)
        except TemplateError as error:
            if value not in forgiven:
                raise
            warnings.append(f"left as it is, being no template: {value!r} ({error})")
            return value

    return Rendered(walk(container), warnings)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def render(source: str, data: Mapping[str, Any]) -> str:
    """The text that the template `source` gives for `data`."""
    run = _Run({"$": data})
    try:
        run.nodes(parse(source, frozenset(_FUNCTIONS)), data)
    except _Leave as leave:
        raise TemplateError(str(leave)) from None
    return "".join(run.output)


class _Leave(Exception):
    """A `break` or `continue` on its way to the loop around it."""

    def __init__(self, keyword: str) -> None:
        super().__init__(f"{{{{{keyword}}}}} outside {{{{range}}}}")
        self.keyword = keyword


class _Run:
    def __init__(self, variables: dict[str, Any]) -> None:
        self.output: list[str] = []
        self._variables = variables

    def nodes(self, nodes: tuple[Node, ...], dot: Any) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self.output.append(node.text)
            elif isinstance(node, Pipeline):
                value = self._pipeline(node, dot)
                if not node.variables:
                    self.output.append(show(value))
            elif isinstance(node, Block):
                self._block(node, dot)
            elif isinstance(node, Jump):
                raise _Leave(node.keyword)

    def _block(self, block: Block, dot: Any) -> None:
        saved = dict(self._variables)
        try:
            if block.keyword == "range":
                self._range(block, dot)
                return
            value = self._pipeline(block.pipeline, dot)
            inner = value if block.keyword == "with" and truth(value) else dot
            self.nodes(block.body if truth(value) else block.otherwise, inner)
        finally:
            # Variables declared inside are gone; assignments to outer ones stay.
            self._variables = {name: self._variables[name] for name in saved}

    def _range(self, block: Block, dot: Any) -> None:
        plain = Pipeline(block.pipeline.commands)
        value = self._pipeline(plain, dot)
        pairs = _pairs(value)
        if not pairs:
            self.nodes(block.otherwise, dot)
        names = block.pipeline.variables
        for key, item in pairs:
            values = (key, item) if len(names) == 2 else (item,)
            self._variables.update(zip(names, values, strict=False))
            try:
                self.nodes(block.body, item)
            except _Leave as leave:
                if leave.keyword == "break":
                    return

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value: Any = None
        for i, command in enumerate(pipeline.commands):
            value = self._call(command, dot, [value] if i else [])
        for name in pipeline.variables:
            if not pipeline.declares and name not in self._variables:
                raise TemplateError(f'undefined variable "{name}"')
            self._variables[name] = value
        return value

    def _call(self, call: Call, dot: Any, piped: list[Any]) -> Any:
        if not call.function:
            if piped:
                raise TemplateError("can't give argument to non-function")
            return self._operand(call.arguments[0], dot)
        if call.function in ("and", "or"):
            return self._short_circuit(call, dot, piped)
        arguments = [self._operand(argument, dot) for argument in call.arguments] + piped
        try:
            return _FUNCTIONS[call.function](*arguments)
        except (TypeError, ValueError, IndexError) as error:
            raise TemplateError(f"error calling {call.function}: {error}") from None

    def _short_circuit(self, call: Call, dot: Any, piped: list[Any]) -> Any:
        value: Any = None
        for argument in (*call.arguments, *(Literal(p) for p in piped)):
            value = self._operand(argument, dot)
            if truth(value) == (call.function == "or"):
                return value
        return value

    def _operand(self, operand: Operand, dot: Any) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Call):
            return self._call(operand, dot, [])
        if isinstance(operand, Pipeline):
            return self._pipeline(operand, dot)
        if operand.root is None:
            value = dot
        elif isinstance(operand.root, str):
            if operand.root not in self._variables:
                raise TemplateError(f'undefined variable "{operand.root}"')
            value = self._variables[operand.root]
        else:
            value = self._pipeline(operand.root, dot)
        for name in operand.fields:
            value = _field(value, name, operand.fields)
        return value


def _field(value: Any, name: str, chain: tuple[str, ...]) -> Any:
    if isinstance(value, ObjectMetaView):
        if name in value:
            return value[name]
    elif isinstance(value, dict):
        # A Go map of texts: what is not there is the empty text.
        return value.get(name, "")
    at = "".join(f".{part}" for part in chain)
    where = f'executing "container-tmpl" at <{at}>'
    raise TemplateError(f"{where}: can't evaluate field {name} in type {_type_name(value)}")


def _type_name(value: Any) -> str:
    if isinstance(value, ObjectMetaView):
        return "v1.ObjectMeta"
    names = {str: "string", bool: "bool", int: "int", float: "float64", dict: "map[string]string"}
    return names.get(type(value), "interface {}")


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, ObjectMetaView) or not isinstance(value, (dict, list, int)):
        raise TemplateError(f"range can't iterate over {show(value)}")
    if isinstance(value, dict):
        return sorted(value.items())
    return list(enumerate(range(value) if isinstance(value, int) else value))


def truth(value: Any) -> bool:
    """Go's truth: anything but the zero value of its type."""
    return bool(value)


def show(value: Any) -> str:
    """`value` as Go's `fmt.Print` writes it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = " ".join(f"{key}:{show(item)}" for key, item in sorted(value.items()))
        return f"map[{inner}]"
    if isinstance(value, list):
        return f"[{' '.join(show(item) for item in value)}]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        elif isinstance(value, (list, str)):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = value[key]
        else:
            raise TypeError(f"can't index item of type {_type_name(value)}")
    return value


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def verb(match: re.Match[str]) -> str:
        if match["verb"] == "%":
            return "%"
        if not rest:
            return f"%!{match['verb']}(MISSING)"
        value = rest.pop(0)
        kind = match["verb"]
        if kind in "dxXoeEfFgG" and isinstance(value, (int, float)):
            return ("%" + match["flags"] + kind) % value
        text = show(value)
        if kind == "q":
            text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        elif kind not in "sv":
            return f"%!{kind}({_type_name(value)}={text})"
        return ("%" + match["flags"] + "s") % text

    text = re.sub(r"%(?P<flags>[-+# 0]*\d*(?:\.\d+)?)(?P<verb>[a-zA-Z%])", verb, form)
    extra = ", ".join(f"{_type_name(value)}={show(value)}" for value in rest)
    return f"{text}%!(EXTRA {extra})" if extra else text


def _print(*values: Any) -> str:
    # Go puts a space between operands when neither is a text.
    text, before = "", ""
    for i, value in enumerate(values):
        spaced = i and not isinstance(value, str) and not isinstance(before, str)
        text += (" " if spaced else "") + show(value)
        before = value
    return text


def _length(value: Any) -> int:
    return len(value.encode()) if isinstance(value, str) else len(value)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("missing argument for comparison")
    if any(type(other) is not type(first) for other in others):
        raise TypeError("incompatible types for comparison")
    return any(first == other for other in others)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *values: values,
    "or": lambda *values: values,
    "not": lambda value: not truth(value),
    "len": _length,
    "index": _index,
    "slice": lambda value, start=0, end=None: value[start:end],
    "print": _print,
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "printf": _printf,
    "html": lambda *values: html.escape(_print(*values)),
    "urlquery": lambda *values: quote_plus(_print(*values)),
    "eq": _equal,
    "ne": lambda a, b: not _equal(a, b),
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
