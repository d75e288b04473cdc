# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.graphs`: CPU per request of a graph in its server, and of one in a gateway.

A sequence of three steps asks the identity model by V1, each the answer of the one before. It runs
in the server of the model, in a gateway that asks the server over kept connections, and in the
server with the gateway in front. CPU time of both processes is read from /proc.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.load import payload, repository, wrk
from benches.load.answers import LOOPBACK
from benches.load.cpu import cpu_seconds
from benches.load.sample import Load
from benches.load.servers import Nerite, running

MODEL = repository.NATIVE
STEPS = 3
PREDICT = f"/v1/models/{MODEL.name}:predict"
#: Least CPU, in microseconds, that a step in process must save.
GOAL_US = 10.0
ROWS = payload.VALUES.tolist()


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an answer."""

    title: str
    port: int
    path: str
    pids: tuple[int, ...]


def nodes(host: str = "") -> dict[str, Any]:
    """The graph's nodes; steps are paths unless a host is given."""
    step = {"serviceUrl": f"{host}{PREDICT}"}
    mapped = {**step, "data": "$response", "mapPredictionsToInstances": True}
    return {"root": {"routerType": "Sequence", "steps": [step, *[mapped] * (STEPS - 1)]}}


def put(port: int) -> None:
    """Has the server run the graph."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    connection.request("PUT", "/graphs/default/chain", json.dumps({"nodes": nodes()}))
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    if answer.status != 201:
        raise SystemExit(f"the graph was not taken: {answer.status} {told!r}")


def check(way: Way) -> None:
    """All ways give the same answer."""
    connection = http.client.HTTPConnection(LOOPBACK, way.port, timeout=10)
    connection.request("POST", way.path, json.dumps({"instances": ROWS}))
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    if answer.status != 200 or json.loads(told) != {"predictions": ROWS}:
        raise SystemExit(f"{way.title}: {answer.status} {told!r}")


@contextmanager
def front(http_port: int) -> Iterator[tuple[int, int]]:
    """Process and port of a gateway before this port."""
    graph = json.dumps(nodes("http://identity.default"))
    command = [sys.executable, "-m", "benches.graphs.front", f"{LOOPBACK}:{http_port}", graph]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)


def load(way: Way, concurrency: int, seconds: int, folder: Path) -> Load:
    """Sixteen floats again and again."""
    body = json.dumps({"instances": ROWS}).encode()
    script = folder / "request.lua"
    message = payload.HttpMessage({"Content-Type": "application/json"}, body)
    script.write_text(wrk.script(message))
    url = f"http://{LOOPBACK}:{way.port}{way.path}"
    words = wrk.command(url, script, concurrency, seconds)
    return wrk.parse(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def cost(way: Way, concurrency: int, seconds: int, folder: Path) -> tuple[float, float]:
    """CPU microseconds per request of all its processes, and requests per second."""
    load(way, concurrency, 1, folder)
    before = sum(map(cpu_seconds, way.pids))
    loaded = load(way, concurrency, seconds, folder)
    spent = sum(map(cpu_seconds, way.pids)) - before
    if loaded.failed:
        raise SystemExit(f"{way.title}: {loaded.failed} of {loaded.requests} requests failed")
    return 1e6 * spent / loaded.requests, loaded.requests / loaded.seconds


def main(arguments: list[str]) -> int:
    """Measure and print a table; status 1 if a step in process saves less than the goal."""
    parser = argparse.ArgumentParser(prog="python -m benches.graphs", description=__doc__)
    parser.add_argument("--duration", type=int, default=3, help="seconds a run")
    parser.add_argument("--repetitions", type=int, default=3, help="runs a case; the least counts")
    chosen = parser.parse_args(arguments)
    nerite = Nerite("nerite-identity", "Nerite", MODEL)
    least = float("inf")
    print(f"{'way':<38}{'case':>6}{'CPU us':>10}{'a step us':>12}{'requests/s':>12}")
    with (
        tempfile.TemporaryDirectory() as name,
        running(nerite, Path(name), core=None) as server,
        front(server.ports.http) as (gateway, port),
    ):
        put(server.ports.http)
        both = (server.process.pid, gateway)
        own = (server.process.pid,)
        ways = (
            Way("the model alone", server.ports.http, PREDICT, own),
            Way("graph in the server", server.ports.http, "/graphs/default/chain", own),
            Way("graph in the gateway", port, "/serving/default/chain", both),
            Way("gateway before graph in the server", port, "/serving/default/below", both),
        )
        for way in ways:
            check(way)
        for concurrency in (8, 64):
            figures = [
                min(
                    cost(way, concurrency, chosen.duration, Path(name))
                    for _ in range(chosen.repetitions)
                )
                for way in ways
            ]
            for way, (spent, rate) in zip(ways, figures, strict=True):
                each = "" if way is ways[0] else f"{(spent - figures[0][0]) / (STEPS - 1):.1f}"
                print(f"{way.title:<38}{f'@{concurrency}':>6}{spent:>10.1f}{each:>12}{rate:>12.0f}")
            least = min(least, (figures[2][0] - figures[1][0]) / STEPS)
    print(f"a step in process saves {least:.1f} us of CPU at least; goal {GOAL_US}")
    return int(least < GOAL_US)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
