# SPDX-License-Identifier: Apache-2.0
"""Say no twice: in KServe's words, and so that the user can mend it.

KServe and the API server refuse in four voices, in this order: the decoder (400), Go's JSON reader
inside the mutating webhook (400), the schema (422), the validating webhook (403). `refusal_of`
turns what the models found into the first voice that would speak. `Refused.text` is literal, its
`problems` name file, line, path, the value found and the nearest known field.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from types import UnionType
from typing import Any, get_args, get_origin

from nerite.errors import ConfigError, ConfigProblem
from nerite.kserve.documents import Document, KeyPath, dotted
from nerite.kserve.pods import POD_FIELDS
from nerite.kserve.quantities import REFUSED as BAD_QUANTITY
from nerite.kserve.resources import GROUP, Kind, Resource
from nerite.kserve.schema import BaseModel, GoType, Schema

Complaint = tuple[type[Schema], Any]


class Refused(ConfigError):
    """A cluster would refuse this object; `status` and `text` are its answer, word for word."""

    def __init__(self, status: int, text: str, *problems: ConfigProblem) -> None:
        super().__init__(*(problems or (ConfigProblem(text),)))
        self.status = status
        self.text = text


class Invalid(Exception):
    """A rule is broken: its text, and where in the object (the caller adds the webhook's name)."""

    def __init__(self, text: str, path: KeyPath = ("metadata", "name"), fix: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.path = path
        self.fix = fix


def denied(resource: Resource, invalid: Invalid) -> Refused:
    """The refusal of the validating webhook (403)."""
    webhook = f"{resource.kind.lower()}.kserve-webhook-server.validator"
    text = f'admission webhook "{webhook}" denied the request: {invalid.text}'
    problem = resource.document.problem(invalid.path, invalid.text, fix=invalid.fix)
    return Refused(403, text, problem)


def invalid_value(kind: str, name: str, details: Sequence[str]) -> str:
    """The API server's sentence for objects its schema refuses (422)."""
    joined = details[0] if len(details) == 1 else f"[{', '.join(details)}]"
    return f'{kind}.{GROUP} "{name}" is invalid: {joined}'


def refusal_of(document: Document, kind: Kind, found: list[Complaint]) -> Refused:
    """The answer of a cluster to an object of which the models complained."""
    problems = [_problem(document, model, error) for model, error in found]
    name = str((document.value.get("metadata") or {}).get("name", ""))
    unknown = [e for _, e in found if e["type"] == "extra_forbidden"]
    decoder = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
    if unknown:
        fields = ", ".join(f'unknown field "{dotted(e["loc"])}"' for e in unknown)
        return Refused(400, f"{decoder}strict decoding error: {fields}", *problems)
    for model, error in found:
        if error["type"].endswith("_type") and error["loc"][0] == "metadata":
            return Refused(400, decoder + _go_mismatch(model, error), *problems)
    if kind.name == "InferenceService":
        for model, error in found:
            words = _go_words(model, error)
            if words:
                webhook = "inferenceservice.kserve-webhook-server.defaulter"
                text = f'admission webhook "{webhook}" denied the request: {words}'
                return Refused(400, text, *problems)
    details = [_schema_words(error) for _, error in found]
    return Refused(422, invalid_value(kind.name, name, details), *problems)


def _problem(document: Document, model: type[Schema], error: Any) -> ConfigProblem:
    path: KeyPath = error["loc"]
    if error["type"] == "extra_forbidden":
        return document.problem(path, f'unknown field "{path[-1]}"', fix=_nearest(model, path))
    if error["type"] == "missing":
        return document.problem(path, f'the field "{path[-1]}" is required')
    words = error["msg"].removeprefix("Value error, ")
    return document.problem(path, words[:1].lower() + words[1:], json.dumps(error["input"]))


def _nearest(model: type[Schema], path: KeyPath) -> str:
    """The known field most like the last of `path`, or where a field of that name may stand."""
    holder = model_at(model, path[:-1])
    name = str(path[-1])
    if holder is None:
        return ""
    known = [str(field.alias) for field in holder.model_fields.values()]
    by_case = [k for k in known if k.lower() == name.lower()]
    close = by_case or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    for field in holder.model_fields.values():
        inner = _model_of(field.annotation)
        if inner and name in {str(f.alias) for f in inner.model_fields.values()}:
            return f'"{name}" belongs under "{field.alias}"'
    own = [k for k in known if k not in POD_FIELDS] or known
    return "known here: " + ", ".join(sorted(own))


def model_at(model: type[BaseModel] | None, path: KeyPath) -> type[BaseModel] | None:
    """The model that `path` leads to from `model`; None where it leaves the models."""
    for part in path:
        if model is None:
            return None
        if isinstance(part, int):
            continue
        by_alias = {field.alias: field for field in model.model_fields.values()}
        if part in by_alias:
            model = _model_of(by_alias[part].annotation)
        # Otherwise `part` is a key of a mapping whose values are of this model (graph nodes).
    return model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        found = _model_of(part)
        if found:
            return found
    return None


def _go_words(model: type[Schema], error: Any) -> str:
    if error["type"].endswith("_type") or error["type"] == "int_from_float":
        return _go_mismatch(model, error)
    return BAD_QUANTITY if BAD_QUANTITY in error["msg"] else ""


def _go_mismatch(model: type[Schema], error: Any) -> str:
    """Go's sentence: which JSON type met which Go type, at which struct field."""
    struct, names, go_type = "", [], ""
    current: type[BaseModel] | None = model
    for part in error["loc"]:
        if isinstance(part, int) or current is None:
            continue
        fields = {field.alias: (name, field) for name, field in current.model_fields.items()}
        if part not in fields:
            continue
        name, field = fields[part]
        struct = getattr(current, "go_struct", "") or struct
        via = getattr(current, "via", {}).get(name)
        names += [via, part] if via else [part]
        go_type = _go_type([field.annotation, *field.metadata], error["type"])
        current = _model_of(field.annotation)
    path = ".".join(names[1:]) if struct == "ObjectMeta" else ".".join(names)
    got = _json_type(error["input"], go_type)
    return f"json: cannot unmarshal {got} into Go struct field {struct}.{path} of type {go_type}"


def _go_type(annotations: list[Any], mismatch: str) -> str:
    wanted = {"list_type": "list", "dict_type": "dict", "model_type": "model"}.get(mismatch)
    for annotation in annotations:
        found = _first_go_type(annotation)
        if found:
            return f"[]{found}" if wanted == "list" else found
    return {"list": "[]object", "dict": "map[string]string"}.get(wanted or "", "object")


def _first_go_type(annotation: Any) -> str:
    if isinstance(annotation, GoType):
        return str(annotation)
    if get_origin(annotation) is None and not isinstance(annotation, UnionType):
        return ""
    for part in reversed((*get_args(annotation), *getattr(annotation, "__metadata__", ()))):
        found = _first_go_type(part)
        if found:
            return found
    return ""


def _json_type(value: Any, wanted: str) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return f"number {value}" if wanted.startswith("int") else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _schema_words(error: Any) -> str:
    path, value, kind = dotted(error["loc"]), error["input"], error["type"]
    context = error.get("ctx", {})
    shown = json.dumps(value)
    if kind == "missing":
        return f"{path}: Required value"
    if kind == "literal_error":
        choices = context["expected"].replace("' or '", "', '").replace("'", '"')
        return f"{path}: Unsupported value: {shown}: supported values: {choices}"
    if kind in ("greater_than_equal", "less_than_equal"):
        than, bound = ("greater", "ge") if kind.startswith("greater") else ("less", "le")
        rule = f"should be {than} than or equal to {context[bound]}"
        return f"{path}: Invalid value: {shown}: {path} in body {rule}"
    if kind == "string_pattern_mismatch":
        return f"{path}: Invalid value: {shown}: {path} in body should match '{context['pattern']}'"
    if kind == "string_too_short":
        least = context["min_length"]
        return (
            f"{path}: Invalid value: {shown}: {path} in body should be at least {least} chars long"
        )
    if kind.endswith("_type"):
        got = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
        name = json.dumps(got.get(type(value), "string"))
        want = _OPENAPI.get(kind, "object")
        return f"{path}: Invalid value: {name}: {path} in body must be of type {want}: {name}"
    return f"{path}: Invalid value: {shown}: {error['msg'].removeprefix('Value error, ')}"


_OPENAPI = {
    "list_type": "array",
    "string_type": "string",
    "int_type": "integer",
    "bool_type": "boolean",
    "dict_type": "object",
    "model_type": "object",
}
