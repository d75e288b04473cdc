"""Models that steps of graphs ask, and how tests put and ask graphs."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nerite.server.server import Server

#: One input and one output of rows of FP32.
SIGNATURE = """max_batch_size: 8
input [ {{ name: "{0}" data_type: TYPE_FP32 dims: [-1] }} ]
output [ {{ name: "{1}" data_type: TYPE_FP32 dims: [-1] }} ]
"""
CODE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "{0}").as_numpy()
            if (x < 0).any():
                why = pb_utils.TritonError("it is below zero", pb_utils.TritonError.UNAVAILABLE)
                answers.append(pb_utils.InferenceResponse(error=why))
                continue
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("{1}", {2})]))
        return answers
"""
DECOUPLED = 'backend: "identity"\nmodel_transaction_policy { decoupled: true }\n'


def write_identity(root: Path, name: str, given: str = "A", made: str = "B") -> None:
    (root / name / "1").mkdir(parents=True)
    config = 'backend: "identity"\n' + SIGNATURE.format(given, made)
    (root / name / "config.pbtxt").write_text(config)


def write_python(root: Path, name: str, expression: str, given: str = "A", made: str = "B") -> None:
    """A model whose output is an expression of `x`; numbers below zero are UNAVAILABLE."""
    (root / name / "1").mkdir(parents=True)
    config = 'backend: "python"\n' + SIGNATURE.format(given, made)
    (root / name / "config.pbtxt").write_text(config)
    (root / name / "1/model.py").write_text(CODE.format(given, made, expression))


def predict(model: str) -> str:
    return f"/v1/models/{model}:predict"


def infer(model: str) -> str:
    return f"/v2/models/{model}/infer"


def step(path: str, **more: Any) -> dict[str, Any]:
    return {"serviceUrl": path, **more}


def node(kind: str, *steps: Mapping[str, Any]) -> dict[str, Any]:
    return {"routerType": kind, "steps": list(steps)}


def sequence(*steps: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"nodes": {"root": node("Sequence", *steps)}, **more}


def exchange(
    server: Server, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One HTTP exchange; the names of headers have `_` for `-`."""
    connection = http.client.HTTPConnection(server.http_url.split("/")[2], timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, named)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, answer.read()
    finally:
        connection.close()


def put(server: Server, path: str, graph: Any) -> tuple[int, Any]:
    status, _, body = exchange(server, "PUT", f"/graphs/{path}", json.dumps(graph).encode())
    return status, json.loads(body)


def ask(server: Server, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a graph's answer."""
    status, _, answer = exchange(
        server, "POST", f"/graphs/{path}", json.dumps(body).encode(), **headers
    )
    return status, json.loads(answer)


def rows(*values: float) -> dict[str, Any]:
    return {"instances": [[value] for value in values]}
