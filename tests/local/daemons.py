"""`nerite up` as a process of its own, and the verbs that talk to it."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nerite.cli.app import main
from nerite.local.client import DaemonClient
from nerite.local.settings import socket_path

PATIENCE_SECS = 60
NERITE = [sys.executable, "-m", "nerite"]
FREE = ("--http-port=0", "--grpc-port=0")


@dataclass(frozen=True)
class Said:
    """What a verb left behind."""

    returncode: int
    stdout: str
    stderr: str


def _is_first(line: str) -> bool:
    return line.startswith("nerite up:")


class Up:
    """A running daemon; what it printed is in `lines`."""

    def __init__(self, home: Path, *words: object) -> None:
        self.home = home
        self.environment = {**os.environ, "NERITE_HOME": str(home)}
        self.process = subprocess.Popen(
            [*NERITE, "up", *FREE, *map(str, words)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.client = DaemonClient(socket_path(home))
        self.lines: list[str] = []
        found = re.search(r"HTTP on (\S+), gRPC on ([^\s,]+)", self.until(_is_first))
        assert found is not None
        self.http, self.grpc = found.groups()

    def until(self, wanted: Callable[[str], bool]) -> str:
        """Reads until a line is as wanted."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if wanted(line):
                return line
        raise AssertionError(f"it ended: {self.lines}")

    def run(self, *words: object) -> Said:
        """A verb in this process, and what it said."""
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NERITE_HOME", str(self.home))
            with redirect_stdout(out), redirect_stderr(err):
                code = main([str(word) for word in words])
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        return Said(code, *texts)

    def service(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """A service's object as it is now."""
        (value,) = self.client.objects("InferenceService", namespace, name)
        return value

    def watch(
        self, name: str, wanted: Callable[[dict[str, Any]], bool], namespace: str = "default"
    ) -> dict[str, Any]:
        """The service's object as soon as it is as wanted."""
        last: dict[str, Any] = {}
        ends = time.monotonic() + PATIENCE_SECS
        for change in self.client.watch("InferenceService", namespace, name):
            last = change["object"]
            if wanted(last):
                return last
            assert time.monotonic() < ends, json.dumps(last, indent=1)
        raise AssertionError(f"the daemon ended; last: {json.dumps(last, indent=1)}")

    def ready(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """The service's object as soon as it is ready."""
        return self.watch(name, is_ready, namespace)

    def processes(self, name: str, namespace: str = "default") -> list[int]:
        """The ids of a service's processes."""
        details = self.client.details(namespace, name)
        return [pid for component in details["components"] for pid in component["pids"]]

    def processes_when(self, name: str, wanted: Callable[[list[int]], bool]) -> list[int]:
        """The ids of a service's processes as soon as they are as wanted, which no watch tells."""
        ends = time.monotonic() + PATIENCE_SECS
        while not wanted(found := self.processes(name)):
            assert time.monotonic() < ends, found
            time.sleep(0.05)
        return found

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ends it; its exit code."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        return self.process.wait(PATIENCE_SECS)


def is_ready(value: dict[str, Any]) -> bool:
    return condition(value, "Ready").get("status") == "True"


def condition(value: dict[str, Any], kind: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = value.get("status", {}).get("conditions", [])
    return next((entry for entry in found if entry["type"] == kind), {})


@contextmanager
def up(home: Path, *words: object) -> Iterator[Up]:
    """A daemon that is killed if the test leaves it running."""
    daemon = Up(home, *words)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        if daemon.process.stdout is not None:
            daemon.process.stdout.close()


def wait_gone(pid: int) -> None:
    """Returns when a process that is nobody's child here is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone, _, _ = select.select([handle], [], [], PATIENCE_SECS)
    os.close(handle)
    assert gone, f"process {pid} is still there"


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
