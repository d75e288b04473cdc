# SPDX-License-Identifier: Apache-2.0
"""Load one running server with the cases, one after the other, and take down what it cost.

A row of the table is the run with the least CPU per request: other work on the machine can only
add to it. A run counts only if every request of it was answered, rightly and in full.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from benches.load import answers, h2load, payload, wrk
from benches.load.answers import LOOPBACK, WrongAnswer
from benches.load.cases import Case, Protocol
from benches.load.cpu import cpu_seconds
from benches.load.options import Options
from benches.load.prepare import Missing, Progress, program
from benches.load.profile import recording
from benches.load.sample import Load, Sample
from benches.load.servers import NotReady, Running, Server, running


@dataclass(frozen=True, slots=True)
class Row:
    """One server in one case: its runs, or why there are none that count."""

    server: Server
    case: Case
    samples: tuple[Sample, ...] = ()
    fault: str | None = None

    @property
    def best(self) -> Sample:
        """The run with the least server CPU per request."""
        return min(self.samples, key=lambda sample: sample.cpu_us)


@dataclass(slots=True)
class Measurements:
    """All rows of a run, and the versions of what was running."""

    rows: list[Row] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


class BadRun(Exception):
    """The generator ran, but not every request was answered rightly."""


def measure(options: Options, folder: Path, progress: Progress) -> Measurements:
    """Every chosen server in every chosen case; what cannot be measured becomes a fault.

    Each round starts every server anew, in turn: runs under one start agree far better with each
    other than with those under the next, so repeating them there would hide the spread.
    """
    found = Measurements()
    for number in range(options.rounds):
        progress(f"round {number + 1} of {options.rounds}")
        for server in options.servers:
            found.rows += _rows(server, options, folder, progress, found.versions)
    found.rows = merged(found.rows)
    return found


def merged(rows: list[Row]) -> list[Row]:
    """One row for each server and case, with the runs of all rounds; a fault in any stands."""
    together: dict[tuple[str, Case], Row] = {}
    for row in rows:
        key = (row.server.name, row.case)
        other = together.get(key, Row(row.server, row.case))
        samples = other.samples + row.samples
        together[key] = Row(row.server, row.case, samples, other.fault or row.fault)
    return list(together.values())


def _rows(
    server: Server, options: Options, folder: Path, progress: Progress, versions: dict[str, str]
) -> list[Row]:
    """All cases under one start of the server."""
    try:
        server.prepare(progress)
        progress(f"starting {server.title}")
        with running(server, folder / server.name, options.server_core) as live:
            versions[server.name] = server.version(live.ports)
            target = Target(server, live, folder)
            return [_row(target, case, options, progress) for case in options.cases]
    except (Missing, NotReady) as error:
        kind = "missing" if isinstance(error, Missing) else "did not start"
        progress(f"  {kind}: {error}")
        return [Row(server, case, fault=f"{kind}: {error}") for case in options.cases]


@dataclass(frozen=True, slots=True)
class Target:
    """A running server, and a folder for the files of the load generators."""

    server: Server
    live: Running
    folder: Path

    def port(self, protocol: Protocol) -> int:
        """Where this protocol is spoken."""
        ports = self.live.ports
        return ports.grpc if protocol is Protocol.GRPC else ports.http

    def ask(self, protocol: Protocol) -> int:
        """Check one answer and say how long it was."""
        return answers.ask(protocol, self.port(protocol), self.server.model(protocol))


def _row(target: Target, case: Case, options: Options, progress: Progress) -> Row:
    try:
        samples = samples_of(target, case, options)
    except (Missing, WrongAnswer, BadRun, OSError, ValueError) as error:
        progress(f"  {case.name:15} {error}")
        kind = "missing" if isinstance(error, Missing) else "wrong"
        return Row(target.server, case, fault=f"{kind}: {error}")
    row = Row(target.server, case, samples)
    progress(f"  {case.name:15} {row.best.cpu_us:8.1f} us {row.best.rate:9.0f} requests/s")
    return row


def samples_of(target: Target, case: Case, options: Options) -> tuple[Sample, ...]:
    answer_bytes = target.ask(case.protocol)
    refused_before = failures_counted(_metrics(target))
    generator = _Generator(target, case, options.client_core)
    check(generator.run(options.warm_up), case, answer_bytes)
    samples = []
    for _ in range(options.repetitions):
        before = cpu_seconds(target.live.process.pid)
        load = generator.run(options.duration)
        spent = cpu_seconds(target.live.process.pid) - before
        check(load, case, answer_bytes)
        samples.append(Sample(load, spent))
    if options.profile is not None:
        report = options.profile / f"{target.server.name}-{case.name.replace('@', '-')}.txt"
        with recording(target.live.process.pid, report):
            generator.run(options.duration)
    refused = failures_counted(_metrics(target)) - refused_before
    if refused:
        raise BadRun(f"the server itself counts {refused} failed requests")
    target.ask(case.protocol)
    return tuple(samples)


@dataclass(frozen=True, slots=True)
class _Generator:
    """wrk or h2load, set up for one case."""

    target: Target
    case: Case
    core: int

    def run(self, seconds: int) -> Load:
        """Load the server for so long."""
        if self.case.protocol is Protocol.GRPC:
            return self._h2load(seconds)
        return self._wrk(seconds)

    def _wrk(self, seconds: int) -> Load:
        protocol = self.case.protocol
        script = self.target.folder / f"{protocol.value}.lua"
        script.write_text(wrk.script(payload.http_request(protocol)))
        url = self._url(payload.http_path(self.target.server.model(protocol)))
        return wrk.parse(self._pinned(wrk.command(url, script, self.case.concurrency, seconds)))

    def _h2load(self, seconds: int) -> Load:
        frame, log = self.target.folder / "frame.bin", self.target.folder / "h2load.log"
        frame.write_bytes(payload.grpc_request(self.target.server.model(Protocol.GRPC)))
        log.unlink(missing_ok=True)  # h2load would append to it
        url = self._url(payload.GRPC_PATH)
        output = self._pinned(h2load.command(url, frame, log, self.case.concurrency, seconds))
        return h2load.parse(output, log.read_text())

    def _url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self.target.port(self.case.protocol)}{path}"

    def _pinned(self, command: list[str]) -> str:
        pin = [program("taskset"), "-c", str(self.core), program(command[0])]
        done = subprocess.run(pin + command[1:], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BadRun(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout


def check(load: Load, case: Case, answer_bytes: int) -> None:
    """Raise BadRun unless all requests of the run were answered with as much as the right one."""
    if load.requests == 0:
        raise BadRun("not one request was answered")
    if load.failed:
        raise BadRun(f"{load.failed} of {load.requests} requests failed")
    # Answers that were on their way when the time was up may be counted in part.
    surplus = load.received_bytes - load.requests * answer_bytes
    if abs(surplus) > case.concurrency * answer_bytes:
        each = load.received_bytes / load.requests
        raise BadRun(f"answers had {each:.1f} bytes on average, a right one has {answer_bytes}")


def failures_counted(metrics: str) -> int:
    """The sum of Triton's counter of failed requests; 0 where there is no such counter.

    Cancelled ones do not count: the generators hang up in mid-request when their time is over.
    """
    lines = re.findall(r"^nv_inference_request_failure\{(.*)\} (\S+)$", metrics, re.MULTILINE)
    return int(sum(float(value) for labels, value in lines if "CANCELED" not in labels))


def _metrics(target: Target) -> str:
    try:
        status, text = answers.get(target.live.ports.metrics, "/metrics")
    except ConnectionRefusedError:
        return ""  # the floor has none
    return text.decode() if status == 200 else ""
