# SPDX-License-Identifier: Apache-2.0
"""Real processes for the supervisor: started, listened to, ended by their own id, and probed.

A child leads its own process group and gets SIGKILL from the kernel when the thread that started
it ends, whatever ends it: that thread must live as long as the daemon. Its whole group is killed
when it has exited, before its id can belong to anyone else; should the daemon itself be killed,
`guard` does that.
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
_GUARD = str(Path(__file__).with_name("guard.py"))
_LONGEST_LINE = 64 * 1024

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
        self._guard = _Guard()

    def close(self) -> None:
        """No more will be started; what still runs is killed."""
        self._guard.close()

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
        self._guard.tell(f"+{process.pid}")
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, on_output), daemon=True)
        reader.start()
        ending = (process, reader, self._guard, on_exit)
        threading.Thread(target=_wait, args=ending, daemon=True).start()
        return _Process(process)


class _Guard:
    """The process that outlives this one for a moment, should this one be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        self._lock = threading.Lock()

    def tell(self, text: str) -> None:
        """Adds (`+`) or strikes off (`-`) a process group."""
        assert self._process.stdin is not None
        # A guard that somebody killed guards no more; the children still die with this process.
        with self._lock, suppress(OSError, ValueError):
            self._process.stdin.write(f"{text}\n")

    def close(self) -> None:
        """Ends it, and with it every group that was not struck off."""
        assert self._process.stdin is not None
        with self._lock, suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


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
        while line := pipe.readline(_LONGEST_LINE):
            # A full disk must not stop the reading: the child would wait for it.
            with suppress(OSError):
                on_output(line)


def _wait(
    process: subprocess.Popen[bytes], reader: threading.Thread, guard: _Guard, on_exit: OnExit
) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    guard.tell(f"-{process.pid}")
    code = process.wait()
    reader.join(2.0)
    on_exit(code if code >= 0 else 128 - code)


class Prober(Protocol):
    """Asks processes whether they are ready, or alive."""

    def probe(self, probe: Probe, port: int, done: Callable[[bool], None]) -> None:
        """Asks, and calls `done` with the answer from any thread."""


class ThreadProber:
    """Asks in a thread of its own, which ends with the answer."""

    def probe(self, probe: Probe, port: int, done: Callable[[bool], None]) -> None:
        """See `Prober`."""
        threading.Thread(target=lambda: done(is_ready(probe, port)), daemon=True).start()


def is_ready(probe: Probe, port: int) -> bool:
    """Whether a server of this machine answers a probe."""
    try:
        if probe.kind == "tcp":
            socket.create_connection(("127.0.0.1", port), probe.timeout).close()
            return True
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=probe.timeout)
        try:
            connection.request("GET", probe.path)
            return 200 <= connection.getresponse().status < 400
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False
