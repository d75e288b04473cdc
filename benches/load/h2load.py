# SPDX-License-Identifier: Apache-2.0
"""Load over gRPC with h2load: one fixed message frame, sent again and again.

h2load knows HTTP/2 but not gRPC, which makes it cheap and blind: an error in `grpc-status` looks
like a success to it. `measure` therefore compares the bytes that came back with a right answer.
Its percentiles come from its log file, because not every version prints them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benches.load.cases import STREAMS_PER_CONNECTION
from benches.load.sample import Load

_FINISHED = re.compile(r"^finished in ([\d.]+)(s|ms|us),", re.MULTILINE)
_REQUESTS = re.compile(r"^requests: .*?(\d+) done, (\d+) succeeded", re.MULTILINE)
_FAULTS = re.compile(r"(\d+) failed, (\d+) errored, (\d+) timeout")
_STATUSES = re.compile(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", re.MULTILINE)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data", re.MULTILINE)
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def command(url: str, frame: Path, log: Path, concurrency: int, seconds: int) -> list[str]:
    """Run h2load with eight streams on each of as many connections as the concurrency takes."""
    connections = max(1, concurrency // STREAMS_PER_CONNECTION)
    return [
        "h2load",
        *("--threads", "1"),
        *("--clients", str(connections)),
        *("--max-concurrent-streams", str(concurrency // connections)),
        *("--duration", f"{seconds}s"),
        *("--data", str(frame)),
        *("--header", "content-type: application/grpc"),
        *("--header", "te: trailers"),
        *("--log-file", str(log)),
        url,
    ]


def parse(output: str, log: str) -> Load:
    """The account in h2load's output, with the percentiles of its log file."""
    finished, requests, faults = (
        _found(pattern, output) for pattern in (_FINISHED, _REQUESTS, _FAULTS)
    )
    statuses, data = _found(_STATUSES, output), _found(_DATA, output)
    p50, p99 = percentiles(log)
    return Load(
        requests=int(requests[1]),
        seconds=float(finished[1]) * _SECONDS[finished[2]],
        received_bytes=int(data[1]),
        failed=sum(map(int, faults.groups())) + sum(map(int, statuses.groups()[1:])),
        p50_us=p50,
        p99_us=p99,
    )


def percentiles(log: str) -> tuple[float, float]:
    """Median and 99th percentile of the durations (third column, microseconds) in a log file."""
    durations = [int(line.split("\t")[2]) for line in log.splitlines() if line]
    if not durations:
        raise ValueError("h2load's log file is empty: not one request was answered")
    p50, p99 = np.percentile(durations, [50, 99])
    return float(p50), float(p99)


def _found(pattern: re.Pattern[str], output: str) -> re.Match[str]:
    match = pattern.search(output)
    if match is None:
        raise ValueError(f"h2load's output has no '{pattern.pattern}': {output[-800:]!r}")
    return match
