# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.control`: reload under load, and load and unload a large model.

Starts Nerite in explicit mode. First it reloads the identity model again and again, with a changed
configuration each time, while connections send requests as fast as they are answered; a request
that is not answered rightly is counted. Then it loads and unloads an ONNX model, and reads the
memory of the process after each unload. Status 1 if a request was lost, or if more than a tenth was
kept.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benches.load import report, repository
from benches.load.answers import LOOPBACK
from benches.load.servers import Launch, Nerite, Ports, Running, nerite_command, running

CONFIG = """backend: "identity" max_batch_size: {size}
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
dynamic_batching {{ }}
"""
BODY = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'
KEPT = 0.1
"""The share of the first cycle's memory that all later ones together may add."""


@dataclass(frozen=True, slots=True)
class Controlled(Nerite):
    """Nerite, in which nothing is loaded until it is asked for."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """An identity model and an empty place for the large one."""
        models = folder / "repository"
        (models / "small/1").mkdir(parents=True)
        (models / "small/config.pbtxt").write_text(CONFIG.format(size=4))
        words = [*nerite_command(models, ports), "--model-control-mode=explicit"]
        return Launch([*words, "--strict-readiness=false"])

    def ready_path(self) -> str:
        """There is no model to ask for."""
        return "/v2/health/ready"


def main(arguments: list[str]) -> int:
    """Run both parts, print them, and give the exit status."""
    parser = argparse.ArgumentParser(prog="benches.control", description=__doc__)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    identity = repository.Identity("small", "identity")
    server = Controlled("nerite-control", "Nerite, explicit control", identity)
    server.prepare(print)
    with tempfile.TemporaryDirectory(prefix="nerite-control-") as folder:
        place = Path(folder)
        with running(server, place, None) as live:
            reloaded = _reload(live, place / "repository/small", options)
        with running(server, place / "again", None) as live:
            kept = _cycles(live, place / "again/repository", options)
    if options.json is not None:
        report.write_json(
            options.json, report.facts("benches.control", arguments) | reloaded | kept
        )
    return int(bool(reloaded["lost"]) or kept["growth"] > KEPT)


def _reload(live: Running, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    _post(live, "load", "small")
    stop = threading.Event()
    answered, lost = [0] * options.connections, [0] * options.connections

    def send(index: int) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, live.ports.http, timeout=30)
        while not stop.is_set():
            connection.request("POST", "/v2/models/small/infer", BODY)
            reply = connection.getresponse()
            right = reply.status == 200 and json.loads(reply.read())["outputs"][0]["data"] == [1, 2]
            (answered if right else lost)[index] += 1
        connection.close()

    senders = [threading.Thread(target=send, args=(i,)) for i in range(options.connections)]
    for sender in senders:
        sender.start()
    took = []
    for turn in range(options.reloads):
        (model / "config.pbtxt").write_text(CONFIG.format(size=5 + turn))
        began = time.monotonic()
        _post(live, "load", "small")
        took.append(time.monotonic() - began)
    stop.set()
    for sender in senders:
        sender.join()
    found = {
        "reloads": options.reloads,
        "answered": sum(answered),
        "lost": sum(lost),
        "reload_ms_p50": round(statistics.median(took) * 1000, 2),
        "reload_ms_max": round(max(took) * 1000, 2),
    }
    print("reloads under load: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    return found


def _cycles(live: Running, models: Path, options: argparse.Namespace) -> dict[str, Any]:
    (models / "large/1").mkdir(parents=True)
    _write_large(models / "large/1/model.onnx", options.megabytes)
    idle, loaded, after = _resident(live.process.pid), [], []
    for _ in range(options.cycles):
        _post(live, "load", "large")
        loaded.append(_resident(live.process.pid))
        _post(live, "unload", "large")
        _wait_unloaded(live)
        after.append(_resident(live.process.pid))
    growth = after[-1] / after[0] - 1
    found = {
        "cycles": options.cycles,
        "idle_mib": idle >> 20,
        "loaded_mib": [loaded[0] >> 20, loaded[-1] >> 20],
        "unloaded_mib": [each >> 20 for each in after],
        "growth": round(growth, 4),
    }
    print("load and unload: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    return found


def _resident(pid: int) -> int:
    """Bytes in memory; not the share of them (Pss), which depends on who else runs."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _write_large(path: Path, megabytes: int) -> None:
    """y = x W, with a weight of that size."""
    rows, columns = 1024, megabytes * 256
    weight = np.random.default_rng(1).standard_normal((rows, columns), np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["X", "W"], ["Y"])],
        "large",
        [onnx.helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, ["n", rows])],
        [onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, ["n", columns])],
        [onnx.numpy_helper.from_array(weight, "W")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=opset), path)


def _post(live: Running, verb: str, model: str) -> None:
    status, body = _exchange(live, f"/v2/repository/models/{model}/{verb}")
    if status != 200:
        raise RuntimeError(f"{verb} of {model}: {status} {body!r}")


def _wait_unloaded(live: Running) -> None:
    while b'"unloaded"' not in _exchange(live, "/v2/repository/index")[1]:
        time.sleep(0.01)


def _exchange(live: Running, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, live.ports.http, timeout=120)
    try:
        connection.request("POST", path, b"")
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
