# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.gateway`: CPU per request of the gateway, beyond the component's own.

A Nerite server with the identity model is asked directly and through a gateway in a process of its
own, by the same generator. CPU time of both processes is read from /proc. What the gateway costs is
its own time and whatever the component needs more (or less) behind it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benches.load import report, repository
from benches.load.answers import LOOPBACK
from benches.load.cases import Protocol
from benches.load.cpu import cpu_seconds
from benches.load.once import load
from benches.load.servers import Nerite, running

MODEL = repository.NATIVE
GOAL_US = 25.0


@dataclass(frozen=True, slots=True)
class Front:
    """The gateway's process."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds per request, and requests per second."""

    component: float
    gateway: float
    rate: float

    def total(self) -> float:
        """Of both processes."""
        return self.component + self.gateway


@contextmanager
def front(http: int, grpc: int) -> Iterator[Front]:
    """A gateway in front of these two ports."""
    addresses = [f"{LOOPBACK}:{http}", f"{LOOPBACK}:{grpc}"]
    command = [sys.executable, "-m", "benches.gateway.front", *addresses]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Front(process.pid, int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(30)


def cost(pids: tuple[int, int], run: tuple[Protocol, int, int, int], folder: Path) -> Cost:
    """What one run costs the component and the gateway."""
    protocol, port, concurrency, seconds = run
    load(protocol, MODEL.name, port, concurrency, 1, folder)
    before = [cpu_seconds(pid) for pid in pids]
    loaded = load(protocol, MODEL.name, port, concurrency, seconds, folder)
    spent = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    if loaded.failed:
        raise SystemExit(f"{loaded.failed} of {loaded.requests} requests failed")
    component, gateway = (1e6 * seconds / loaded.requests for seconds in spent)
    return Cost(component, gateway, loaded.requests / loaded.seconds)


def rows(chosen: argparse.Namespace) -> list[dict[str, object]]:
    """Case by case; direct and proxied runs take turns, and of each the least counts."""
    found: list[dict[str, object]] = []
    nerite = Nerite("nerite-identity", "Nerite", MODEL)
    with (
        tempfile.TemporaryDirectory() as name,
        running(nerite, Path(name), core=None) as server,
        front(server.ports.http, server.ports.grpc) as gateway,
    ):
        pids = (server.process.pid, gateway.pid)
        for protocol in (Protocol.HTTP_BINARY, Protocol.GRPC):
            own = server.ports.grpc if protocol is Protocol.GRPC else server.ports.http
            for concurrency in (8, 64):
                runs: dict[int, list[Cost]] = {own: [], gateway.port: []}
                for _ in range(chosen.repetitions):
                    for port, costs in runs.items():
                        run = (protocol, port, concurrency, chosen.duration)
                        costs.append(cost(pids, run, Path(name)))
                direct, behind = (min(costs, key=Cost.total) for costs in runs.values())
                row: dict[str, object] = {
                    "case": f"{protocol.value}@{concurrency}",
                    "direct_us": direct.component,
                    "behind_us": behind.component,
                    "gateway_us": behind.gateway,
                    "more_us": behind.total() - direct.component,
                    "rate": behind.rate,
                }
                print(table([row]).splitlines()[-1], flush=True)
                found.append(row)
    return found


def table(found: list[dict[str, object]]) -> str:
    """Case by case, as a Markdown table."""
    lines = [
        "| case | direct us | component behind us | gateway us | more in all us | requests/s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    keys = ("direct_us", "behind_us", "gateway_us", "more_us")
    for row in found:
        cells = [f"{float(str(row[key])):.1f}" for key in keys]
        lines.append(f"| {row['case']} | {' | '.join(cells)} | {float(str(row['rate'])):.0f} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure and print a table; status 1 if a proxied request costs more than the goal."""
    parser = argparse.ArgumentParser(prog="python -m benches.gateway", description=__doc__)
    parser.add_argument("--duration", type=int, default=3, help="seconds a run")
    parser.add_argument("--repetitions", type=int, default=3, help="runs a case; the least counts")
    parser.add_argument("--json", type=Path, help="write the rows and their origin to this file")
    chosen = parser.parse_args(arguments)
    found = rows(chosen)
    worst = max(float(str(row["more_us"])) for row in found)
    print(f"goal: at most {GOAL_US} us more; worst: {worst:.1f}")
    if chosen.json is not None:
        facts = report.facts("benches.gateway", arguments)
        report.write_json(chosen.json, facts | {"rows": found})
    return int(worst > GOAL_US)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
