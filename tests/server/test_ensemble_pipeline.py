"""The ensemble that most people have: Python prepares, a network scores, Python names."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from onnx import TensorProto, helper
from tests.server.ensembles import ensemble, grpc_inputs, python, step, write
from tritonclient.utils import InferenceServerException

from nerite.testing import serve

PREPARE = """def answer(request):
    image = get(request, 'IMAGE')
    if min(image.shape[1:3]) < 2:
        return fail("bad image", pb_utils.TritonError.INVALID_ARG)
    return out(PIXELS=np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32) / 255)
"""
NAME = """def answer(request):
    names = np.array([b'red', b'green', b'blue'], dtype=object)
    return out(NAME=names[get(request, 'SCORES').argmax(1)].reshape(-1, 1))
"""


def brightest_channel() -> bytes:
    """The mean of each colour, as a network would score classes."""
    pixels = helper.make_tensor_value_info("PIXELS", TensorProto.FLOAT, ["n", 3, "h", "w"])
    scores = helper.make_tensor_value_info("SCORES", TensorProto.FLOAT, ["n", 3])
    mean = helper.make_node("ReduceMean", ["PIXELS"], ["SCORES"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([mean], "brightest", [pixels], [scores])
    opset = [helper.make_opsetid("", 13)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=9)
    return model.SerializeToString()


def test_an_image_is_prepared_classified_and_named(tmp_path: Path) -> None:
    image = "IMAGE:UINT8[-1,-1,3]"
    models = {
        "prepare": python(image, "PIXELS:FP32[3,-1,-1]", PREPARE),
        "net": {
            "config.pbtxt": 'backend: "onnxruntime" max_batch_size: 8 dynamic_batching { }',
            "1/model.onnx": {"b64": base64.b64encode(brightest_channel()).decode()},
        },
        "name": python("SCORES:FP32[3]", "NAME:STRING[1]", NAME),
        "classify": ensemble(
            image,
            "NAME:STRING[1]",
            [
                step("prepare", "IMAGE=IMAGE", "PIXELS=pixels"),
                step("net", "PIXELS=pixels", "SCORES=scores"),
                step("name", "SCORES=scores", "NAME=NAME"),
            ],
        ),
    }
    write(tmp_path, models)
    images = np.zeros((2, 5, 4, 3), np.uint8)
    images[0, ..., 2], images[1, ..., 0] = 200, 90
    with serve(tmp_path) as server:
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            result = client.infer("classify", grpc_inputs({"IMAGE": images}))
            assert result.as_numpy("NAME").tolist() == [[b"blue"], [b"red"]]
            with pytest.raises(InferenceServerException, match="in ensemble 'classify', bad image"):
                client.infer("classify", grpc_inputs({"IMAGE": images[:, :1]}))
        with httpclient.InferenceServerClient(server.http_url.removeprefix("http://")) as web:
            one = httpclient.InferInput("IMAGE", [2, 5, 4, 3], "UINT8")
            one.set_data_from_numpy(images)
            assert web.infer("classify", [one]).as_numpy("NAME").tolist() == [[b"blue"], [b"red"]]
