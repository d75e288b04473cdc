"""Reloads of models that stream, and of models that have another name than their files say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tests.model_folders import write_model
from tests.server.streaming import Stream
from tests.server.test_reloading import IDENTITY, ask, entries, until
from tests.server.test_repository_control import infer
from tritonclient.utils import InferenceServerException

from nerite.testing import serve

STREAMING = """backend: "python" model_transaction_policy { decoupled: true }
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
#: Answers twice with its number, from a thread that outlives `execute`; the first waits between.
STREAMING_PY = """import pathlib
import threading
import numpy as np
import triton_python_backend_utils as pb_utils
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
NUMBER = {number}
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            threading.Thread(target=self.answer, args=(sender,), daemon=True).start()
    def answer(self, sender):
        out = pb_utils.Tensor("OUT", np.array([NUMBER], np.int32))
        sender.send(pb_utils.InferenceResponse([out]))
        if NUMBER == 1:
            pathlib.Path({gate!r}).read_text()
        sender.send(pb_utils.InferenceResponse([out]), FINAL)
    def finalize(self):
        pathlib.Path({ended!r}).write_text(str(NUMBER))
"""


@pytest.mark.timeout(60)
def test_a_stream_that_began_before_a_reload_is_answered_to_its_end(tmp_path: Path) -> None:
    gate, ended = tmp_path / "gate", tmp_path / "ended"
    os.mkfifo(gate)
    paths = {"gate": str(gate), "ended": str(ended)}
    code = {n: STREAMING_PY.format(number=n, **paths) for n in (1, 2)}
    folder = write_model(tmp_path / "m/s", {"config.pbtxt": STREAMING, "1/model.py": code[1]})
    one = grpcclient.InferInput("INPUT0", [1], "INT32")
    one.set_data_from_numpy(np.array([1], np.int32))

    def told(stream: Stream) -> int:
        return int(stream.next().as_numpy("OUT").item())

    options = {"model_control_mode": "explicit", "load_models": ("s",)}
    with serve(tmp_path / "m", **options) as server, Stream(server) as old, Stream(server) as new:
        old.ask("s", [one])
        assert told(old) == 1
        (folder / "1/model.py").write_text(code[2] + "# of another size\n")
        new.client.load_model("s")
        new.ask("s", [one])
        assert [told(new), told(new)] == [2, 2]
        assert not ended.exists()
        gate.write_text("go")
        assert told(old) == 1
        until(ended.exists, "the first model ends after its last response")


def test_a_model_keeps_the_operators_name_through_reloads(tmp_path: Path) -> None:
    config = 'name: "m"\n' + IDENTITY
    folder = write_model(tmp_path / "m", {"config.pbtxt": config, "1/": None})
    options = {"model_name": "called", "model_control_mode": "explicit", "load_models": ("*",)}
    with (
        serve(folder, **options) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        for size in (4, 9):
            (folder / "config.pbtxt").write_text(config.replace("4", str(size), 1))
            client.load_model("called")
            assert client.get_model_config("called").config.max_batch_size == size
            assert infer(client, grpcclient, "called").as_numpy("OUTPUT0").tolist() == [[1, 1]]
        sides = [
            {"name": name, "data_type": "TYPE_FP32", "dims": [-1]} for name in ("INPUT0", "OUTPUT0")
        ]
        sent: dict[str, Any] = {"backend": "identity", "max_batch_size": 2}
        sent |= {"input": sides[:1], "output": sides[1:]}
        client.load_model("called", config=json.dumps(sent))
        assert client.get_model_config("called").config.max_batch_size == 2
        with pytest.raises(InferenceServerException, match="has a model 'm'"):
            client.load_model("m")
        client.unload_model("called")
        assert not client.is_model_ready("called")


@pytest.mark.timeout(60)
def test_a_named_model_is_polled_and_stays_while_its_folder_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model(tmp_path / "m", {"config.pbtxt": IDENTITY, "1/": None})
    options = {"model_name": "called", "model_control_mode": "poll", "poll_secs": 0.05}
    with (
        serve(folder, **options) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        (folder / "config.pbtxt").rename(tmp_path / "kept")
        until(lambda: "its models stay as they are" in caplog.text, "polling tells")
        assert ask(client, "called", "INPUT0") == 1
        assert entries(server)["called", 1].state.value == "READY"
        (folder / "config.pbtxt").write_text(IDENTITY.replace("4", "9", 1))
        until(
            lambda: client.get_model_config("called").config.max_batch_size == 9,
            "the model is loaded again",
        )
