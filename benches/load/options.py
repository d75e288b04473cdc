# SPDX-License-Identifier: Apache-2.0
"""The command line of `benches.load`, as one checked value."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from benches.load import cases, servers
from benches.load.cases import Case
from benches.load.cpu import two_cores
from benches.load.servers import Server

DESCRIPTION = """\
Measure server CPU per request, throughput and latency of Nerite, beside the real Triton and a
floor (nginx with a fixed answer), one server at a time: the server on one core, the load
generator on another. Compare figures of one run only, as ratios; under 1.5 they are noise.
"""

EPILOG = """\
examples:
  python -m benches.load                                    everything (about 9 minutes)
  python -m benches.load --servers nerite,nginx --only grpc
  python -m benches.load --only http-binary@64,grpc@64 --duration 1 --rounds 1
  python -m benches.load --json benches/results/today.json
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, for how long, and where."""

    servers: tuple[Server, ...]
    cases: tuple[Case, ...]
    duration: int
    warm_up: int
    repetitions: int
    rounds: int
    server_core: int
    client_core: int
    json: Path | None
    profile: Path | None


def parse(arguments: list[str]) -> Options:
    """The options that these arguments give; argparse ends the program on a bad one."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        return Options(
            servers=servers.select(_words(given.servers)),
            cases=cases.select(_words(given.only)) if given.only else cases.ALL_CASES,
            duration=given.duration,
            warm_up=given.warm_up,
            repetitions=given.repetitions,
            rounds=given.rounds,
            server_core=_core(given.server_core, 0),
            client_core=_core(given.client_core, 1),
            json=given.json,
            profile=given.profile,
        )
    except ValueError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benches.load",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = ", ".join(server.name for server in servers.ALL_SERVERS)
    add(
        "--servers",
        default="nerite,triton,nginx",
        metavar="NAMES",
        help=f"comma-separated: {names}; 'nerite' and 'triton' name all of theirs",
    )
    add(
        "--only",
        metavar="CASES",
        help="comma-separated cases: http-binary, http-json, grpc, each with or without @8 or @64",
    )
    add("--duration", type=_positive, default=3, metavar="S", help="seconds a run (default 3)")
    add(
        "--warm-up",
        type=_positive,
        default=1,
        metavar="S",
        help="seconds of load before the first run of a case, not counted (default 1)",
    )
    add(
        "--repetitions",
        type=_positive,
        default=2,
        metavar="N",
        help="runs a case and round; the one with the least CPU per request is shown (default 2)",
    )
    add(
        "--rounds",
        type=_positive,
        default=2,
        metavar="N",
        help="times that each server is started anew and measured (default 2)",
    )
    add("--server-core", type=int, metavar="N", help="core of the server (default: the first)")
    add("--client-core", type=int, metavar="N", help="core of the generator (default: the second)")
    add("--json", type=Path, metavar="FILE", help="write all runs and the machine's facts there")
    add(
        "--profile",
        type=Path,
        metavar="FOLDER",
        help="after the runs of a case, do one more under perf and write where the time went",
    )
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _core(chosen: int | None, position: int) -> int:
    usable = two_cores()
    if chosen is not None and chosen not in usable:
        raise ValueError(f"core {chosen} may not be used here; there are {usable}")
    return usable[position] if chosen is None else chosen
