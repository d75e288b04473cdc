# SPDX-License-Identifier: Apache-2.0
"""The part of the OpenAPI document that manages a server: repository, memory, traces, log.

These paths need a key with the scope `manage`, or come from this machine; `engine::routes` has what
each of them needs. Triton reads their bodies whatever the content type says, and so does Nerite.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer", "minimum": 0}
_ANY: Schema = {"type": "object"}
_LIST: Schema = {"type": "array", "items": {"type": "object"}}
_PARAMETERS: Schema = {"type": "object", "additionalProperties": True}
_LOGGING: Schema = {
    "log_file": _TEXT,
    "log_info": {"type": "boolean"},
    "log_warning": {"type": "boolean"},
    "log_error": {"type": "boolean"},
    "log_verbose_level": _NUMBER,
    "log_format": {"enum": ["default", "ISO8601", "json"], "type": "string"},
}
_TRACES: Schema = {
    "trace_file": _TEXT,
    "trace_level": {"type": ["array", "null"], "items": {"type": "string"}},
    "trace_rate": {"type": ["string", "null"]},
    "trace_count": {"type": ["string", "null"]},
    "log_frequency": {"type": ["string", "null"]},
}
_GRAPH: Schema = {
    "nodes": {"type": "object", "additionalProperties": {"type": "object"}},
    "timeoutSecs": {"type": ["number", "null"], "exclusiveMinimum": 0},
    "stepTimeoutSecs": {"type": ["number", "null"], "exclusiveMinimum": 0},
    "propagateHeaders": {"type": "array", "items": _TEXT},
}
_STEPS = [{"serviceUrl": "/v1/models/NAME:predict"}]
_REGION: Schema = {"key": _TEXT, "offset": _NUMBER, "byte_size": _NUMBER}


def server_paths() -> Schema:
    """What manages the server as a whole."""
    memory = "/v2/systemsharedmemory"
    index = {"ready": {"type": "boolean"}}
    region = {"key": "/region", "offset": 0, "byte_size": 64}
    return {
        "/v2/models/stats": {"get": _told("Counters and times of all models", _ANY)},
        "/v2/repository/index": {
            "post": _told("All models with state and reason", _LIST, index, {"ready": True})
        },
        "/graphs": {"get": _told("The graphs that the server runs", _ANY)},
        "/graphs/NAMESPACE/NAME": {
            "put": _told(
                "Run a graph, or another one in its place; 201 if it is new",
                _ANY,
                _GRAPH,
                {"nodes": {"root": {"routerType": "Sequence", "steps": _STEPS}}},
            ),
            "delete": _told("Run a graph no more", _ANY),
        },
        "/v2/logging": {
            "get": _told("The settings of the log", _ANY),
            "post": _told("Change settings of the log", _ANY, _LOGGING, {"log_verbose_level": 0}),
        },
        "/v2/trace/setting": {
            "get": _told("The settings of traces", _ANY),
            "post": _told("Change the settings of traces", _ANY, _TRACES, {"trace_rate": "1000"}),
        },
        f"{memory}/status": {"get": _told("Regions of shared memory", _LIST)},
        f"{memory}/region/REGION/status": {"get": _told("One region", _LIST)},
        f"{memory}/region/REGION/register": {
            "post": _told("Register a region; needs --allow-client-shm=true", None, _REGION, region)
        },
        f"{memory}/region/REGION/unregister": {"post": _told("Forget a region", None)},
        f"{memory}/unregister": {"post": _told("Forget all regions", None)},
        "/v2/cudasharedmemory/status": {"get": _told("Always none: there is no GPU", _LIST)},
    }


def model_paths(name: str) -> Schema:
    """What manages one model."""
    quoted = quote(name, safe="")
    repository = f"/v2/repository/models/{quoted}"
    parameters = {"parameters": _PARAMETERS}
    example: Schema = {"parameters": {}}
    dependents = {"parameters": {"unload_dependents": False}}
    settings = f"/v2/models/{quoted}/trace/setting"
    load = "Load it, or load it again if it has changed; explicit mode"
    return {
        f"{repository}/load": {"post": _told(load, None, parameters, example)},
        f"{repository}/unload": {
            "post": _told("Unload it; explicit mode", None, parameters, dependents)
        },
        settings: {
            "get": _told("The settings of its traces", _ANY),
            "post": _told("Change the settings of its traces", _ANY, _TRACES, {"trace_rate": "1"}),
        },
    }


def _told(
    summary: str, answer: Schema | None, members: Schema | None = None, example: Any = None
) -> Schema:
    responses: Schema = {"200": {"description": "as asked"}}
    if answer is not None:
        responses["200"]["content"] = {"application/json": {"schema": answer}}
    error = {"$ref": "#/components/schemas/Error"}
    responses["default"] = {
        "description": "why not",
        "content": {"application/json": {"schema": error}},
    }
    operation: Schema = {"tags": ["management"], "summary": summary, "responses": responses}
    if members is not None:
        schema = {"type": "object", "properties": members}
        content = {"application/json": {"schema": schema, "example": example}}
        operation["requestBody"] = {"required": False, "content": content}
    return operation
