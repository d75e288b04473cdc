"""`nerite up` as a process: its terminal, its signals, its lock, and what outlives a kill."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.local.daemons import NERITE, Up, is_alive, up, wait_gone
from tests.local.manifests import infer, isvc, url_of, write

from nerite.local.client import DaemonClient
from nerite.local.settings import socket_path

pytestmark = pytest.mark.timeout(180)


def test_a_killed_daemon_leaves_no_process_and_restores_everything(
    tmp_path: Path, models: Path
) -> None:
    file = write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double"))
    with up(tmp_path / "home", "-f", file) as daemon:
        before = daemon.ready("double")
        (pid,) = daemon.processes("double")
        daemon.process.kill()
        wait_gone(pid)
    with up(tmp_path / "home") as daemon:
        after = daemon.ready("double")
        components = [value["status"]["components"] for value in (before, after)]
        assert components[0] == components[1]
        assert after["metadata"] == before["metadata"]
        assert infer(url_of(after), "double", "x", [[3, 4]]) == [6, 8]


def test_one_folder_has_one_daemon(daemon: Up) -> None:
    ran = daemon.run("up")
    assert ran.returncode == 1
    assert f"another daemon runs already (process {daemon.process.pid}" in ran.stderr


ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "nerite", *sys.argv[1:]])
"""


def test_on_a_terminal_the_table_is_live_and_ctrl_c_ends_everything(
    tmp_path: Path, models: Path
) -> None:
    file = write(tmp_path / "a.yaml", isvc("double", "onnx", models / "double"))
    home = tmp_path / "home"
    environment = {**os.environ, "NERITE_HOME": str(home), "COLUMNS": "120", "TERM": "xterm"}
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, "up", "-f", str(file)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        shown = b""
        while not re.search(rb"True.*http://127\.0\.0\.1:\d+", shown):
            shown += os.read(screen, 65536)
        assert b"default/double" in shown
        assert b"predictor" in shown
        (pid,) = [
            pid
            for component in DaemonClient(socket_path(home)).details("default", "double")[
                "components"
            ]
            for pid in component["pids"]
        ]
        os.write(screen, b"\x03")
        with suppress(OSError):  # what Linux says at the end of a terminal's output
            while os.read(screen, 65536):
                continue
        assert process.wait(60) == 0
    os.close(screen)
    assert not is_alive(pid)


def test_a_second_ctrl_c_does_not_wait_for_a_stubborn_process(tmp_path: Path) -> None:
    stubborn = (
        "import signal, sys, time, http.server as h\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
        "print('up', flush=True)\n"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.SimpleHTTPRequestHandler).serve_forever()"
    )
    value = isvc("stubborn", "onnx", "/")
    container = {"command": ["python", "-c", stubborn, "8080"]}
    value["spec"]["predictor"] = {"containers": [container]}
    with up(tmp_path / "home", "-f", write(tmp_path / "a.yaml", value)) as daemon:
        daemon.ready("stubborn")
        (pid,) = daemon.processes("stubborn")
        with subprocess.Popen(
            [*NERITE, "logs", "stubborn", "-f"], env=daemon.environment, stdout=subprocess.PIPE
        ) as log:
            assert log.stdout is not None
            assert log.stdout.readline() == b"up\n"  # the log is open and is followed
            daemon.process.send_signal(signal.SIGINT)
            while b"no" not in (line := log.stdout.readline()):
                assert line, "the process was not asked to end"
            # Half a second has to pass, or the second one counts as an echo of the first.
            while daemon.process.poll() is None:
                daemon.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    daemon.process.wait(0.6)
            log.terminate()
        assert daemon.process.returncode == 1
        wait_gone(pid)
