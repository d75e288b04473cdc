"""Model folders for tests of ensembles, and the ways in which these ask them.

Python models run in this process, so a test and its models share `SHARED`.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tests.model_folders import write_model

from nerite import Server

SHARED: dict[str, Any] = {}

PREAMBLE = """import numpy as np
import triton_python_backend_utils as pb_utils
from tests.server.ensembles import SHARED

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

def get(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()

def out(**arrays):
    return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in arrays.items()])

def fail(text, code=pb_utils.TritonError.INTERNAL):
    return pb_utils.InferenceResponse([], pb_utils.TritonError(text, code))

"""
PLAIN = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]
"""
DECOUPLED = """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for response in answers(request):
                sender.send(response)
            sender.send(flags=FINAL)
"""


def tensors(kind: str, names: str) -> str:
    """`X` is a float of any length, `X:INT32[2]` says otherwise, `X?` may be left out."""
    text = ""
    for word in names.split():
        name, _, rest = word.partition(":")
        datatype, _, dims = rest.partition("[")
        optional = " optional: true" if name.endswith("?") else ""
        text += (
            f'{kind} {{ name: "{name.rstrip("?")}" data_type: TYPE_{datatype or "FP32"} '
            f"dims: [ {dims.rstrip(']') or '-1'} ]{optional} }}\n"
        )
    return text


def config(inputs: str, outputs: str, batch: int = 8, more: str = "") -> str:
    return (
        f"max_batch_size: {batch}\n{tensors('input', inputs)}{tensors('output', outputs)}{more}\n"
    )


def python(inputs: str, outputs: str, code: str, batch: int = 8, more: str = "") -> dict[str, Any]:
    """A model whose `answer(request)`, or `answers(request)`, is written out."""
    decoupled = "def answers(" in code
    if decoupled:
        more += " model_transaction_policy { decoupled: true }"
    text = 'backend: "python"\n' + config(inputs, outputs, batch, more)
    main = DECOUPLED if decoupled else PLAIN
    return {"config.pbtxt": text, "1/model.py": PREAMBLE + code + main}


def identity(
    inputs: str = "INPUT0", outputs: str = "OUTPUT0", batch: int = 8, more: str = ""
) -> Any:
    return {
        "config.pbtxt": 'backend: "identity"\n' + config(inputs, outputs, batch, more),
        "1/": None,
    }


def step(model: str, reads: str, writes: str, version: int = -1) -> str:
    """`A=x` ties the model's A to the ensemble's x."""

    def ties(kind: str, words: str) -> str:
        pairs = (word.split("=") for word in words.split())
        return " ".join(f'{kind} {{ key: "{k}" value: "{v}" }}' for k, v in pairs)

    return (
        f'step {{ model_name: "{model}" model_version: {version} '
        f"{ties('input_map', reads)} {ties('output_map', writes)} }}"
    )


def ensemble(
    inputs: str, outputs: str, steps: Sequence[str], batch: int = 8, more: str = "", cap: int = 0
) -> dict[str, Any]:
    limit = f"max_inflight_requests: {cap}" if cap else ""
    scheduling = f"ensemble_scheduling {{ {' '.join(steps)} {limit} }}\n{more}"
    text = 'platform: "ensemble"\n' + config(inputs, outputs, batch, scheduling)
    return {"config.pbtxt": text, "1/": None}


def write(root: Path, models: Mapping[str, Mapping[str, Any]]) -> Path:
    for name, files in models.items():
        write_model(root / name, files)
    return root


def asked(
    server: Server, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.http_url + path, data, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as why:
        status, text = why.code, why.read()
    return status, json.loads(text) if text else None


def infer(server: Server, model: str, inputs: Mapping[str, Any], **members: Any) -> tuple[int, Any]:
    """An inference over HTTP; of a good answer its outputs as nested lists."""
    body = {"inputs": [of_array(name, array) for name, array in inputs.items()], **members}
    status, told = asked(server, f"/v2/models/{model}/infer", body)
    if status != 200:
        return status, told["error"]
    made = {o["name"]: np.array(o["data"]).reshape(o["shape"]).tolist() for o in told["outputs"]}
    return status, made


def of_array(name: str, value: Any) -> dict[str, Any]:
    array = np.asarray(value)
    if array.dtype.kind in "OU":
        datatype = "BYTES"
    else:
        datatype = {"f": "FP", "i": "INT", "u": "UINT"}[array.dtype.kind] + str(array.itemsize * 8)
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype,
        "data": array.ravel().tolist(),
    }


def floats(*values: float, rows: int = 1) -> Any:
    return np.array(values, np.float32).reshape(rows, -1)


def grpc_inputs(inputs: Mapping[str, Any]) -> list[Any]:
    made = []
    for name, value in inputs.items():
        datatype = of_array(name, value)["datatype"]
        made.append(grpcclient.InferInput(name, list(value.shape), datatype))
        made[-1].set_data_from_numpy(value)
    return made


def statistics(server: Server, model: str) -> dict[str, Any]:
    _, told = asked(server, f"/v2/models/{model}/stats")
    (stats,) = told["model_stats"]
    return dict(stats)


def index(server: Server) -> dict[str, tuple[str, str]]:
    """Model -> state and reason."""
    _, told = asked(server, "/v2/repository/index", {})
    return {entry["name"]: (entry.get("state", ""), entry.get("reason", "")) for entry in told}
