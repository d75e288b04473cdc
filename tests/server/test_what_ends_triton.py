# SPDX-License-Identifier: Apache-2.0
"""What ends or hangs Triton 2.51, sent to one live server: a clear error, and the next is answered.

The list is that of Triton's own behaviour as it was recorded; the vectors are in
`tests/wire/vectors` (`ends_server`) and `tests/config/vectors/fatal.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.conformance.vectors import cases
from tritonclient.utils import InferenceServerException

from nerite.server.server import Server
from nerite.testing import serve

ECHO = """backend: "identity"
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
TEXTS = ECHO.replace("TYPE_FP32", "TYPE_STRING")
PYTHON = ECHO.replace("identity", "python")
WARM = """model_warmup [ { name: "s" batch_size: 1
  inputs { key: "X" value { data_type: TYPE_FP32 dims: [ 1 ] zero_data: true } } } ]
"""
CONTROL = """max_batch_size: 4
sequence_batching { control_input [ { name: "START"
  control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] } ] }
model_warmup [ { name: "s" batch_size: 1
  inputs { key: "X" value { data_type: TYPE_FP32 dims: [ 1 ] zero_data: true } }
  inputs { key: "START" value { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true } } } ]
"""
RAISES = """class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("no warm-up")
"""
FORGETS = """class TritonPythonModel:
    def execute(self, requests):
        return None
"""
#: Folders of the repository: configuration, and what lies beside it.
MODELS: dict[str, tuple[str, dict[str, str]]] = {
    "echo": (ECHO, {"1/": ""}),
    "texts": (TEXTS, {"1/": ""}),
    "version_beyond_63_bits": (ECHO, {"9223372036854775808/": ""}),
    "agents_without_agents": (ECHO + "model_repository_agents {}\n", {"1/": ""}),
    "configuration_is_a_folder": ("", {"1/": "", "config.pbtxt/": ""}),
    "warm_up_of_a_control_input": (ECHO + CONTROL, {"1/": ""}),
    "warm_up_that_fails": (PYTHON + WARM, {"1/model.py": RAISES}),
    "no_model_py": (PYTHON, {"1/": ""}),
    "forgets": (PYTHON, {"1/model.py": FORGETS}),
}
#: Why each of those that cannot serve is unavailable.
REASONS = {
    "version_beyond_63_bits": "at least one version must be available under the version policy",
    "agents_without_agents": "must specify at least one agent",
    "configuration_is_a_folder": "failed to open text file for read",
    "no_model_py": "model.py",
}


def write(root: Path) -> None:
    for name, (config, files) in MODELS.items():
        for path, text in files.items():
            target = root / name / path
            if path.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        if config:
            (root / name / "config.pbtxt").write_text(config)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("ends-triton")
    write(root)
    with serve(root, wait=None) as running:
        # Loading ends for every one of them: a model without model.py hangs Triton here.
        assert running.wait_loaded(30)
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    module = tritonclient.http if request.param == "http" else tritonclient.grpc
    url = server.http_url.removeprefix("http://") if request.param == "http" else server.grpc_url
    with module.InferenceServerClient(url) as client:
        client.module = module
        yield client
        lives(client)


def lives(client: Any) -> None:
    array = np.array([1.5, 2.5], np.float32)
    assert infer(client, "echo", array).as_numpy("Y").tolist() == [1.5, 2.5]


def infer(client: Any, model: str, array: np.ndarray, classes: int = 0) -> Any:
    kind = "BYTES" if array.dtype == object else "FP32"
    tensor = client.module.InferInput("X", list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    wanted = client.module.InferRequestedOutput("Y", class_count=classes)
    return client.infer(model, [tensor], outputs=[wanted])


def test_classes_of_strings(client: Any) -> None:
    with pytest.raises(InferenceServerException) as told:
        infer(client, "texts", np.array([b"a", b"b"], object), classes=1)
    assert "class result not available for output due to unsupported type 'BYTES'" in str(
        told.value
    )


def test_classes_of_nothing(client: Any) -> None:
    with pytest.raises(InferenceServerException) as told:
        infer(client, "echo", np.zeros([0], np.float32), classes=1)
    assert "class result not available for output 'Y' of model 'echo'" in str(told.value)


def test_a_shape_of_more_bytes_than_there_are(server: Server, client: Any) -> None:
    shape = [2**63 - 1]
    if client.module is tritonclient.http:
        tensor = {"name": "X", "datatype": "FP32", "shape": shape, "data": [1.0]}
        body = json.dumps({"inputs": [tensor]}).encode()
        with pytest.raises(HTTPError) as answer:
            urlopen(Request(f"{server.http_url}/v2/models/echo/infer", body), timeout=10)
        assert answer.value.code == 400
        text = json.load(answer.value)["error"]
    else:
        tensor = client.module.InferInput("X", shape, "FP32")
        tensor._raw_content = b"\0\0\0\0"
        with pytest.raises(InferenceServerException) as told:
            client.infer("echo", [tensor])
        assert told.value.status() == "StatusCode.INVALID_ARGUMENT"
        text = str(told.value)
    assert "byte size overflow for input 'X' for model 'echo'" in text


def test_an_execute_that_returns_nothing_is_answered(client: Any) -> None:
    """Triton keeps the request for ever."""
    with pytest.raises(InferenceServerException) as told:
        infer(client, "forgets", np.zeros([1], np.float32))
    assert "Expected a list in the execute return, found type '<class 'NoneType'>'" in str(
        told.value
    )


@pytest.mark.parametrize("model", REASONS)
def test_a_folder_that_ends_the_start_is_unavailable_with_its_reason(
    server: Server, model: str, client: Any
) -> None:
    entry = next(entry for entry in server.states.index() if entry.name == model)
    assert str(entry.state) == "UNAVAILABLE"
    assert REASONS[model] in entry.reason
    with pytest.raises(InferenceServerException, match="Request for unknown model"):
        infer(client, model, np.zeros([1], np.float32))


@pytest.mark.parametrize("model", ["warm_up_of_a_control_input", "warm_up_that_fails"])
def test_a_warm_up_ends_no_server(server: Server, model: str, client: Any) -> None:
    entry = next(entry for entry in server.states.index() if entry.name == model)
    assert str(entry.state) == "READY" or entry.reason


def test_every_recorded_exchange_that_ends_triton_is_sent_here() -> None:
    """The cases marked so are played by the conformance tests, against a server that goes on."""
    marked = {case.id for case in cases() if case.ends_server}
    assert marked == {"cl_zero", "ie_shape_huge"}
