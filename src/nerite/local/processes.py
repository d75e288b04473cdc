# SPDX-License-Identifier: Apache-2.0
"""Real processes for the supervisor: started, listened to, ended by their own id, and probed.

A child leads its own process group and gets SIGKILL from the kernel when the thread that started
it ends, whatever ends it: that thread must live as long as the daemon. Its whole group is killed
when it has exited, before its id can belong to anyone else.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from nerite.local.containers import Placed, Probe

_LAUNCH = str(Path(__file__).with_name("launch.py"))
_PROBE_SECS = 2.0

OnOutput = Callable[[bytes], None]
OnExit = Callable[[int], None]


class Child(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int:
        """Its id."""
        ...

    def terminate(self) -> None:
        """Asks it to end."""

    def kill(self) -> None:
        """Ends it and all of its group."""


class Spawner(Protocol):
    """Starts processes."""

    def spawn(self, placed: Placed, on_output: OnOutput, on_exit: OnExit) -> Child:
        """Starts one; raises OSError if that is impossible. Both callbacks come from threads."""
        ...


class ProcessSpawner:
    """Starts children of this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    def spawn(self, placed: Placed, on_output: OnOutput, on_exit: OnExit) -> Child:
        """See `Spawner`; to be called from a thread that outlives the child."""
        words = [sys.executable, "-I", "-S", _LAUNCH, str(os.getpid()), *placed.argv]
        process = subprocess.Popen(
            words,
            cwd=placed.directory or None,
            env={**self._environment, **placed.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, on_output), daemon=True)
        reader.start()
        threading.Thread(target=_wait, args=(process, reader, on_exit), daemon=True).start()
        return _Process(process)


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)


def _read(pipe: IO[bytes], on_output: OnOutput) -> None:
    with pipe:
        for line in pipe:
            on_output(line)


def _wait(process: subprocess.Popen[bytes], reader: threading.Thread, on_exit: OnExit) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    reader.join(2.0)
    on_exit(code if code >= 0 else 128 - code)


class Prober(Protocol):
    """Asks processes whether they are ready."""

    def probe(self, probe: Probe, port: int, done: Callable[[bool], None]) -> None:
        """Asks, and calls `done` with the answer from any thread."""


class ThreadProber:
    """Asks in a thread of its own, which ends with the answer."""

    def probe(self, probe: Probe, port: int, done: Callable[[bool], None]) -> None:
        """See `Prober`."""
        threading.Thread(target=lambda: done(is_ready(probe, port)), daemon=True).start()


def is_ready(probe: Probe, port: int) -> bool:
    """Whether a server of this machine answers its readiness probe."""
    try:
        if probe.kind == "tcp":
            socket.create_connection(("127.0.0.1", port), _PROBE_SECS).close()
            return True
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_SECS)
        try:
            connection.request("GET", probe.path)
            return 200 <= connection.getresponse().status < 400
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False
