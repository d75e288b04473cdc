"""What the tests apply, and how they ask what then runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from tests.server.graphs import node

FLOWERS, KINDS = load_iris(return_X_y=True)


def isvc(name: str, format_name: str, uri: object, **more: Any) -> dict[str, Any]:
    model = {"modelFormat": {"name": format_name}, "protocolVersion": "v2", "storageUri": str(uri)}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": model, **more.pop("predictor", {})}, **more},
    }


def adding(amount: float, file: Path, given: str = "x", made: str = "y") -> Path:
    """An ONNX model that adds so much to each of two numbers; quick to load."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in (given, made)]
    nodes = [
        helper.make_node("Constant", [], ["a"], value_float=float(amount)),
        helper.make_node("Add", [given, "a"], [made]),
    ]
    graph = helper.make_graph(nodes, "adding", sides[:1], sides[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(file))
    return file


def graph(name: str, nodes: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": {"name": name},
        "spec": {"nodes": nodes},
    }


def four_nodes(flowers: str, twice: str, *shares: dict[str, Any]) -> dict[str, Any]:
    """A sequence, a switch in it, an ensemble in that, and in that a splitter among `shares`.

    `flowers` is the service for a tensor `input-0`; one named `x` goes to shares and `twice`.
    """
    return {
        "root": node("Sequence", {"nodeName": "pick"}),
        "pick": node(
            "Switch",
            {"nodeName": "both", "condition": 'inputs.#(name=="x")'},
            {"serviceName": flowers, "condition": 'inputs.#(name=="input-0")'},
        ),
        "both": node(
            "Ensemble",
            {"name": "split", "nodeName": "split"},
            {"name": "twice", "serviceName": twice},
        ),
        "split": node("Splitter", *shares),
    }


def write(path: Path, *values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump_all(values))
    return path


def infer(url: str, model: str, name: str, rows: Any) -> list[Any]:
    rows = np.asarray(rows)
    tensor = {"name": name, "shape": list(rows.shape), "datatype": "FP32", "data": rows.tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = Request(f"{url}/v2/models/{model}/infer", body)
    with urlopen(request, timeout=30) as answer:
        found: list[Any] = json.load(answer)["outputs"][0]["data"]
        return found


def url_of(value: dict[str, Any]) -> str:
    return str(value["status"]["url"])
