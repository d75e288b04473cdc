# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.ensembles`: what the steps of an ensemble cost beside the model itself.

An identity model is asked by itself and three times in a row, as an ensemble, by the same
generator. The server has one core, its CPU time is read from /proc. `--triton` measures Triton with
the same files; its wheel has the Python backend only, so Nerite is measured with that one too.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benches.load import payload, repository
from benches.load.cases import Protocol
from benches.load.cpu import cpu_seconds
from benches.load.once import load
from benches.load.servers import Launch, Nerite, Ports, Running, Server, Triton, running

STEPS = 3


def write_chain(models: Path, name: str) -> None:
    """An ensemble of three steps, all of them the one model."""
    names = [payload.INPUT, *(f"t{index}" for index in range(1, STEPS)), payload.OUTPUT]
    steps = ", ".join(
        f'{{ model_name: "{name}" model_version: -1 '
        f'input_map {{ key: "{payload.INPUT}" value: "{reads}" }} '
        f'output_map {{ key: "{payload.OUTPUT}" value: "{writes}" }} }}'
        for reads, writes in itertools.pairwise(names)
    )
    (models / "chain/1").mkdir(parents=True)
    (models / "chain/config.pbtxt").write_text(
        f"""platform: "ensemble"
max_batch_size: 64
input [ {{ name: "{payload.INPUT}" data_type: TYPE_FP32 dims: [ 16 ] }} ]
output [ {{ name: "{payload.OUTPUT}" data_type: TYPE_FP32 dims: [ 16 ] }} ]
ensemble_scheduling {{ step [ {steps} ] }}
"""
    )


@dataclass(frozen=True, slots=True)
class ChainedNerite(Nerite):
    """Nerite with the model and the ensemble."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """Its repository."""
        launch = Nerite.launch(self, folder, ports)
        write_chain(folder / "repository", self.identity.name)
        return launch

    def ready_path(self) -> str:
        """The ensemble's own."""
        return "/v2/models/chain/ready"


@dataclass(frozen=True, slots=True)
class ChainedTriton(Triton):
    """Triton with the same two."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """Its repository."""
        launch = Triton.launch(self, folder, ports)
        write_chain(folder / "repository", self.identity.name)
        return launch

    def ready_path(self) -> str:
        """The ensemble's own."""
        return "/v2/models/chain/ready"


def cost(
    server: Running, protocol: Protocol, model: str, concurrency: int, seconds: int, folder: Path
) -> float:
    """Microseconds of the server's CPU for one request."""
    port = server.ports.grpc if protocol is Protocol.GRPC else server.ports.http
    load(protocol, model, port, concurrency, 1, folder)
    before = cpu_seconds(server.process.pid)
    run = load(protocol, model, port, concurrency, seconds, folder)
    spent = cpu_seconds(server.process.pid) - before
    if run.failed:
        raise SystemExit(f"{run.failed} of {run.requests} requests failed")
    return 1e6 * spent / run.requests


def main(arguments: list[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benches.ensembles", description=__doc__)
    parser.add_argument("--duration", type=int, default=3, help="seconds a run")
    parser.add_argument("--repetitions", type=int, default=3, help="runs a case; the least counts")
    parser.add_argument("--triton", action="store_true", help="measure Triton too")
    chosen = parser.parse_args(arguments)
    measured: list[Server] = [
        ChainedNerite("nerite-identity", "Nerite, identity backend", repository.NATIVE),
        ChainedNerite("nerite-python", "Nerite, model.py", repository.PYTHON),
    ]
    if chosen.triton:
        measured.append(ChainedTriton("triton-python", "Triton, model.py", repository.PYTHON))
    head = ("model us", f"{STEPS} steps us", "a step more us")
    print(f"{'server':<26}{'case':<16}" + "".join(f"{word:>16}" for word in head))
    for each in measured:
        each.prepare(lambda text: print(text, file=sys.stderr))
        with tempfile.TemporaryDirectory() as name, running(each, Path(name), core=0) as server:
            for protocol in (Protocol.HTTP_BINARY, Protocol.GRPC):
                for concurrency in (8, 64):
                    alone, chain = (
                        min(
                            cost(server, protocol, model, concurrency, chosen.duration, Path(name))
                            for _ in range(chosen.repetitions)
                        )
                        for model in (each.identity.name, "chain")
                    )
                    figures = (alone, chain, (chain - alone) / (STEPS - 1))
                    shown = "".join(f"{figure:>16.1f}" for figure in figures)
                    print(f"{each.title:<26}{f'{protocol.value}@{concurrency}':<16}{shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
