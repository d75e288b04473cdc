"""The log, the machine, and a server as a process: signals and exit codes."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nerite.server import environment, process
from nerite.server.log_settings import LogSettings
from nerite.server.logs import formatter, log_of
from nerite.server.options import ServerOptions


class FakeServer:
    """A server whose stop ends when it is told to."""

    def __init__(self, on_start: Callable[[], None], **options: Any) -> None:
        self.options = ServerOptions(**options)
        self.log_settings = LogSettings(self.options)
        self.on_start = on_start
        self.may_stop = threading.Event()
        self.stopping = threading.Event()
        self.in_time = True
        self.failed = False
        self.delaying = False

    def start(self) -> None:
        self.on_start()

    def stop(self) -> bool:
        self.stopping.set()
        assert self.may_stop.wait(10)
        return self.in_time

    def end_delay(self) -> bool:
        delaying, self.delaying = self.delaying, False
        if delaying:
            self.may_stop.set()
        return delaying

    def wait_loaded(self) -> bool:
        return True


def interrupt(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_and_exits_with_0(number: int) -> None:
    before = signal.getsignal(number)
    server = FakeServer(lambda: interrupt(number))
    server.may_stop.set()
    assert process.serve_forever(server) == 0  # type: ignore[arg-type]
    assert server.stopping.is_set()
    assert signal.getsignal(number) is before


def test_out_of_time_is_exit_code_1_with_tritons_text(capfd: pytest.CaptureFixture[str]) -> None:
    server = FakeServer(interrupt)
    server.in_time = False
    server.may_stop.set()
    assert process.serve_forever(server) == 1  # type: ignore[arg-type]
    text = "failed to stop server: Internal - Exit timeout expired. Exiting immediately."
    assert text in capfd.readouterr().err


def test_a_signal_that_is_sent_twice_at_once_is_one() -> None:

    def twice() -> None:
        interrupt()
        interrupt(signal.SIGINT)

    server = FakeServer(twice)
    server.may_stop.set()
    assert process.serve_forever(server) == 0  # type: ignore[arg-type]


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SAME_WISH_SECS", 0)
    server = FakeServer(interrupt)

    def again() -> None:
        assert server.stopping.wait(10)
        interrupt()

    thread = threading.Thread(target=again)
    thread.start()
    assert process.serve_forever(server) == 1  # type: ignore[arg-type]
    assert not server.may_stop.is_set()
    thread.join()
    server.may_stop.set()


def test_a_second_signal_during_the_delay_only_ends_the_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "SAME_WISH_SECS", 0)
    server = FakeServer(interrupt)
    server.delaying = True

    def again() -> None:
        assert server.stopping.wait(10)
        interrupt()

    thread = threading.Thread(target=again)
    thread.start()
    assert process.serve_forever(server) == 0  # type: ignore[arg-type]
    assert not server.delaying
    thread.join()


def test_a_signal_that_comes_just_before_the_wait_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was noted, and its handler ran only when something else ended the wait."""
    events = process._Events()
    seen: list[bool] = []

    def wait(*watched: Any) -> Any:
        # Where the wait begins: the C handler has rung, Python's handler has not run yet.
        os.write(events.bell, b"\0")
        seen.append(True)
        events._waiting.put(process._Event.SIGNAL)
        return real(*watched, 5)

    real = process.select.select
    monkeypatch.setattr(process.select, "select", wait)
    assert events.get() is process._Event.SIGNAL
    assert seen == [True]
    events.close()


def test_exit_on_error_ends_the_server_if_a_model_failed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = FakeServer(lambda: None, exit_on_error=True)
    server.failed = True
    server.may_stop.set()
    assert process.serve_forever(server) == 1  # type: ignore[arg-type]
    assert "creating server: Internal - failed to load all models" in capfd.readouterr().err


# ---- the log


def record(level: int = logging.INFO, text: str = 'say "é"\n') -> logging.LogRecord:
    made = logging.LogRecord("nerite.x", level, "/a/server.py", 79, text, None, None)
    made.created, made.process = 1732333565.7049513, 24773
    return made


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("default", r'I1123 03:46:05.704951 24773 server.py:79] "say \"é\"\n"'),
        ("ISO8601", r'2024-11-23T03:46:05Z I 24773 server.py:79] "say \"é\"\n"'),
    ],
)
def test_lines_look_as_tritons(name: str, line: str) -> None:
    assert formatter(name).format(record()) == line
    assert formatter(name).format(record(logging.WARNING)).split()[name == "ISO8601"][0] == "W"


def test_messages_are_left_as_they_are_where_escaping_is_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "0")
    assert formatter("default").format(record(text="a\tb")).endswith("server.py:79] a\tb")


def test_json_lines_are_objects() -> None:
    line = json.loads(formatter("json").format(record(logging.ERROR)))
    assert (line["level"], line["line"], line["message"]) == ("ERROR", 79, 'say "é"\n')
    assert line["time"] == "2024-11-23T03:46:05.704951Z"


def test_each_level_is_switched_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with log_of(LogSettings(ServerOptions(log_file=str(file), log_info=False, log_verbose=1))):
        log = logging.getLogger("nerite.test")
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(level, "line")
    assert [line[0] for line in file.read_text().splitlines()] == ["I", "W", "E"]
    assert not logging.getLogger("nerite").handlers


# ---- the machine


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "1000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({}, None),
    ],
)
def test_cores_are_those_that_the_container_grants(
    files: dict[str, str], quota: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    allowed = len(os.sched_getaffinity(0))
    assert environment.usable_cores(tmp_path) == (allowed if quota is None else quota)


def test_the_line_of_a_log_carries_the_process() -> None:
    made = logging.LogRecord("nerite", logging.INFO, "/a/b.py", 1, "x", None, None)
    assert re.search(rf" {os.getpid()} b.py:1\] ", formatter("default").format(made))
