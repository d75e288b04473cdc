# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.scale`: many connections, many requests in flight, many models.

Starts Nerite with 50, 100 and 200 models and says what start and memory each takes; then holds
5,000 connections to the last of them and sends 1,000 requests at once, each with floats of its
own, so that answers that went to the wrong connection show. Status 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benches.load import answers, payload, report, repository, servers
from benches.load.answers import HttpAnswer
from benches.load.cases import Protocol
from benches.load.cpu import memory_bytes
from benches.load.prepare import Missing
from benches.load.servers import Launch, Nerite, NotReady, Ports, Running, Server, running
from benches.scale.connections import Outcome, ask_together, open_connections

# Descriptors that the client or the server needs beside its connections.
SPARE_DESCRIPTORS = 500
LIVE_REQUEST = f"GET /v2/health/live HTTP/1.1\r\nHost: {answers.LOOPBACK}\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Options:
    """How much of everything."""

    target: str
    connections: int
    in_flight: int
    models: int
    rounds: int
    hold_ms: int
    json: Path | None


@dataclass(frozen=True, slots=True)
class ManyModels(Nerite):
    """Nerite with copies of the identity model; ready when all of them are."""

    count: int

    @classmethod
    def of(cls, count: int, hold_ms: int) -> ManyModels:
        """So many models, each of which lets a batch gather for the given time."""
        identity = repository.Identity("identity", "identity", queue_delay_us=hold_ms * 1000)
        return cls("nerite-many", f"Nerite, {count} models", identity, count)

    def names(self) -> list[str]:
        """What the models are called."""
        return [f"{self.identity.name}_{number:03}" for number in range(self.count)]

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """A repository with all of them."""
        copies = [
            repository.Identity(name, self.identity.backend, None, self.identity.queue_delay_us)
            for name in self.names()
        ]
        models = repository.write(copies, folder / "repository")
        return Launch(servers.nerite_command(models, ports))

    def ready_path(self) -> str:
        """The server is ready when its models are."""
        return "/v2/health/ready"


def main(arguments: list[str]) -> int:
    """Run all parts, print them, and give the exit status."""
    options = _parse(arguments)
    try:
        _raise_descriptor_limit(options.connections)
        with tempfile.TemporaryDirectory(prefix="nerite-scale-") as folder:
            found = _run(options, Path(folder))
    except (Missing, NotReady) as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return 1
    if options.json is not None:
        facts = report.facts("benches.scale", arguments)
        report.write_json(options.json, facts | found)
    return 1 if found["errors"] else 0


def _run(options: Options, folder: Path) -> dict[str, Any]:
    if options.target == "nginx":
        (server,) = servers.select(["nginx"])
        server.prepare(print)
        with running(server, folder, None) as live:
            return asyncio.run(_connections(server, live, options))
    sizes = sorted({max(1, options.models // 4), max(1, options.models // 2), options.models})
    starts = []
    for size in sizes:
        many = ManyModels.of(size, options.hold_ms)
        many.prepare(print)
        with running(many, folder / str(size), None) as live:
            starts.append(_start_facts(many, live))
            if size == options.models:
                _print_models(starts)
                carried = asyncio.run(_connections(many, live, options))
    carried["errors"] += sum(start["not_ready"] for start in starts)
    return {"starts": starts} | carried


def _start_facts(many: ManyModels, live: Running) -> dict[str, Any]:
    ports = live.ports
    states = [answers.get(ports.http, f"/v2/models/{name}/ready")[0] for name in many.names()]
    return {
        "models": many.count,
        "ready_seconds": round(live.ready_seconds, 3),
        "memory_bytes": memory_bytes(live.process.pid),
        "not_ready": sum(status != 200 for status in states),
    }


def _print_models(starts: list[dict[str, Any]]) -> None:
    print(f"{'models':>7}  {'ready after':>11}  {'memory':>10}  {'not ready':>9}")
    for start in starts:
        megabytes = start["memory_bytes"] / 2**20
        print(
            f"{start['models']:>7}  {start['ready_seconds']:>9.2f} s  "
            f"{megabytes:>6.1f} MiB  {start['not_ready']:>9}"
        )
    for fewer, more in itertools.pairwise(starts):
        added = more["models"] - fewer["models"]
        milliseconds = (more["ready_seconds"] - fewer["ready_seconds"]) * 1000 / added
        kilobytes = (more["memory_bytes"] - fewer["memory_bytes"]) / 1024 / added
        print(
            f"from {fewer['models']} to {more['models']} models: "
            f"{milliseconds:.2f} ms and {kilobytes:.1f} KiB for each model"
        )


async def _connections(server: Server, live: Running, options: Options) -> dict[str, Any]:
    before = memory_bytes(live.process.pid)
    connections, errors = await open_connections(live.ports.http, options.connections)
    every = await ask_together(connections, [LIVE_REQUEST] * len(connections), _check_status)
    each = (memory_bytes(live.process.pid) - before) / max(1, len(connections))
    print(f"{len(connections)} connections open, {each / 1024:.2f} KiB of memory for each idle one")
    together = Outcome()
    for _ in range(options.rounds):
        chosen = connections[: options.in_flight]
        values = _values(server, len(chosen))
        together.add(await ask_together(chosen, _requests(server, values), _checker(values)))
    after = await ask_together(connections, [LIVE_REQUEST] * len(connections), _check_status)
    await asyncio.gather(*(connection.close() for connection in connections))
    errors += every.errors + together.errors + after.errors
    print(
        f"{options.rounds} times {options.in_flight} requests at once: {together.answered} right "
        f"answers; the first came {together.held_seconds * 1000:.0f} ms after the last was sent"
    )
    print(f"errors: {errors.total()}")
    for text, count in errors.most_common(10):
        print(f"  {count} times {text}")
    return {
        "connections": len(connections),
        "in_flight": options.in_flight,
        "bytes_per_connection": round(each),
        "right_answers": together.answered,
        "held_ms": round(together.held_seconds * 1000, 1),
        "errors": errors.total(),
    }


def _values(server: Server, count: int) -> list[payload.Floats]:
    """Floats of its own for every request; the floor can only give back the usual ones."""
    if not isinstance(server, ManyModels):
        return [payload.VALUES] * count
    return [payload.VALUES + np.float32(number) for number in range(count)]


def _requests(server: Server, values: list[payload.Floats]) -> list[bytes]:
    own = server.names() if isinstance(server, ManyModels) else []
    names = own or [server.model(Protocol.HTTP_BINARY)]
    return [
        answers.request_bytes(Protocol.HTTP_BINARY, names[number % len(names)], floats)
        for number, floats in enumerate(values)
    ]


def _checker(values: list[payload.Floats]) -> Any:
    return lambda index, answer: answers.check_http(Protocol.HTTP_BINARY, answer, values[index])


def _check_status(_: int, answer: HttpAnswer) -> None:
    if answer.status != 200:
        raise answers.WrongAnswer(f"status {answer.status}: {answer.body[:200]!r}")


def _raise_descriptor_limit(connections: int) -> None:
    """For this process and, by inheritance, for the server."""
    needed = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Missing(
            f"{connections} connections need {needed} open files, but at most {hard} are allowed "
            "here; raise the limit (`ulimit -Hn`) or give fewer --connections"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benches.scale", description=__doc__)
    add = parser.add_argument
    add("--target", choices=("nerite", "nginx"), default="nerite", help="nginx tries the client")
    add("--connections", type=int, default=5000, metavar="N", help="kept open (default 5000)")
    add("--in-flight", type=int, default=1000, metavar="N", help="at once (default 1000)")
    add("--models", type=int, default=200, metavar="N", help="in the repository (default 200)")
    add("--rounds", type=int, default=3, metavar="N", help="of requests at once (default 3)")
    add(
        "--hold-ms",
        type=int,
        default=300,
        metavar="MS",
        help="how long a model lets a batch gather, so that all requests meet (default 300)",
    )
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    given = Options(**vars(parser.parse_args(arguments)))
    if given.in_flight > given.connections:
        parser.error("--in-flight cannot be more than --connections: each request takes one")
    return given


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
