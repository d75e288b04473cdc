"""Keys that change while a server runs, management from afar, and secrets that stay secret."""

from __future__ import annotations

import json
import logging
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.keyed import INFER, asked, bearer, called, make_key, write_models
from tritonclient.grpc import service_pb2

from nerite.server import key_watch
from nerite.server.access_options import AccessOptions, Restriction
from nerite.server.trace_options import TraceOptions, TraceRule
from nerite.testing import serve


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@contextmanager
def log_lines() -> Iterator[queue.SimpleQueue[str]]:
    """What the watch of the keys writes."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    handler = logging.Handler()
    handler.emit = lambda record: lines.put(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger(key_watch.__name__)
    level, before = logging.INFO, log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def test_keys_are_read_again_and_a_broken_file_changes_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_watch, "INTERVAL_SECS", 0.02)
    file = tmp_path / "keys.txt"
    first = make_key(file, "first", "infer")

    def status(key: str) -> int:
        return asked(server.http_url, "GET", "/v2", bearer(key))[0]

    with log_lines() as lines, serve(repository, access=AccessOptions(api_keys=file)) as server:
        assert lines.get(timeout=5) == f"1 API keys of {file} are in force"
        second = make_key(file, "second", "infer")
        assert lines.get(timeout=5) == f"2 API keys of {file} are in force"
        assert (status(first), status(second)) == (200, 200)
        good = file.read_text()
        file.write_text(f"# rotated\n\n{second} not-a-digest infer *\n")
        assert lines.get(timeout=5) == (
            f"API keys stay as they were: {file}:3: the name is not usable; up to 64 letters, "
            "digits and '._@-' are, and it does not begin with 'nrt_'"
        )
        assert (status(first), status(second)) == (200, 200)
        file.unlink()
        assert f"{file}: API keys cannot be read: No such file" in lines.get(timeout=5)
        assert (status(first), status(second)) == (200, 200)
        # As a mounted secret is swapped: another file takes the place of the old one.
        (tmp_path / "new").write_text(good.splitlines()[1] + "\n")
        (tmp_path / "new").rename(file)
        assert lines.get(timeout=5) == f"1 API keys of {file} are in force"
        assert (status(first), status(second)) == (401, 200)


def test_management_is_for_whoever_is_near_unless_a_flag_says_otherwise(repository: Path) -> None:
    settings = {"log_verbose_level": 0}
    relays = (
        {"X-Forwarded-For": "10.0.0.1"},
        {"Forwarded": "for=10.0.0.1"},
        {"Origin": "http://x"},
    )
    message = service_pb2.LogSettingsRequest()
    message.settings["log_verbose_level"].uint32_param = 0
    path = "/inference.GRPCInferenceService/LogSettings"
    with serve(repository) as server:
        url = server.http_url
        assert asked(url, "POST", "/v2/logging", body=settings)[0] == 200
        for relay in relays:
            assert asked(url, "GET", "/v2/logging", relay)[0] == 200
            status, text = asked(url, "POST", "/v2/logging", relay, settings)
            assert status == 403
            assert json.loads(text)["error"] == (
                "POST /v2/logging manages the server and is answered to loopback peers only; send "
                "a key with scope 'manage' (--api-keys) or start the server with "
                "--allow-remote-management"
            )
            assert asked(url, "POST", "/v2/models/own-a/infer", relay, INFER)[0] == 200
        bytes_ = message.SerializeToString()
        assert called(server, path, bytes_)[0] == "OK"
        assert called(server, path, b"", x_forwarded_for="10.0.0.1")[0] == "OK"
        assert called(server, path, bytes_, x_forwarded_for="10.0.0.1")[0] == "PERMISSION_DENIED"
    with serve(repository, access=AccessOptions(remote_management=True)) as server:
        for relay in relays:
            assert asked(server.http_url, "POST", "/v2/logging", relay, settings)[0] == 200
        assert called(server, path, bytes_, x_forwarded_for="10.0.0.1")[0] == "OK"


def test_no_key_appears_anywhere(repository: Path, tmp_path: Path) -> None:
    file, access, traces = (tmp_path / name for name in ("keys", "access.log", "traces"))
    key = make_key(file, "canary", "infer,manage,metrics")
    wrong, value = "nrt_wrong-canary", "restricted-canary"
    options: dict[str, Any] = {
        "access": AccessOptions(
            api_keys=file,
            http_header_forward=".*",
            grpc_header_forward=".*",
            http_restricted=(Restriction(("trace",), "gate", value),),
        ),
        "access_log": str(access),
        "log_verbose": 2,
        "tracing": TraceOptions(
            rule=TraceRule(levels=("TIMESTAMPS", "TENSORS"), rate=1), file=str(traces)
        ),
    }
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("nerite").addHandler(handler)
    logging.getLogger("nerite").setLevel(logging.DEBUG)
    try:
        with serve(repository, **options) as server:
            answers = []
            for shown in (bearer(key), bearer(wrong), {"Authorization": f"Basic {key}"}):
                for url, path in ((server.http_url, "/v2"), (server.metrics_url, "/metrics")):
                    answers.append(asked(url, "GET", path, shown)[1])
                answer = asked(server.http_url, "POST", "/v2/models/own-a/infer", shown, INFER)
                answers.append(answer[1])
                gate = {**shown, "gate": value}
                answers.append(asked(server.http_url, "GET", "/v2/trace/setting", gate)[1])
                path = "/inference.GRPCInferenceService/ServerMetadata"
                answers.append(called(server, path, authorization=shown["Authorization"])[1])
            told = repr(server.options)
    finally:
        logging.getLogger("nerite").removeHandler(handler)
        logging.getLogger("nerite").setLevel(logging.NOTSET)
    written = access.read_text() + "".join(p.read_text() for p in tmp_path.glob("traces*"))
    assert "/v2/models/own-a/infer" in written
    assert any("own-a" in line for line in lines)
    for text in (*answers, *lines, written, told, file.read_text()):
        assert key not in text
        assert wrong not in text
        assert value not in text
