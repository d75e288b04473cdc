"""Real children: their output, their end, and what becomes of them when their parent is killed."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.local.daemons import is_alive, wait_gone

from nerite.local.containers import Placed, Probe
from nerite.local.logs import Log, Tail
from nerite.local.ports import Ports, any_free, is_free
from nerite.local.processes import ProcessSpawner, is_ready


class Ran:
    """One child and what it told."""

    def __init__(self, code: str, **environment: str) -> None:
        self.output: queue.Queue[bytes] = queue.Queue()
        self.code: queue.Queue[int] = queue.Queue()
        placed = Placed((sys.executable, "-c", textwrap.dedent(code)), environment)
        self.spawner = ProcessSpawner({"PATH": os.environ["PATH"], "HOUSE": "blue"})
        self.child = self.spawner.spawn(placed, self.output.put, self.code.put)

    def line(self) -> str:
        return self.output.get(timeout=10).decode().strip()

    def exit(self) -> int:
        code = self.code.get(timeout=10)
        self.spawner.close()
        return code


def test_output_environment_and_exit_code() -> None:
    ran = Ran(
        """
        import os, sys
        print(os.environ["HOUSE"], os.environ["SERVICE"], flush=True)
        print("to stderr", file=sys.stderr, flush=True)
        sys.exit(3)
        """,
        SERVICE="irises",
    )
    assert ran.line() == "blue irises"
    assert ran.line() == "to stderr"
    assert ran.exit() == 3


def test_signals_end_it_as_a_shell_tells_it() -> None:
    waiting = "import time\nprint('up', flush=True)\ntime.sleep(60)"
    asked = Ran(waiting)
    assert asked.line() == "up"
    asked.child.terminate()
    assert asked.exit() == 143
    forced = Ran(waiting)
    assert forced.line() == "up"
    forced.child.kill()
    assert forced.exit() == 137
    forced.child.kill()  # of one that is gone: nobody else may be hit


def test_what_a_child_started_ends_with_it() -> None:
    ran = Ran(
        """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(child.pid, flush=True)
        """
    )
    grandchild = int(ran.line())
    assert ran.exit() == 0
    wait_gone(grandchild)


def test_a_program_that_is_not_there_says_so() -> None:
    output: queue.Queue[bytes] = queue.Queue()
    code: queue.Queue[int] = queue.Queue()
    spawner = ProcessSpawner({})
    spawner.spawn(Placed(("/no/such",), {}), output.put, code.put)
    assert b"cannot run /no/such" in output.get(timeout=10)
    assert code.get(timeout=10) == 127
    spawner.close()


PARENT = """
import sys, time
from nerite.local.containers import Placed
from nerite.local.processes import ProcessSpawner
def show(line):
    print(line.decode().strip(), flush=True)
code = (
    "import os, subprocess, sys, time\\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\\n"
    "print(os.getpid(), child.pid, flush=True)\\n"
    "time.sleep(60)\\n"
)
ProcessSpawner({}).spawn(Placed((sys.executable, "-c", code), {}), show, print)
time.sleep(60)
"""


def test_children_and_theirs_die_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert [is_alive(pid) for pid in pids] == [True, True]
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        for pid in pids:
            wait_gone(pid)


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("probe", "ready"),
    [
        (Probe(0, "/ready", kind="http"), True),
        (Probe(0, "/other", kind="http"), False),
        (Probe(0), True),
    ],
)
def test_probes_ask_for_a_path_or_for_an_open_port(probe: Probe, ready: bool) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        assert is_ready(probe, port) is ready
        server.shutdown()
        thread.join()
    assert not is_ready(probe, port)


def test_ports_are_kept_while_they_are_free() -> None:
    remembered: dict[str, int] = {}
    ports = Ports(remembered, remembered.__setitem__)
    first = ports.take("irises/8080")
    assert ports.take("irises/8080") != first  # both are in use
    ports.give_back(first)
    again = Ports({"irises/8080": first})
    assert again.take("irises/8080") == first
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = other.getsockname()[1]
        assert not is_free(busy)
        assert Ports({"irises/8080": busy}).take("irises/8080") != busy
        assert not ports.take_fixed(busy)
    free = any_free()
    assert ports.take_fixed(free)
    assert not ports.take_fixed(free)


def test_a_log_stays_within_its_size_and_keeps_the_end(tmp_path: Path) -> None:
    log = Log(tmp_path / "logs/a.log", largest=100, kept=2)
    for i in range(100):
        log.write(f"line {i:03}\n".encode())
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "logs").iterdir()}
    assert set(sizes) == {"a.log", "a.log.1", "a.log.2"}
    assert max(sizes.values()) <= 100
    lines = log.lines()
    assert lines[-1] == b"line 099\n"
    assert lines == [f"line {i:03}\n".encode() for i in range(100 - len(lines), 100)]
    assert log.lines(tail=2) == [b"line 098\n", b"line 099\n"]
    log.close()


def test_a_log_is_followed_through_rotations_until_it_closes(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.log", largest=50, kept=2)
    log.write(b"old\n")
    seen: queue.Queue[bytes] = queue.Queue()
    thread = Thread(target=lambda: [seen.put(line) for line in log.follow(1, lambda: True)])
    thread.start()
    assert seen.get(timeout=10) == b"old\n"
    for i in range(30):
        log.write(f"new {i:02}\n".encode())
        assert seen.get(timeout=10) == f"new {i:02}\n".encode()
    log.close()
    thread.join(10)
    assert not thread.is_alive()


def test_the_reason_of_an_end_is_the_last_of_the_log() -> None:
    tail = Tail()
    tail.add(b"Traceback\n")
    tail.add(b"ValueError: no\n")
    assert tail.reason() == "Traceback\nValueError: no"
    for i in range(1000):
        tail.add(b"x" * 100 + str(i).encode())
    assert len(tail.reason()) == 2048


@pytest.fixture(autouse=True)
def no_child_is_left() -> object:
    yield
    with suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG)[0] == 0
