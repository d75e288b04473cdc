# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.bad_input`: the load figures before and after every kind of bad input.

Starts Nerite with the identity model and those of `tests.bad_messages`, measures it, and after each
kind measures again. Half-sent requests stay open while it is measured. Status 1 if the server
ended, answered wrongly, or a figure is worse than the first by more than `--limit`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from tests import bad_messages

from benches.load import cases, options, report, repository, servers
from benches.load.answers import LOOPBACK, TIMEOUT_SECONDS
from benches.load.cases import Case
from benches.load.measure import Target, samples_of
from benches.load.servers import Launch, Nerite, Ports, running

INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class Bad:
    """One kind of bad input, and how it is sent."""

    protocol: str
    kind: str
    message: bytes
    held: bool = False
    """Half of a request: nothing is to be answered, and the connection stays."""

    @contextmanager
    def sent(self, ports: Ports, times: int) -> Iterator[None]:
        """So many of it, each on a connection of its own; held ones until the block ends."""
        if self.protocol == "grpc" and not self.held:
            _call(ports.grpc, self.message, times)
            yield
            return
        port = ports.grpc if self.protocol == "grpc" else ports.http
        with contextlib.ExitStack() as open_connections:
            for _ in range(times):
                raw = socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SECONDS)
                raw.sendall(self.message)
                if self.held:
                    open_connections.enter_context(raw)
                else:
                    raw.recv(1)
                    raw.close()
            yield


def kinds() -> list[Bad]:
    """Everything that the tests call bad."""
    http = bad_messages.MISTAKEN_HTTP | bad_messages.LYING_HTTP
    lying = {name: message for name, (message, _) in bad_messages.LYING_GRPC.items()}
    half = "half a body, then nothing"
    return [
        *(Bad("http", name, message, held=name == half) for name, message in http.items()),
        Bad("http", "a head that never ends", bad_messages.ENDLESS_HEAD, held=True),
        *_grpc(bad_messages.MISTAKEN_GRPC | lying),
        Bad("grpc", "half a message, then nothing", bad_messages.HALF_A_CALL, held=True),
        Bad("grpc", "nothing at all", b"", held=True),
    ]


def _grpc(messages: Mapping[str, bytes]) -> Iterator[Bad]:
    return (Bad("grpc", name, message) for name, message in messages.items())


def _call(port: int, message: bytes, times: int) -> None:
    with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        infer = channel.unary_unary(INFER)
        for _ in range(times):
            with contextlib.suppress(grpc.RpcError):
                infer(message, timeout=TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class Neighbour(Nerite):
    """The identity model beside those that bad input is meant for."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """A repository with all of them."""
        models = repository.write([self.identity], folder / "repository")
        bad_messages.write_models(models)
        return Launch([*servers.nerite_command(models, ports), "--strict-readiness=false"])


def main(arguments: list[str]) -> int:
    """Measure, print a line for each kind, and give the exit status."""
    given = _parse(arguments)
    os.sched_setaffinity(0, {given.load.client_core})
    server = Neighbour("nerite-identity", "Nerite, identity backend", repository.NATIVE)
    server.prepare(print)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="nerite-bad-") as name:
        folder = Path(name)
        with running(server, folder / server.name, given.load.server_core) as live:
            target = Target(server, live, folder)
            first = _measured(contextlib.nullcontext(), target, given.load)
            _print_row("before", first, first)
            for bad in kinds():
                sent = bad.sent(live.ports, given.times)
                found = _measured(sent, target, given.load)
                rows.append({"protocol": bad.protocol, "kind": bad.kind, **_named(found)})
                _print_row(f"{bad.protocol}: {bad.kind}", found, first)
            last = _measured(contextlib.nullcontext(), target, given.load)
            _print_row("after all", last, first)
    if given.json is not None:
        facts = report.facts("benches.bad_input", arguments)
        figures = {"before": _named(first), "kinds": rows, "after": _named(last)}
        report.write_json(given.json, facts | figures)
    # The first figure is a single sample too: the quickest of the first and the last counts.
    base = {case: min(first[case], last[case]) for case in first}
    worst = max(float(str(row[c.name])) / base[c] for row in rows for c in base)
    print(f"worst: {worst:.2f} times the figure without bad input (limit {given.limit})")
    return 1 if worst > given.limit else 0


def _measured(
    sent: AbstractContextManager[None], target: Target, load: options.Options
) -> dict[Case, float]:
    with sent:
        found = {}
        for case in load.cases:
            runs = samples_of(target, case, load)
            found[case] = min(run.cpu_us for run in runs)
        return found


def _named(found: Mapping[Case, float]) -> dict[str, float]:
    return {case.name: round(us, 2) for case, us in found.items()}


def _print_row(title: str, found: Mapping[Case, float], first: Mapping[Case, float]) -> None:
    cells = (f"{case.name} {us:5.1f} us {us / first[case]:5.2f}" for case, us in found.items())
    print(f"{title:36}  {'   '.join(cells)}", flush=True)


@dataclass(frozen=True, slots=True)
class _Given:
    load: options.Options
    times: int
    limit: float
    json: Path | None


def _parse(arguments: list[str]) -> _Given:
    parser = argparse.ArgumentParser(prog="python -m benches.bad_input", description=__doc__)
    add = parser.add_argument
    add("--times", type=int, default=100, metavar="N", help="of each kind (default 100)")
    add("--limit", type=float, default=1.3, metavar="X", help="worst ratio (default 1.3)")
    add("--only", default="http-binary@64,grpc@64", metavar="CASES", help="as of benches.load")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    given = parser.parse_args(arguments)
    cases.select(given.only.split(","))
    load = options.parse(["--servers", "nerite-identity", "--duration", "1", "--only", given.only])
    return _Given(load, given.times, given.limit, given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
