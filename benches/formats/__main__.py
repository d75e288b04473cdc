# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.formats`: CPU per request of an iris pipeline, served and called directly.

The floor is scikit-learn's own `predict` in a process without a server. Nerite is a process of its
own; its CPU time is read from /proc, so that the client's does not count. One row at a time is what
a library call per request costs; 64 connections with a row each let Nerite batch; 64 rows in one
request are one call for both. Compare ratios, within one run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benches.load import repository
from benches.load.answers import LOOPBACK
from benches.load.cpu import cpu_seconds
from benches.load.servers import Launch, Nerite, Ports, nerite_command, running

PATH = "/v2/models/iris/infer"


@dataclass(frozen=True, slots=True)
class Iris(Nerite):
    """Nerite with one skops file and no configuration."""

    estimator: Any

    @classmethod
    def of(cls, estimator: Any) -> Iris:
        """A server of this estimator."""
        return cls("nerite-iris", "Nerite, skops file", repository.NATIVE, estimator)

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """The bare file, named on the command line."""
        skops.io.dump(self.estimator, folder / "iris.skops")
        return Launch(nerite_command(folder / "iris.skops", ports))

    def ready_path(self) -> str:
        """The model's own."""
        return "/v2/models/iris/ready"


def main(arguments: list[str]) -> int:
    """Measure the three cases and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benches.formats", description=__doc__)
    parser.add_argument("--calls", type=int, default=2000, help="calls per case")
    calls = parser.parse_args(arguments).calls
    rows, classes = load_iris(return_X_y=True)
    iris = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, classes)
    rows = rows[:64].astype(np.float32)
    one = cpu_of_calls(lambda: iris.predict(rows[:1]), calls)
    many = cpu_of_calls(lambda: iris.predict(rows), calls)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Iris.of(iris), Path(folder), core=None) as server,
    ):
        pid, port = server.process.pid, server.ports.http
        table = [
            ("1 row, 1 connection", one, cpu_of_requests(pid, port, rows[:1], 1, calls)),
            ("1 row, 64 connections", one, cpu_of_requests(pid, port, rows[:1], 64, calls)),
            ("64 rows, 1 connection", many, cpu_of_requests(pid, port, rows, 1, calls)),
        ]
    print(f"{'per request':<24}{'predict us':>12}{'nerite us':>12}{'ratio':>8}")
    for name, floor, served_us in table:
        print(f"{name:<24}{floor:>12.1f}{served_us:>12.1f}{served_us / floor:>8.2f}")
    return 0


def cpu_of_calls(call: Callable[[], object], calls: int) -> float:
    """CPU microseconds of one call."""
    call()
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls * 1e6


def cpu_of_requests(
    pid: int, port: int, rows: np.ndarray[Any, Any], connections: int, calls: int
) -> float:
    """CPU microseconds of the server for one request."""
    head, body = request_of(rows)
    opened = [http.client.HTTPConnection(LOOPBACK, port) for _ in range(connections)]
    rounds = max(calls // connections, 20)

    def ask_all() -> None:
        for connection in opened:
            connection.request("POST", PATH, body, head)
        for connection in opened:
            reply = connection.getresponse()
            answer = reply.read()
            if reply.status != 200:
                raise SystemExit(f"the server answered {reply.status}: {answer!r}")

    for _ in range(20):
        ask_all()
    start = cpu_seconds(pid)
    for _ in range(rounds):
        ask_all()
    spent = cpu_seconds(pid) - start
    for connection in opened:
        connection.close()
    return spent / (rounds * connections) * 1e6


def request_of(rows: np.ndarray[Any, Any]) -> tuple[dict[str, str], bytes]:
    """A binary request for the labels of these rows."""
    tensor = {
        "name": "input-0",
        "shape": list(rows.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": rows.nbytes},
    }
    wanted = {"name": "output-0", "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    return {"Inference-Header-Content-Length": str(len(text))}, text + rows.tobytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
