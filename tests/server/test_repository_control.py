"""Models that clients load and unload while the server runs, over both protocols."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tests.keyed import asked
from tests.model_folders import write_model
from tritonclient.utils import InferenceServerException

from nerite.errors import InvalidArgument, Unavailable
from nerite.server.options import ServerOptions
from nerite.server.server import Server
from nerite.testing import serve

IDENTITY = """backend: "identity" max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
PYTHON = """backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
MODEL_PY = """import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(r, "X").as_numpy())]
            )
            for r in requests
        ]
"""
ONNX = json.loads((Path(__file__).parents[1] / "models/vectors/onnx_autocomplete.json").read_text())
ONNX_FILE = base64.b64decode(
    next(c for c in ONNX["cases"] if c["id"] == "ox_none")["files"]["1/model.onnx"]["b64"]
)
AS_ONNX = '{"backend": "onnxruntime"}'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path / "models/m", {"config.pbtxt": IDENTITY, "1/": None})
    write_model(tmp_path / "models/broken", {"config.pbtxt": "what: 3", "1/": None})
    return tmp_path / "models"


def clients(server: Server) -> tuple[Any, Any]:
    http = httpclient.InferenceServerClient(server.http_url.removeprefix("http://"))
    return http, grpcclient.InferenceServerClient(server.grpc_url)


def infer(client: Any, module: Any, model: str, name: str = "INPUT0") -> Any:
    tensor = module.InferInput(name, [1, 2], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 2), np.float32))
    return client.infer(model, [tensor])


def states(server: Server) -> dict[str, str]:
    return {f"{e.name}/{e.version}": e.state.value for e in server.states.index()}


def test_both_protocols_load_and_unload(repository: Path) -> None:
    with serve(repository, model_control_mode="explicit") as server:
        for client, module in zip(clients(server), (httpclient, grpcclient), strict=True):
            assert not client.is_model_ready("m")
            client.load_model("m")
            assert infer(client, module, "m").as_numpy("OUTPUT0").tolist() == [[1, 1]]
            client.unload_model("m")
            with pytest.raises(InferenceServerException, match="'m' has no available versions"):
                infer(client, module, "m")
            client.close()


def test_the_index_tells_what_could_be_loaded_and_what_failed(repository: Path) -> None:
    with serve(repository, model_control_mode="explicit", strict_readiness=False) as server:
        client, other = clients(server)
        assert client.get_model_repository_index() == [{"name": "broken"}, {"name": "m"}]
        with pytest.raises(InferenceServerException, match=r"config\.pbtxt:1:1: Message type"):
            client.load_model("broken")
        index = other.get_model_repository_index(as_json=True)["models"]
        assert index[0]["state"] == "UNAVAILABLE"
        assert "config.pbtxt:1:1" in index[0]["reason"]
        assert index[1] == {"name": "m"}
        client.close()
        other.close()


def test_an_unloaded_model_does_not_make_the_server_unready(repository: Path) -> None:
    with serve(repository, model_control_mode="explicit", load_models=("m",)) as server:
        client, other = clients(server)
        assert server.ready
        client.unload_model("m")
        assert server.states.wait_settled(5)
        while states(server)["m/1"] != "UNAVAILABLE":  # it leaves in the background
            threading.Event().wait(0.01)
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException):
            client.load_model("broken")
        assert not client.is_server_ready()
        client.close()
        other.close()


def test_an_unloaded_model_has_no_metrics_and_a_reloaded_one_begins_anew(repository: Path) -> None:
    options: dict[str, Any] = {"model_control_mode": "explicit", "strict_readiness": False}
    with serve(repository, load_models=("m",), **options) as server:
        client, other = clients(server)
        infer(client, httpclient, "m")
        series = 'nv_inference_request_success{model="m",version="1"}'
        assert f"{series} 1" in server.engine.metrics()
        client.unload_model("m")
        assert 'model="m"' not in server.engine.metrics()
        client.load_model("m")
        assert f"{series} 0" in server.engine.metrics()
        client.close()
        other.close()


def test_a_named_model_that_is_not_there_is_told_at_the_start(repository: Path) -> None:
    options = {"model_control_mode": "explicit", "load_models": ("m", "nosuch")}
    with (
        pytest.raises(Unavailable, match="model 'nosuch' is UNAVAILABLE: Not found: no model repo"),
        serve(repository, **options),
    ):
        pass


def test_a_star_loads_all(repository: Path) -> None:
    options = {"model_control_mode": "explicit", "load_models": ("*",), "wait": None}
    with serve(repository, **options) as server:
        assert server.wait_loaded(10)
        assert states(server) == {"m/1": "READY", "broken/None": "UNAVAILABLE"}


def test_a_configuration_and_files_can_come_along(repository: Path) -> None:
    with serve(repository, model_control_mode="explicit") as server:
        http, grpc = clients(server)
        smaller = json.dumps(
            {
                "backend": "identity",
                "max_batch_size": 2,
                "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
                "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
            }
        )
        http.load_model("m", config=smaller)
        assert http.get_model_config("m")["max_batch_size"] == 2
        grpc.load_model("m")
        assert http.get_model_config("m")["max_batch_size"] == 4
        for client, module in ((http, httpclient), (grpc, grpcclient)):
            files = {"file:7/model.onnx": ONNX_FILE}
            client.load_model("sent", config=AS_ONNX, files=files)
            response = http.get_model_metadata("sent")
            assert response["versions"] == ["7"]
            tensor = module.InferInput("X", [1, 4], "FP32")
            tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
            assert client.infer("sent", [tensor]).as_numpy("Y").tolist() == [[1, 1, 1, 1]]
            client.unload_model("sent")
        http.close()
        grpc.close()


@pytest.mark.parametrize(
    ("config", "files", "text"),
    [
        (
            None,
            {"file:1/model.onnx": b"x"},
            "Load parameter 'config' must be specified for model file override",
        ),
        (AS_ONNX, {"file:../model.onnx": b"x"}, "file '../model.onnx' of model 'sent' is not a"),
        (AS_ONNX, {"file:/etc/x": b"x"}, "file '/etc/x' of model 'sent' is not a path inside"),
        (AS_ONNX, {"file:1/../../x": b"x"}, "is not a path inside the model's folder"),
        (AS_ONNX, {"file:1\\x": b"x"}, "is not a path inside the model's folder"),
        (AS_ONNX, {"file:1/a": b"x", "file:1/a/b": b"x"}, "cannot be laid out"),
        (
            AS_ONNX,
            {"file:1/model.onnx": b"junk"},
            "load failed for model 'sent': version 1 is at UNAVAILABLE state: ",
        ),
        ('{"backend": "python"}', {"file:1/model.py": b"x"}, "was sent as Python code"),
        (
            '{"backend": "nerite.backends.python.backend:PythonBackend"}',
            {"file:1/model.py": b"x"},
            "names the backend 'nerite.backends.python.backend:PythonBackend'; classes are taken",
        ),
        (
            '{"model_repository_agents": {"agents": [{"name": "os:Agent"}]}}',
            {"file:1/model.onnx": b"x"},
            "names the repository agent 'os:Agent'; classes are taken from the model repository",
        ),
        (AS_ONNX, {"color": b"x"}, "unrecognized load parameter 'color'"),
    ],
)
def test_what_came_along_and_cannot_be_used_is_told(
    repository: Path, config: str | None, files: dict[str, bytes], text: str
) -> None:
    with serve(repository, model_control_mode="explicit") as server:
        _, client = clients(server)
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("sent", config=config, files=files)
        assert text in str(caught.value.message())
        client.close()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "x" * 300])
def test_a_model_from_nowhere_needs_a_name_that_can_be_a_folders(
    repository: Path, name: str
) -> None:
    with serve(repository, model_control_mode="explicit") as server:
        _, client = clients(server)
        with pytest.raises(InferenceServerException, match="invalid model name") as caught:
            client.load_model(name, config=AS_ONNX, files={"file:1/model.onnx": ONNX_FILE})
        assert "must not contain path traversal characters" in str(caught.value.message())
        client.close()


@pytest.mark.parametrize("name", ["", " "])
def test_a_model_has_a_name(repository: Path, name: str) -> None:
    with serve(repository, model_control_mode="explicit") as server:
        _, client = clients(server)
        for call in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="Model name cannot be empty"):
                call(name)
        client.close()


def test_an_unknown_parameter_over_http_is_told(repository: Path) -> None:
    with serve(repository, model_control_mode="explicit") as server:
        body = {"parameters": {"color": "red"}}
        status, text = asked(server.http_url, "POST", "/v2/repository/models/m/load", {}, body)
        assert status == 400
        assert "unexpected error on creating Triton parameter: 'color' is not known" in text


def test_python_code_may_be_sent_where_the_operator_trusts_it(repository: Path) -> None:
    with serve(repository, model_control_mode="explicit", trust=True) as server:
        _, client = clients(server)
        config = {
            "backend": "python",
            "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1, -1]}],
            "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1, -1]}],
        }
        files = {"file:1/model.py": MODEL_PY.encode()}
        client.load_model("sent", config=json.dumps(config), files=files)
        assert infer(client, grpcclient, "sent", "X").as_numpy("Y").tolist() == [[1, 1]]
        client.close()


def test_settings_and_the_index_are_answered_while_a_model_loads(repository: Path) -> None:
    gate = repository.parent / "gate"
    code = f"""import os, time
def wait():
    with open({str(gate)!r}) as fifo:
        fifo.read()
wait()
{MODEL_PY}"""
    import os

    os.mkfifo(gate)
    write_model(repository / "slow", {"config.pbtxt": PYTHON, "1/model.py": code})
    with serve(repository, model_control_mode="explicit") as server:
        http, grpc = clients(server)
        loading = threading.Thread(target=grpc.load_model, args=("slow",))
        loading.start()
        while states(server).get("slow/None") != "LOADING":
            threading.Event().wait(0.01)
        assert http.get_log_settings()["log_info"] is True
        http.load_model("m")
        index = {each["name"]: each.get("state") for each in http.get_model_repository_index()}
        assert index["m"] == "READY"
        assert index["slow"] != "READY"
        gate.write_text("go")
        loading.join(20)
        assert grpc.is_model_ready("slow")
        http.close()
        grpc.close()


def test_loads_of_models_are_refused_where_they_cannot_be_asked_for(repository: Path) -> None:
    for mode, text in (("none", "the model control mode is none"), ("poll", "polling is enabled")):
        with serve(repository, wait=None, model_control_mode=mode) as server:
            http, grpc = clients(server)
            for client in (http, grpc):
                with pytest.raises(InferenceServerException, match=text):
                    client.load_model("m")
                with pytest.raises(InferenceServerException, match=text):
                    client.unload_model("m")
                client.close()


def test_models_to_load_need_the_mode_in_which_they_count() -> None:
    with pytest.raises(InvalidArgument) as caught:
        ServerOptions(load_models=("m",))
    text = "Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
    assert str(caught.value) == text
