# SPDX-License-Identifier: Apache-2.0
"""What bad clients put on the wire, and models that cannot be loaded.

The tests hold answers against these; `benches.bad_input` sends them before it measures.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tests.http2 import DATA, http2_frame, opening
from tritonclient.grpc import service_pb2

CONFIG = """backend: "identity" max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ 2 ] }
input { name: "S" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "OX" data_type: TYPE_FP32 dims: [ 2 ] }
output { name: "OS" data_type: TYPE_STRING dims: [ 1 ] }
"""
BROKEN = CONFIG.replace("dims: [ 2 ]", "dims: [ 0 ]", 1)


def write_models(root: Path) -> None:
    """A model that serves, `two`, and three that do not load."""
    for name, text in {"two": CONFIG, "broken": BROKEN, "corrupt": "", "absent": ""}.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(text)
    (root / "corrupt/1/model.onnx").write_bytes(b"this is no protobuf")
    (root / "absent/config.pbtxt").write_text('backend: "openvino"\nmax_batch_size: 0\n')


def infer_message(model: str = "two", **header: Any) -> bytes:
    """A whole HTTP request whose body is this JSON."""
    body = json.dumps(header).encode()
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def two_inputs(rows: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """The inputs of model `two` in JSON, the first with some of its fields changed."""
    x = {"name": "X", "datatype": "FP32", "shape": [rows, 2], "data": [1.0] * 2 * rows}
    s = {"name": "S", "datatype": "BYTES", "shape": [rows, 1], "data": ["s"] * rows}
    return [x | changes, s]


#: What an honest client gets wrong.
MISTAKEN_HTTP = {
    "unknown model": infer_message("nosuch", inputs=two_inputs()),
    "model that did not load": infer_message("corrupt", inputs=two_inputs()),
    "wrong name": infer_message(inputs=two_inputs(name="Z")),
    "wrong shape": infer_message(inputs=two_inputs(shape=[2, 1])),
    "wrong type": infer_message(inputs=two_inputs(datatype="INT64")),
    "missing input": infer_message(inputs=two_inputs()[:1]),
    "surplus input": infer_message(inputs=two_inputs() + two_inputs(name="MORE")[:1]),
    "over-large batch": infer_message(inputs=two_inputs(5)),
}


#: What no honest client sends; each is answered with a 4xx.
LYING_HTTP = {
    "broken JSON": infer_message(inputs=[])[:-1] + b"}",
    "deep JSON": infer_message(inputs=json.loads("[" * 90 + "]" * 90)),
    "huge shape": infer_message(
        inputs=[{"name": "X", "datatype": "FP32", "shape": [2**31, 2**31], "data": []}]
    ),
    "lying binary size": infer_message(
        inputs=[
            {
                "name": "X",
                "datatype": "FP32",
                "shape": [1, 2],
                "parameters": {"binary_data_size": 2**40},
            }
        ]
    ),
    "lying body length": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 99999999999999\r\n\r\n",
    "lying header length": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Inference-Header-Content-Length: 4000000000\r\n\r\n{}",
    "two lengths": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Content-Length: 3\r\n\r\n{}",
    "half a body, then nothing": b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\n"
    b'Content-Length: 100\r\n\r\n{"inputs"',
}

ENDLESS_HEAD = b"POST /v2/models/two/infer HTTP/1.1\r\nHost: x\r\nX-Slow: "


def wire_tensor(model: str = "two", **changes: Any) -> bytes:
    """A ModelInferRequest with one input, which is one too few for model `two`."""
    fields: dict[str, Any] = {"name": "X", "datatype": "FP32", "shape": [1, 2]} | changes
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(**fields)
    request.raw_input_contents.append(struct.pack("<2f", 1, 2))
    return request.SerializeToString()


MISTAKEN_GRPC = {
    "unknown model": wire_tensor("nosuch"),
    "model that did not load": wire_tensor("corrupt"),
    "wrong name": wire_tensor(name="Z"),
    "wrong shape": wire_tensor(shape=[2, 1]),
    "wrong type": wire_tensor(datatype="INT64"),
    "missing input": wire_tensor(),
}

#: The code of the status that each is answered with stands beside it.
LYING_GRPC = {
    "broken protobuf": (b"\xff\xff\xff", "INTERNAL"),
    "a length past the end": (b"\x0a\xff\xff\xff\xff\x07two", "INTERNAL"),
    "huge shape": (wire_tensor(shape=[2**62, 2**62]), "INVALID_ARGUMENT"),
    "negative shape": (wire_tensor(shape=[-5, 2]), "INVALID_ARGUMENT"),
    "a message over the limit": (b"\x0a\x04two " * 2000, "RESOURCE_EXHAUSTED"),
}


#: A connection whose one call announces a message and sends half of it.
HALF_A_CALL = opening("/inference.GRPCInferenceService/ModelInfer") + http2_frame(
    DATA, 0, 1, b"\0\0\0\1\0" + b"half of it"
)
