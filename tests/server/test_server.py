"""A server's life: ports, loading, readiness, control calls, stop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from nerite.errors import InvalidArgument, NotFound, Unavailable, Unsupported
from nerite.models.events import ModelEvent
from nerite.server.options import ServerOptions
from nerite.server.server import Server

IDENTITY = """backend: "identity"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
BROKEN = IDENTITY + "what: 3"


def repository(path: Path, **configs: str) -> Path:
    for name, text in configs.items():
        (path / name / "1").mkdir(parents=True)
        (path / name / "config.pbtxt").write_text(text)
    path.mkdir(exist_ok=True)
    return path


def options(*repositories: Path, **more: Any) -> ServerOptions:
    return ServerOptions(repositories=repositories, http_address="127.0.0.1", **more)


def test_ports_open_before_models_load_and_ready_comes_last(tmp_path: Path, fake_core: Any) -> None:
    with Server(options(repository(tmp_path / "r", a=IDENTITY, b=IDENTITY))) as server:
        server.wait_ready(10)
        assert server.ready
        told = fake_core.last.told
        assert told[:3] == [("listen", name) for name in ("http", "grpc", "metrics")]
        assert told.index(("ready", True)) > told.index(("publish", "a", 1))
        assert told.index(("ready", True)) > told.index(("publish", "b", 1))
    assert fake_core.last.told[-1] == "stop"
    assert not server.ready


def test_stopping_drains_before_models_are_unloaded(tmp_path: Path, fake_core: Any) -> None:
    server = Server(options(repository(tmp_path / "r", a=IDENTITY))).start()
    server.wait_ready(10)
    assert server.stop(5)
    told = fake_core.last.told
    last = [
        told.index("drain"),
        len(told) - 1 - told[::-1].index(("publish", "a", 0)),
        told.index("stop"),
    ]
    assert last == sorted(last)
    assert not [t for t in threading.enumerate() if t.name.startswith("nerite-")]
    assert server.stop(5)


def test_a_stop_that_runs_out_of_time_says_so(tmp_path: Path, fake_core: Any) -> None:
    server = Server(options(repository(tmp_path / "r", a=IDENTITY))).start()
    fake_core.last.drains = False
    assert not server.stop(5)


def test_a_failed_model_leaves_the_server_up_but_not_ready(tmp_path: Path, fake_core: Any) -> None:
    folder = repository(tmp_path / "r", good=IDENTITY, bad=BROKEN)
    with Server(options(folder)) as server:
        with pytest.raises(
            Unavailable, match="model 'bad' is UNAVAILABLE: Invalid argument: failed"
        ):
            server.wait_ready(10)
        assert server.failed
        assert not server.ready
        assert not fake_core.last.ready


def test_without_strict_readiness_the_others_are_enough(tmp_path: Path, fake_core: Any) -> None:
    folder = repository(tmp_path / "r", good=IDENTITY, bad=BROKEN)
    with Server(options(folder, strict_readiness=False)) as server:
        server.wait_ready(10)
        assert fake_core.last.ready


def test_a_server_without_models_is_ready(fake_core: Any) -> None:
    with Server(ServerOptions()) as server:
        server.wait_ready(1)
        assert fake_core.last.ready


def test_observers_hear_of_every_model(tmp_path: Path, fake_core: Any) -> None:
    events: list[ModelEvent] = []
    folder = repository(tmp_path / "r", good=IDENTITY, bad=BROKEN)
    with Server(options(folder), observer=events.append) as server:
        server.wait_loaded(10)
        loaded = {event.name: event.state.value for event in events}
    assert loaded == {"good": "READY", "bad": "UNAVAILABLE"}


def test_the_index_is_answered_from_the_states(tmp_path: Path, fake_core: Any) -> None:
    folder = repository(tmp_path / "r", good=IDENTITY, bad=BROKEN)
    with Server(options(folder)) as server:
        server.wait_loaded(10)
        ask = fake_core.last.ask
        good = {"name": "good", "version": "1", "state": "READY"}
        bad, other = ask("repository_index")
        assert other == good
        assert (bad["name"], bad["state"]) == ("bad", "UNAVAILABLE")
        assert "config.pbtxt:4:1" in bad["reason"]
        assert ask("repository_index", b'{"ready": true}') == [good]
        assert len(ask("repository_index", b'{"ready": false}')) == 2
        for payload in (b"{x", b"[]", b'{"ready": 1}'):
            assert isinstance(ask("repository_index", payload), InvalidArgument)
        refused = ask("repository_load", b'{"transport": "http", "model": "good", "body": ""}')
        assert isinstance(refused, Unavailable)
        assert "control mode is none" in str(ask("repository_unload", b'{"model": "good"}'))
        assert isinstance(ask("something"), Unsupported)


def test_urls_name_the_ports_that_were_opened(fake_core: Any) -> None:
    chosen = ServerOptions(http_port=0, grpc_port=0, metrics_port=0)
    server = Server(chosen)
    with pytest.raises(Unavailable, match="the http port is not open"):
        _ = server.http_url
    with server:
        assert server.http_url == "http://127.0.0.1:40001"
        assert server.grpc_url == "127.0.0.1:40002"
        assert server.metrics_url == "http://127.0.0.1:40003/metrics"
    with Server(ServerOptions(http_address="::", allow_grpc=False, allow_metrics=False)) as server:
        assert server.http_url == "http://[::1]:8000"
        with pytest.raises(Unavailable):
            _ = server.grpc_url


def test_a_port_that_cannot_be_opened_ends_the_start(fake_core: Any) -> None:
    with pytest.raises(Unavailable, match="cannot bind"):
        Server(ServerOptions(http_port=1)).start()
    assert fake_core.last.told == ["stop"]


def test_a_repository_that_is_not_there_ends_the_start(tmp_path: Path, fake_core: Any) -> None:
    with pytest.raises(NotFound):
        Server(options(tmp_path / "nowhere")).start()


def test_another_thread_can_wait_for_the_start(tmp_path: Path, fake_core: Any) -> None:
    server = Server(options(repository(tmp_path / "r", a=IDENTITY)))
    assert not server.wait_started(0)
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(server.wait_started(10)))
    thread.start()
    with server:
        thread.join()
        server.wait_ready(10)
        assert server.ports["http"] == ("127.0.0.1", 8000)
        assert server.signature("a") == "INPUT0 FP32[-1] -> OUTPUT0 FP32[-1]"
        with pytest.raises(NotFound, match="model 'b' is not loaded"):
            server.signature("b")
    failed = Server(options(tmp_path / "nowhere"))
    with pytest.raises(NotFound):
        failed.start()
    assert results == [True]
    assert not failed.wait_started(10)


def test_a_server_starts_once(fake_core: Any) -> None:
    with Server(ServerOptions()) as server, pytest.raises(InvalidArgument, match="started before"):
        server.start()


def test_the_engine_is_told_the_limits(fake_core: Any) -> None:
    with Server(ServerOptions(server_id="my server", max_request_bytes=5, io_threads=3)):
        chosen = fake_core.last.options
    assert chosen["server_name"] == "my server"
    assert (chosen["max_request_bytes"], chosen["io_threads"]) == (5, 3)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"http_port": 70000}, "the http port is 70000; it must be from 0 to 65535"),
        ({"http_port": 8001}, "the http port and the grpc port are both 8001"),
        ({"model_control_mode": "x"}, "option 'model_control_mode' is 'x'; one of none, poll, ex"),
        ({"load_models": ("m",)}, "requires setting '--model-control-mode=explicit' as well."),
        ({"poll_secs": 0}, "option 'poll_secs' is 0; it must be > 0"),
        ({"log_format": "zz"}, "option 'log_format' is 'zz'"),
        ({"load_threads": 0}, "option 'load_threads' is 0; it must be >= 1"),
        ({"drain_delay_secs": -1}, "option 'drain_delay_secs' is -1; it must be >= 0"),
        ({"exit_timeout_secs": -1}, "option 'exit_timeout_secs' is -1; it must be >= 0"),
    ],
)
def test_options_that_cannot_be_are_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ServerOptions(**fields)
    assert text in str(caught.value)
