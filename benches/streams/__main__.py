# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.streams`: CPU per response of a decoupled Python model.

A request asks for 100 responses of one INT32 each; every client has one request under way, and
every number is looked at. The server is a process of its own on one core, its CPU time is read from
/proc, so that the client's does not count. `--triton` measures Triton with the same files.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from benches.load import repository
from benches.load.answers import LOOPBACK
from benches.load.cpu import cpu_seconds
from benches.load.prepare import TritonInstallation
from benches.load.servers import (
    Launch,
    Nerite,
    Ports,
    Running,
    Server,
    Triton,
    nerite_command,
    running,
)

RESPONSES = 100
CONFIG = """backend: "python"
input [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
"""
EXPECTED = list(range(RESPONSES))


@dataclass(frozen=True, slots=True)
class StreamingNerite(Nerite):
    """Nerite with the one model."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """Its repository."""
        return Launch(nerite_command(write(folder), ports))

    def ready_path(self) -> str:
        """The model's own."""
        return "/v2/models/numbers/ready"


@dataclass(frozen=True, slots=True)
class StreamingTriton(Triton):
    """Triton with the same one."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """Its repository."""
        installation = TritonInstallation()
        command = [
            str(installation.binary),
            f"--model-repository={write(folder)}",
            f"--backend-directory={installation.backends}",
            f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-port={ports.metrics}",
        ]
        return Launch(command, installation.environment())

    def ready_path(self) -> str:
        """The model's own."""
        return "/v2/models/numbers/ready"


def write(folder: Path) -> Path:
    """The repository."""
    version = folder / "repository/numbers/1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    shutil.copy(Path(__file__).with_name("model.py"), version)
    return folder / "repository"


def over_grpc(ports: Ports, requests: int) -> None:
    """One request after the other on one stream."""
    message = service_pb2.ModelInferRequest(model_name="numbers")
    message.inputs.add(name="N", datatype="INT32", shape=[1])
    message.raw_input_contents.append(np.int32(RESPONSES).tobytes())
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    more = threading.Semaphore(1)

    def ask() -> object:
        for _ in range(requests):
            more.acquire()
            yield message

    with grpc.insecure_channel(f"{LOOPBACK}:{ports.grpc}") as channel:
        replies = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )(ask())
        numbers: list[int] = []
        for reply in replies:
            response = reply.infer_response
            if reply.error_message:
                raise SystemExit(f"the server answered {reply.error_message}")
            if response.parameters["triton_final_response"].bool_param:
                check(numbers)
                numbers = []
                more.release()
            else:
                numbers.append(int.from_bytes(response.raw_output_contents[0], "little"))


def over_http(ports: Ports, requests: int) -> None:
    """One event stream after the other on one connection."""
    connection = http.client.HTTPConnection(LOOPBACK, ports.http)
    for _ in range(requests):
        connection.request("POST", "/v2/models/numbers/generate_stream", f'{{"N": {RESPONSES}}}')
        events = connection.getresponse().read().split(b"\n\n")
        check([json.loads(event.removeprefix(b"data: "))["OUT"] for event in events if event])
    connection.close()


def check(numbers: list[int]) -> None:
    """Ends the bench if an answer is not what was asked for."""
    if numbers != EXPECTED:
        raise SystemExit(f"the server sent {numbers}")


def cpu_per_response(
    server: Running, client: Callable[[Ports, int], None], clients: int, requests: int
) -> tuple[float, float]:
    """Microseconds of the server's CPU for one response, and responses a second."""
    client(server.ports, 5)
    start, began = cpu_seconds(server.process.pid), time.monotonic()
    threads = [
        threading.Thread(target=client, args=(server.ports, requests)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, lasted = cpu_seconds(server.process.pid) - start, time.monotonic() - began
    responses = clients * requests * RESPONSES
    return spent / responses * 1e6, responses / lasted


def main(arguments: list[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benches.streams", description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="requests of a case")
    parser.add_argument("--triton", action="store_true", help="measure Triton too")
    chosen = parser.parse_args(arguments)
    measured: list[Server] = [StreamingNerite("nerite", "Nerite", repository.PYTHON)]
    if chosen.triton:
        measured.append(StreamingTriton("triton", "Triton", repository.PYTHON))
    print(f"{'server':<10}{'protocol':<20}{'clients':>8}{'CPU us/response':>18}{'responses/s':>14}")
    for each in measured:
        each.prepare(lambda text: print(text, file=sys.stderr))
        with (
            tempfile.TemporaryDirectory() as folder,
            running(each, Path(folder), core=0) as server,
        ):
            for name, client in (("ModelStreamInfer", over_grpc), ("generate_stream", over_http)):
                for clients in (1, 8):
                    requests = chosen.requests // clients
                    cpu, rate = cpu_per_response(server, client, clients, requests)
                    print(f"{each.title:<10}{name:<20}{clients:>8}{cpu:>18.1f}{rate:>14.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
