# SPDX-License-Identifier: Apache-2.0
"""The bytes of one request and of its right answer, for each protocol.

All servers get the same sixteen floats, and all must give them back. The answers are made here
too, because the floor (nginx) returns them as a fixed body, so that it writes as much as a real
server does and passes the same check. Sending and checking is in `answers`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benches.load.cases import Protocol

Floats = npt.NDArray[np.float32]

INPUT = "INPUT0"
OUTPUT = "OUTPUT0"
SHAPE = [1, 16]
# Exact in FP32 and short in JSON; the bytes avoid `$`, `'` and `\`, which nginx cannot take.
VALUES: Floats = (np.arange(16, dtype=np.float32) * 0.5 - 3.25).reshape(SHAPE)

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """The headers that matter and the body of an HTTP request or response."""

    headers: dict[str, str]
    body: bytes


def http_path(model: str) -> str:
    """Where a model takes inference requests over HTTP."""
    return f"/v2/models/{model}/infer"


def http_request(protocol: Protocol, values: Floats = VALUES) -> HttpMessage:
    """The inference request in JSON, or as JSON followed by 64 bytes of tensor."""
    tensor: dict[str, Any] = {"name": INPUT, "shape": SHAPE, "datatype": "FP32"}
    if protocol is Protocol.HTTP_JSON:
        tensor["data"] = values.ravel().tolist()
        return _json_message({"inputs": [tensor]})
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    # What tritonclient sends when its caller names no outputs.
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    return _binary_message(document, values)


def http_response(protocol: Protocol, model: str) -> HttpMessage:
    """A right answer to `http_request`, in the words that Triton uses."""
    tensor: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": SHAPE}
    answer = {"model_name": model, "model_version": "1", "outputs": [tensor]}
    if protocol is Protocol.HTTP_JSON:
        tensor["data"] = VALUES.ravel().tolist()
        return _json_message(answer)
    tensor["parameters"] = {"binary_data_size": VALUES.nbytes}
    return _binary_message(answer, VALUES)


def grpc_request(model: str) -> bytes:
    """The ModelInfer request as one gRPC message frame."""
    # Imported here because it takes half a second, which `--help` need not wait for.
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest(model_name=model)
    tensor = message.inputs.add(name=INPUT, datatype="FP32")
    tensor.shape.extend(SHAPE)
    message.raw_input_contents.append(VALUES.tobytes())
    return framed(message.SerializeToString())


def grpc_response(model: str) -> bytes:
    """A right answer to `grpc_request`, as one gRPC message frame."""
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferResponse(model_name=model, model_version="1")
    tensor = message.outputs.add(name=OUTPUT, datatype="FP32")
    tensor.shape.extend(SHAPE)
    message.raw_output_contents.append(VALUES.tobytes())
    return framed(message.SerializeToString())


def framed(message: bytes) -> bytes:
    """The message behind gRPC's five bytes: not compressed, and how long it is."""
    return struct.pack(">BI", 0, len(message)) + message


def _json_message(document: dict[str, Any]) -> HttpMessage:
    return HttpMessage({"Content-Type": "application/json"}, _compact(document))


def _binary_message(document: dict[str, Any], values: Floats) -> HttpMessage:
    text = _compact(document)
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(len(text))}
    return HttpMessage(headers, text + values.tobytes())


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
