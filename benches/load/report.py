# SPDX-License-Identifier: Apache-2.0
"""The table that is printed and the JSON file that is kept.

The file holds every run and not only the best, with what is needed to judge and repeat it: date,
processor, versions and command. It names neither the host nor any folder of it.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benches.load.cases import GOALS_US, Case
from benches.load.measure import Measurements, Row
from benches.load.options import Options
from benches.load.prepare import Missing, program
from benches.load.servers import family

_HEADINGS = ("case", "server", "CPU us", "req/s", "p50 ms", "p99 ms", "/ Triton", "/ floor", "goal")


def table(measurements: Measurements, cases: tuple[Case, ...]) -> str:
    """All rows, grouped by case, with CPU as a ratio to Triton's and to the floor's."""
    lines = [_line(_HEADINGS), _line(tuple("-" * len(heading) for heading in _HEADINGS))]
    for case in cases:
        rows = [row for row in measurements.rows if row.case == case]
        for row in rows:
            lines.append(_fault_line(row) if row.fault else _line(_cells(row, rows)))
        lines.append("")
    return "\n".join(lines[:-1])


def document(measurements: Measurements, options: Options, arguments: list[str]) -> dict[str, Any]:
    """What the JSON file holds."""
    return {
        **facts("benches.load", arguments),
        "versions": measurements.versions | tool_versions(),
        "settings": {
            "duration_seconds": options.duration,
            "warm_up_seconds": options.warm_up,
            "repetitions": options.repetitions,
            "rounds": options.rounds,
        },
        "rows": [_row_document(row) for row in measurements.rows],
    }


def facts(module: str, arguments: list[str]) -> dict[str, Any]:
    """What every results file begins with: when, how and on what it was made."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", module, *arguments]),
        "machine": machine(),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write it, readable by people too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """The facts of the machine that figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


def tool_versions() -> dict[str, str]:
    """The versions of the load generators and of the client that checks the answers."""
    return {
        "wrk": _first_line(["wrk", "-v"]),
        "h2load": _first_line(["h2load", "--version"]),
        "tritonclient": version("tritonclient"),
        "numpy": version("numpy"),
    }


def _cells(row: Row, rows: list[Row]) -> tuple[str, ...]:
    best = row.best
    return (
        row.case.name,
        row.server.title,
        f"{best.cpu_us:.1f}",
        f"{best.rate:.0f}",
        f"{best.load.p50_us / 1e3:.2f}",
        f"{best.load.p99_us / 1e3:.2f}",
        _ratio(row, rows, "triton"),
        _ratio(row, rows, "nginx"),
        _goal(row),
    )


def _ratio(row: Row, rows: list[Row], peer: str) -> str:
    """CPU of this row as a multiple of the peer's in the same case."""
    for other in rows:
        if family(other.server) == peer and other.samples:
            return f"{row.best.cpu_us / other.best.cpu_us:.2f}"
    return "-"


def _goal(row: Row) -> str:
    goal = GOALS_US.get(row.case)
    if goal is None or family(row.server) != "nerite":
        return ""
    return f"{goal:.0f} {'met' if row.best.cpu_us <= goal else 'missed'}"


def _line(cells: tuple[str, ...]) -> str:
    case, server, *figures = cells
    return f"{case:<15}  {server:<26}" + "".join(f"{cell:>10}" for cell in figures)


def _fault_line(row: Row) -> str:
    return f"{row.case.name:<15}  {row.server.title:<26}  {row.fault}"


def _row_document(row: Row) -> dict[str, Any]:
    head = {"server": row.server.name, "case": row.case.name}
    if row.fault:
        return head | {"fault": row.fault}
    runs = [
        {
            "cpu_us_per_request": round(sample.cpu_us, 2),
            "requests_per_second": round(sample.rate, 1),
            "p50_us": sample.load.p50_us,
            "p99_us": sample.load.p99_us,
            "requests": sample.load.requests,
            "seconds": round(sample.load.seconds, 3),
            "cpu_seconds": round(sample.cpu_seconds, 2),
        }
        for sample in row.samples
    ]
    return head | {"least_cpu_us_per_request": round(row.best.cpu_us, 2), "runs": runs}


def _first_line(command: list[str]) -> str:
    try:
        path = program(command[0])
    except Missing:
        return "missing"
    said = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).partition("\n")[0].partition(" [")[0].strip()
