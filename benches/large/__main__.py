# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.large`: server CPU of requests with 4 and 16 MiB, and of a large JSON tensor.

Nerite and the real Triton echo the same floats, one request at a time, the server on one core and
the client on another. Every answer is compared with what was sent. Status 1 if one was wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt

from benches.load import payload, report, servers
from benches.load.answers import LOOPBACK, WrongAnswer
from benches.load.cpu import cpu_seconds, two_cores
from benches.load.prepare import Missing
from benches.load.servers import NotReady, Ports, Running, Server, running

MIB = 1 << 20
Floats = npt.NDArray[np.float32]
#: One request: sends it, and says whether the answer was right.
Ask = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to carry so many floats there and back."""

    name: str
    protocol: str
    floats: int

    @contextmanager
    def client(self, ports: Ports, model: str) -> Iterator[Ask]:
        """A connection that stays, and the request on it."""
        # As of an image or an embedding: all digits of their mantissas are used.
        values = np.random.default_rng(1).standard_normal(self.floats, dtype=np.float32)
        if self.protocol == "grpc":
            with _grpc(ports.grpc, model, values) as ask:
                yield ask
            return
        with socket.create_connection((LOOPBACK, ports.http), timeout=60) as raw:
            message = _http_message(self.protocol, model, values)
            is_right = _json_checker(values) if self.protocol == "json" else _tail_checker(values)
            yield lambda: is_right(_exchange(raw, message))


CASES = (
    Case("http-4MiB", "binary", 4 * MIB // 4),
    Case("http-16MiB", "binary", 16 * MIB // 4),
    Case("grpc-4MiB", "grpc", 4 * MIB // 4),
    Case("grpc-16MiB", "grpc", 16 * MIB // 4),
    Case("json-150528", "json", 150_528),
)


def _http_message(protocol: str, model: str, values: Floats) -> bytes:
    tensor = {"name": payload.INPUT, "shape": [1, values.size], "datatype": "FP32"}
    headers, tail = "", b""
    if protocol == "json":
        text = json.dumps({"inputs": [tensor | {"data": values.tolist()}]}).encode()
    else:
        tensor["parameters"] = {"binary_data_size": values.nbytes}
        document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        text, tail = json.dumps(document).encode(), values.tobytes()
        headers = f"{payload.JSON_LENGTH_HEADER}: {len(text)}\r\n"
    head = (
        f"POST {payload.http_path(model)} HTTP/1.1\r\nHost: {LOOPBACK}\r\n"
        f"{headers}Content-Length: {len(text) + len(tail)}\r\n\r\n"
    )
    return head.encode() + text + tail


def _exchange(raw: socket.socket, message: bytes) -> memoryview:
    """The body of the answer; its status must be 200."""
    raw.sendall(message)
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _some(raw)
    head, rest = bytes(received[:end]).decode("latin-1"), received[end + 4 :]
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
    body = memoryview(bytearray(int(fields["content-length"])))
    body[: len(rest)] = rest
    filled = len(rest)
    while filled < len(body):
        received_bytes = raw.recv_into(body[filled:])
        if not received_bytes:
            raise WrongAnswer("the connection was closed in the middle of an answer")
        filled += received_bytes
    if " 200 " not in head.split("\r\n", 1)[0]:
        raise WrongAnswer(f"{head.splitlines()[0]}: {bytes(body[:300])!r}")
    return body


def _some(raw: socket.socket) -> bytes:
    data = raw.recv(65536)
    if not data:
        raise WrongAnswer("the connection was closed in the middle of an answer")
    return data


def _tail_checker(values: Floats) -> Callable[[memoryview], bool]:
    sent = values.tobytes()
    return lambda body: body[-len(sent) :] == sent


def _json_checker(values: Floats) -> Callable[[memoryview], bool]:
    # The shortest text of a float is enough, so it need not be the same number in double precision.
    def is_right(body: memoryview) -> bool:
        data = json.loads(bytes(body))["outputs"][0]["data"]
        return bool(np.array_equal(np.array(data, np.float32), values))

    return is_right


@contextmanager
def _grpc(port: int, model: str, values: Floats) -> Iterator[Ask]:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name=payload.INPUT, datatype="FP32")
    tensor.shape.extend([1, values.size])
    sent = values.tobytes()
    request.raw_input_contents.append(sent)
    message = request.SerializeToString()
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"{LOOPBACK}:{port}", limits) as channel:
        infer = channel.unary_unary(payload.GRPC_PATH)
        # The floats are the last field of the answer's message.
        yield lambda: infer(message, timeout=60)[-len(sent) :] == sent


@dataclass(frozen=True, slots=True)
class Figure:
    """What one request of a case costs a server."""

    cpu_ms: float
    wall_ms: float


def measure(live: Running, case: Case, model: str, seconds: float, rounds: int) -> Figure:
    """The least of some rounds."""
    with case.client(live.ports, model) as ask:
        for _ in range(3):
            _check(case, ask())
        return min(
            (_round(live, case, ask, seconds) for _ in range(rounds)), key=lambda it: it.cpu_ms
        )


def _round(live: Running, case: Case, ask: Ask, seconds: float) -> Figure:
    spent, begun, count = cpu_seconds(live.process.pid), time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        _check(case, ask())
        count += 1
    wall = time.monotonic() - begun
    cpu = cpu_seconds(live.process.pid) - spent
    return Figure(cpu / count * 1e3, wall / count * 1e3)


def _check(case: Case, right: bool) -> None:
    if not right:
        raise WrongAnswer(f"{case.name}: other floats came back")


def main(arguments: list[str]) -> int:
    """Measure, print a table as ratios to Triton, and give the exit status."""
    given = _parse(arguments)
    rows: list[dict[str, object]] = []
    try:
        cores = two_cores()
        os.sched_setaffinity(0, {cores[1]})
        for server in _servers(given.servers.split(",")):
            rows += _rows(server, cores[0], given)
    except (Missing, NotReady, ValueError, WrongAnswer) as why:
        print(f"cannot go on: {why}", file=sys.stderr)
        return 1
    print("\n" + table(rows))
    if given.json is not None:
        report.write_json(given.json, report.facts("benches.large", arguments) | {"rows": rows})
    return 0


def _servers(words: list[str]) -> list[Server]:
    chosen = [server for server in servers.select(words) if servers.family(server) != "nginx"]
    return [
        dataclasses.replace(server, identity=dataclasses.replace(server.identity, dims=-1))
        for server in chosen
    ]


def _rows(server: Server, core: int, given: argparse.Namespace) -> list[dict[str, object]]:
    server.prepare(print)
    print(f"starting {server.title}", flush=True)
    rows: list[dict[str, object]] = []
    with (
        tempfile.TemporaryDirectory(prefix="nerite-large-") as folder,
        running(server, Path(folder), core) as live,
    ):
        for case in (case for case in CASES if given.only in case.name):
            found = measure(live, case, server.identity.name, given.seconds, given.rounds)
            print(f"  {case.name:12} {found.cpu_ms:8.2f} ms of CPU {found.wall_ms:8.2f} ms")
            rows.append({"server": server.name, "case": case.name, **dataclasses.asdict(found)})
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Case by case, as a Markdown table."""
    lines = ["| case | server | CPU ms | wall ms | CPU / Triton |", "|---|---|--:|--:|--:|"]
    for case in CASES:
        of_case = [row for row in rows if row["case"] == case.name]
        peer = [row for row in of_case if str(row["server"]).startswith("triton")]
        for row in of_case:
            cpu = float(str(row["cpu_ms"]))
            ratio = f"{cpu / float(str(peer[0]['cpu_ms'])):.2f}" if peer else "-"
            lines.append(
                f"| {case.name} | {_title(str(row['server']))} | {cpu:.2f} "
                f"| {float(str(row['wall_ms'])):.2f} | {ratio} |"
            )
    return "\n".join(lines)


def _title(name: str) -> str:
    return next(server.title for server in servers.ALL_SERVERS if server.name == name)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.large", description=__doc__)
    add = parser.add_argument
    add("--servers", default="nerite,triton", metavar="NAMES", help="as of benches.load")
    add("--only", default="", metavar="TEXT", help="cases whose name has this in it, e.g. json")
    add("--seconds", type=float, default=2.0, metavar="S", help="a round (default 2)")
    add("--rounds", type=int, default=2, metavar="N", help="of each case (default 2)")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
