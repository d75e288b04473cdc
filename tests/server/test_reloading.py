"""Models that are reloaded, unloaded and polled while requests come: nothing is lost."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tests.model_folders import write_model
from tritonclient.utils import InferenceServerException

from nerite.models.states import Entry
from nerite.server.server import Server
from nerite.testing import serve

IDENTITY = """backend: "identity" max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
PYTHON = """backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
"""
#: Answers with a number of its own; `gate` and `ended` are paths, the first a pipe.
MODEL_PY = """import pathlib
import numpy as np
import triton_python_backend_utils as pb_utils
NUMBER = {number}
class TritonPythonModel:
    def execute(self, requests):
        if {gate!r}:
            pathlib.Path({gate!r} + ".reached").touch()
            pathlib.Path({gate!r}).read_text()
        y = np.full((1, 1), NUMBER, np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", y)]) for _ in requests]
    def finalize(self):
        if {ended!r}:
            pathlib.Path({ended!r}).write_text(f"{{NUMBER}}\\n")
"""


def model_py(number: int, gate: Path | str = "", ended: Path | str = "") -> str:
    return MODEL_PY.format(number=number, gate=str(gate), ended=str(ended))


def until(holds: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        threading.Event().wait(0.005)


def ask(client: Any, model: str, name: str) -> float:
    tensor = grpcclient.InferInput(name, [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    answer = client.infer(model, [tensor])
    return float(answer.as_numpy("Y" if name == "X" else "OUTPUT0")[0, 0])


def entries(server: Server) -> dict[tuple[str, int | None], Entry]:
    return {(entry.name, entry.version): entry for entry in server.states.index()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models/m", {"config.pbtxt": IDENTITY, "1/": None})


@pytest.mark.timeout(60)
def test_no_request_is_lost_while_a_model_is_reloaded_again_and_again(folder: Path) -> None:
    with serve(folder.parent, model_control_mode="explicit", load_models=("m",)) as server:
        stop, failures, answered = threading.Event(), [], [0] * 4

        def send(index: int) -> None:
            with grpcclient.InferenceServerClient(server.grpc_url) as client:
                while not stop.is_set():
                    try:
                        ask(client, "m", "INPUT0")
                        answered[index] += 1
                    except InferenceServerException as why:
                        failures.append(str(why))

        senders = [threading.Thread(target=send, args=(index,)) for index in range(len(answered))]
        for sender in senders:
            sender.start()
        with grpcclient.InferenceServerClient(server.grpc_url) as control:
            for turn in range(40):
                # Every second one changes nothing but the time of the file.
                size = 4 + turn // 2
                (folder / "config.pbtxt").write_text(IDENTITY.replace("4", str(size), 1))
                os.utime(folder / "config.pbtxt", ns=(turn, turn))
                more = functools.partial(lambda before: sum(answered) > before, sum(answered))
                control.load_model("m")
                assert control.get_model_config("m").config.max_batch_size == size
                until(more, "requests between reloads")
        stop.set()
        for sender in senders:
            sender.join()
        assert not failures, failures[:3]
        until(lambda: not leaving(), "all predecessors have left")


def test_a_request_whose_body_comes_slowly_is_answered_by_the_model_it_found(folder: Path) -> None:
    body = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,1],"data":[5]}]}'
    head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        serve(folder.parent, model_control_mode="explicit", load_models=("m",)) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
        socket.create_connection(server.ports["http"]) as connection,
    ):
        # The first request shows that the connection is served; the second stops in its body.
        connection.sendall(head.encode() + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(head.encode() + body[:20])
        (folder / "config.pbtxt").write_text(IDENTITY.replace("4", "8", 1))
        client.load_model("m")
        client.unload_model("m")
        connection.sendall(body[20:])
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        until(lambda: entries(server)["m", 1].reason == "unloaded", "the model has ended")


def leaving() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("nerite-unload-")]


def test_a_reload_that_fails_leaves_the_old_one_serving_and_tells_why(folder: Path) -> None:
    with (
        serve(folder.parent, model_control_mode="explicit", load_models=("m",)) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        (folder / "config.pbtxt").write_text("what: 3")
        with pytest.raises(InferenceServerException, match=r"config\.pbtxt:1:1"):
            client.load_model("m")
        entry = entries(server)["m", 1]
        assert entry.state == "READY"
        assert entry.reason.startswith("reload failed: Invalid argument: failed to read text")
        assert client.is_server_ready()
        assert ask(client, "m", "INPUT0") == 1
        (folder / "config.pbtxt").write_text(IDENTITY)
        client.load_model("m")
        assert entries(server)["m", 1] == Entry("m", 1, entry.state)


def test_what_has_not_changed_is_not_loaded_again(folder: Path, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    write_model(
        folder.parent / "p", {"config.pbtxt": PYTHON, "1/model.py": model_py(1, ended=ended)}
    )
    with (
        serve(folder.parent, model_control_mode="explicit", load_models=("p",)) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        client.load_model("p")
        assert not ended.exists()
        (folder.parent / "p/1/model.py").write_text(model_py(2, ended=ended))
        client.load_model("p")
        assert ask(client, "p", "X") == 2
        until(lambda: ended.exists() and ended.read_text() == "1\n", "finalize of the first")


def test_unloading_waits_for_what_was_accepted_and_forgets_the_module(
    folder: Path, tmp_path: Path
) -> None:
    gate, ended = tmp_path / "gate", tmp_path / "ended"
    os.mkfifo(gate)
    code = model_py(7, gate, ended)
    write_model(folder.parent / "p", {"config.pbtxt": PYTHON, "1/model.py": code})
    with serve(folder.parent, model_control_mode="explicit", load_models=("p",)) as server:
        got: list[float] = []
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            asking = threading.Thread(target=lambda: got.append(ask(client, "p", "X")))
            asking.start()
            until(Path(f"{gate}.reached").exists, "the request is being executed")
            client.unload_model("p")
            assert entries(server)["p", 1].state == "UNLOADING"
            with pytest.raises(InferenceServerException, match="'p' has no available versions"):
                ask(client, "p", "X")
            assert any(name.startswith("nerite_models.p_1_") for name in sys.modules)
            assert not ended.exists()
            gate.write_text("go")
            asking.join(20)
            assert got == [7]
            until(lambda: entries(server)["p", 1].reason == "unloaded", "the model has ended")
            assert ended.read_text() == "7\n"
            assert not any(name.startswith("nerite_models.p_1_") for name in sys.modules)


def test_polling_follows_what_changes_on_disk(folder: Path) -> None:
    repository = folder.parent
    with (
        serve(repository, model_control_mode="poll", poll_secs=0.05) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        assert ask(client, "m", "INPUT0") == 1
        write_model(repository / "p", {"config.pbtxt": PYTHON, "1/model.py": model_py(1)})
        until(lambda: client.is_model_ready("p"), "the new model serves")
        (repository / "p/1/model.py").write_text(model_py(22))
        until(lambda: ask(client, "p", "X") == 22, "the changed model serves")
        before = (repository / "p/1/model.py").stat().st_mtime_ns
        (repository / "p/1/model.py").write_text(model_py(3))
        os.utime(repository / "p/1/model.py", ns=(before - 10**12, before - 10**12))
        until(lambda: ask(client, "p", "X") == 3, "an older file counts too")
        shutil.rmtree(repository / "p")
        until(lambda: {e.name for e in server.states.index()} == {"m"}, "it is forgotten")
        with pytest.raises(InferenceServerException, match="'p' is not found"):
            ask(client, "p", "X")


def test_polling_does_not_load_what_is_still_being_copied(folder: Path) -> None:
    repository = folder.parent
    with serve(repository, model_control_mode="poll", poll_secs=3600) as server:
        polling = server._polling
        assert polling is not None
        write_model(repository / "p", {"config.pbtxt": PYTHON, "1/model.py": "no = ("})
        polling.look()
        (repository / "p/1/model.py").write_text(model_py(1))
        polling.look()
        assert "p" not in {entry.name for entry in server.states.index()}
        polling.look()
        until(lambda: ("p", 1) in entries(server), "the load has begun")
        until(lambda: entries(server)["p", 1].state == "READY", "the whole model was loaded")
        aside = repository.parent / "aside"
        (repository / "p").rename(aside)
        polling.look()
        aside.rename(repository / "p")
        polling.look()
        polling.look()
        assert entries(server)["p", 1].state == "READY"


def test_a_repository_that_cannot_be_read_keeps_its_models(folder: Path) -> None:
    repository = folder.parent
    with serve(repository, model_control_mode="poll", poll_secs=3600) as server:
        assert server._polling is not None
        repository.rename(repository.with_name("away"))
        for _ in range(3):
            server._polling.look()
        assert entries(server)["m", 1].state == "READY"
