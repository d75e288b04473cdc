# SPDX-License-Identifier: Apache-2.0
"""Describe what a server answers, model by model, as OpenAPI 3.1.

The data plane says which models there are for whoever asks; from that alone a document is made, so
that it can be kept for as long as the same is asked. Paths of a model carry its tensors: the names
and types that a request must have, and an example that can be sent as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from nerite.server import openapi_management as management

Schema = dict[str, Any]

_SWITCH: Final[Schema] = {"type": "boolean", "default": False}
_LETTER: Final = "[A-Za-z0-9+/]"
_BASE64_OUTPUT: Final[Schema] = {
    **_SWITCH,
    "description": 'Answer each element of BYTES outputs as {"b64": "..."}',
}
#: Bytes that need be no text, as an element of a BYTES tensor.
_BASE64: Final[Schema] = {
    "type": "object",
    "properties": {
        "b64": {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": f"^({_LETTER}{{4}})*({_LETTER}[AQgw]==|{_LETTER}{{2}}[AEIMQUYcgkosw048]=)?$",
        }
    },
    "required": ["b64"],
    "additionalProperties": False,
}

#: Documents that are kept: one for each set of models that somebody may see.
_KEPT: Final = 8
_INTEGERS: Final = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


def openapi(payload: Mapping[str, Any]) -> Any:
    """The document of a server and its models, as the data plane tells of them."""
    return _document(json.dumps(payload, sort_keys=True))


@lru_cache(_KEPT)
def _document(text: str) -> Schema:
    told = json.loads(text)
    paths = _server_paths()
    for model in told["models"]:
        paths |= _model_paths(model)
    for graph in told["graphs"]:
        paths |= _graph_paths(graph)
    paths |= management.server_paths()
    for model in told["models"]:
        paths |= management.model_paths(model["name"])
    return {
        "openapi": "3.1.0",
        "info": {"title": told["server"]["name"], "version": told["server"]["version"]},
        "paths": paths,
        "components": {
            "schemas": {"Error": _object({"error": {"type": "string"}})},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _server_paths() -> Schema:
    list_of_names = _object({"models": _array({"type": "string"})})
    return {
        "/v2/health/live": {"get": _told("server", "Whether the server lives", None)},
        "/v2/health/ready": {"get": _told("server", "Whether the server is ready", None)},
        "/v2": {"get": _told("server", "Name, version and extensions", {"type": "object"})},
        "/v2/models": {"get": _told("server", "The metadata of all models", {"type": "object"})},
        "/v1/models": {"get": _told("server", "The names of all models", list_of_names)},
    }


def _model_paths(model: Mapping[str, Any]) -> Schema:
    name, quoted = model["name"], quote(model["name"], safe="")
    v1, v2 = f"/v1/models/{quoted}", f"/v2/models/{quoted}"
    paths: Schema = {
        v2: {"get": _told(name, "Inputs and outputs", _metadata(model))},
        f"{v2}/ready": {"get": _told(name, "Whether the model is ready", None)},
        f"{v2}/config": {"get": _told(name, "The whole configuration", {"type": "object"})},
        f"{v2}/stats": {"get": _told(name, "Counters and times", {"type": "object"})},
        v1: {"get": _told(name, "Whether the model is ready (V1)", {"type": "object"})},
    }
    generated = _told(name, "Generate: members of the body are inputs", {"type": "object"})
    streamed = _told(name, "Generate, answered by server-sent events", None)
    paths[f"{v2}/generate"] = {"post": generated}
    paths[f"{v2}/generate_stream"] = {"post": streamed}
    if not model["decoupled"]:
        told = _told(name, "Infer (V2)", _response(model))
        paths[f"{v2}/infer"] = {"post": {**told, **_body(_request(model), _example(model))}}
        told = _told(name, "Predict (V1)", _object({"predictions": {}}))
        body = _body(_rows(model), _row_example(model))
        paths[f"{v1}:predict"] = {"post": {**told, **body}}
    return paths


def _graph_paths(graph: Mapping[str, Any]) -> Schema:
    tag = f"{graph['namespace']}/{graph['name']}"
    path = f"/graphs/{graph['namespace']}/{graph['name']}"
    asked = _told(tag, "Ask the graph; any path below answers too", None)
    body: Schema = {"content": {"application/json": {"schema": {}}}}
    return {
        path: {"post": {**asked, "requestBody": {"required": True, **body}}},
        f"{path}/readyz": {"get": _told(tag, "Whether the graph is there", None)},
    }


def _told(tag: str, summary: str, answer: Schema | None) -> Schema:
    """An operation without its body."""
    responses: Schema = {"200": {"description": "as asked"}}
    if answer is not None:
        responses["200"]["content"] = {"application/json": {"schema": answer}}
    error = {"$ref": "#/components/schemas/Error"}
    refused = {"description": "why not", "content": {"application/json": {"schema": error}}}
    # A probe says no without a word.
    silent = {"description": "not ready"}
    responses["400"] = silent if answer is None and tag == "server" else refused
    responses["default"] = refused
    return {"tags": [tag], "summary": summary, "responses": responses}


def _body(schema: Schema, example: Any) -> Schema:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _metadata(model: Mapping[str, Any]) -> Schema:
    tensor = _object(
        {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": _array({"type": "integer"}),
        }
    )
    return _object(
        {
            "name": {"const": model["name"]},
            "versions": _array({"type": "string"}),
            "platform": {"type": "string"},
            "inputs": _array(tensor),
            "outputs": _array(tensor),
        }
    )


def _request(model: Mapping[str, Any]) -> Schema:
    required = len(model["inputs"]) - len(model["optional"])
    inputs = {
        "type": "array",
        "items": {"anyOf": [_tensor(tensor) for tensor in model["inputs"]]},
        "minItems": required,
        "maxItems": len(model["inputs"]),
    }
    names = [tensor["name"] for tensor in model["outputs"]]
    output = _object({"name": {"enum": names}})
    output["properties"]["parameters"] = {
        "type": "object",
        "properties": {"base64_data": {**_SWITCH, "description": "BYTES as base64"}},
    }
    parameters = {
        "type": "object",
        "properties": {"base64_data_output": _BASE64_OUTPUT},
        "additionalProperties": {"type": ["string", "boolean"]},
    }
    schema = _object({"inputs": inputs})
    schema["properties"] |= {
        "id": {"type": "string"},
        "parameters": parameters,
        "outputs": {"type": "array", "items": output, "uniqueItems": True},
    }
    return schema


def _response(model: Mapping[str, Any]) -> Schema:
    schema = _object(
        {
            "model_name": {"const": model["name"]},
            "model_version": {"enum": model["versions"]},
            "outputs": _array(
                _object({"name": {"type": "string"}, "datatype": {"type": "string"}})
            ),
        }
    )
    schema["properties"]["id"] = {"type": "string"}
    return schema


def _tensor(tensor: Mapping[str, Any]) -> Schema:
    """A tensor of a request, flat or nested."""
    dims = [{"type": "integer", "minimum": 0} if d < 0 else {"const": d} for d in tensor["shape"]]
    shape = {"type": "array", "prefixItems": dims, "items": False, "minItems": len(dims)}
    data = {"type": "array", "items": _element(tensor)}
    members = {
        "name": {"const": tensor["name"]},
        "datatype": {"const": tensor["datatype"]},
        "shape": shape,
    }
    return _object({**members, "data": data})


def _rows(model: Mapping[str, Any]) -> Schema:
    """The body of a V1 request."""
    required = [t for t in model["inputs"] if t["name"] not in model["optional"]]
    tensors = {
        tensor["name"]: _value(tensor, _row_dims(model, tensor)) for tensor in model["inputs"]
    }
    row: Schema = {"type": "object", "properties": tensors, "additionalProperties": False}
    row["required"] = [tensor["name"] for tensor in required]
    rows: list[Schema] = [row]
    if len(required) == 1:
        rows.append(tensors[required[0]["name"]])
    schema = _object({"instances": {"type": "array", "minItems": 1, "items": {"anyOf": rows}}})
    schema["properties"]["base64_data_output"] = _BASE64_OUTPUT
    return schema


def _row_dims(model: Mapping[str, Any], tensor: Mapping[str, Any]) -> list[int]:
    shape: list[int] = tensor["shape"]
    return shape[1:] if model["max_batch_size"] else shape


def _value(tensor: Mapping[str, Any], dims: Sequence[int]) -> Schema:
    schema = _element(tensor)
    for dim in reversed(dims):
        schema = {"type": "array", "items": schema}
        if dim >= 0:
            schema |= {"minItems": dim, "maxItems": dim}
    return schema


def _element(tensor: Mapping[str, Any]) -> Schema:
    datatype = tensor["datatype"]
    if datatype == "BYTES":
        return {"anyOf": [{"type": "string"}, _BASE64]}
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        return {"type": "integer", "minimum": low, "maximum": high}
    return {"type": "number"}


def _example(model: Mapping[str, Any]) -> Any:
    inputs = []
    for tensor in model["inputs"]:
        if tensor["name"] in model["optional"]:
            continue
        shape = [max(dim, 1) if dim < 0 else dim for dim in tensor["shape"]]
        count = 1
        for dim in shape:
            count *= dim
        given = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
        inputs.append({**given, "data": [_sample(tensor)] * count})
    return {"inputs": inputs}


def _row_example(model: Mapping[str, Any]) -> Any:
    row = {}
    for tensor in model["inputs"]:
        if tensor["name"] not in model["optional"]:
            value = _sample(tensor)
            for dim in reversed(_row_dims(model, tensor)):
                value = [value] * (1 if dim < 0 else dim)
            row[tensor["name"]] = value
    instances: list[Any] = [next(iter(row.values())) if len(row) == 1 else row]
    return {"instances": instances}


def _sample(tensor: Mapping[str, Any]) -> Any:
    return {"BYTES": "text", "BOOL": True}.get(tensor["datatype"], 1)


def _object(members: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(members), "required": list(members)}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}
