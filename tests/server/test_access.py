"""Who may ask for what, on the real wire over both protocols: keys, scopes, models, management."""

from __future__ import annotations

import http.client
import json
import logging
import queue
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from nerite.server import key_watch
from nerite.server.access_options import AccessOptions
from nerite.server.key_file import append_key, new_key
from nerite.server.server import Server
from nerite.server.trace_options import TraceOptions, TraceRule
from nerite.testing import serve

IDENTITY = """backend: "identity"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
INFER = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]}
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
HEALTH_CALLS = {"ServerLive", "ServerReady", "ModelReady"}
HEALTH_PATHS = {"/v2/health/live", "/v2/health/ready", "/v2/models/own-a/ready"}
PATHS = (
    *HEALTH_PATHS,
    "/v2",
    "/v2/models/own-a",
    "/v2/models/own-a/versions/1",
    *(
        f"/v2/models/own-a/{verb}"
        for verb in ("infer", "generate", "generate_stream", "config", "stats", "trace/setting")
    ),
    "/v2/models/own-a/versions/1/infer",
    "/v2/models/stats",
    "/v2/repository/index",
    "/v2/repository/models/own-a/load",
    "/v2/repository/models/own-a/unload",
    "/v2/repository/any/index",
    *(
        f"/v2/{kind}sharedmemory/{rest}"
        for kind in ("system", "cuda")
        for rest in ("status", "region/r/status", "region/r/register", "unregister")
    ),
    "/v2/trace/setting",
    "/v2/logging",
    "/metrics",
    "/nothing",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


@dataclass(frozen=True)
class Keyed:
    """A server with keys, by what they are for."""

    server: Server
    file: Path
    keys: Mapping[str, str]


def make_key(file: Path, name: str, scopes: str, models: str = "*") -> str:
    key, line = new_key(name, scopes.split(","), models.split(","))
    append_key(file, line)
    return key


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("own-a", "own-b", "other"):
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(IDENTITY)
    return root


@pytest.fixture(scope="module")
def keyed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    wanted = {
        "infer": ("infer", "*"),
        "manage": ("manage", "*"),
        "metrics": ("metrics", "*"),
        "own": ("infer,manage", "own-*"),
    }
    keys = {name: make_key(file, name, *each) for name, each in wanted.items()}
    with serve(repository, access=AccessOptions(api_keys=file)) as server:
        yield Keyed(server, file, keys)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def asked(
    url: str, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
) -> tuple[int, str]:
    """Status and body of one HTTP exchange."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def called(server: Server, path: str, message: bytes = b"", **metadata: str) -> tuple[str, str]:
    """Status name and details of one gRPC call, whatever the path is."""
    pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    with grpc.insecure_channel(server.grpc_url) as channel:
        try:
            channel.unary_unary(path)(message, metadata=pairs, timeout=10)
        except grpc.RpcError as why:
            return why.code().name, why.details() or ""
    return "OK", ""


def inputs(kind: Any) -> list[Any]:
    tensor = kind.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    return [tensor]


def refusal(call: Callable[[], Any]) -> str:
    """The status with which a client of Triton's was refused, in its protocol's words."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    return str(caught.value.status())


def test_without_a_key_no_path_under_any_method_answers_but_health(keyed: Keyed) -> None:
    for path in PATHS:
        for form in (path, path + "/", path.upper(), "/" + path, path + "%2f", path + "?x=/v2"):
            for method in METHODS:
                status, _ = asked(keyed.server.http_url, method, form)
                open_ = form.partition("?")[0] in HEALTH_PATHS
                assert status in ((200, 405) if open_ else (401,)), f"{method} {form}"
    for method in METHODS:
        for path in ("/metrics", "/", "/v2/health/live"):
            assert asked(keyed.server.metrics_url, method, path)[0] == 401, f"{method} {path}"


def test_without_a_key_no_call_answers_but_health(keyed: Keyed) -> None:
    for method in SERVICE.methods_by_name:
        for path in (
            f"/inference.GRPCInferenceService/{method}",
            f"/inference.GRPCInferenceService/{method}/",
            f"/inference.GRPCInferenceService/{method.lower()}",
            f"/inference.grpcinferenceservice/{method}",
            f"//inference.GRPCInferenceService/{method}",
        ):
            open_ = path == f"/inference.GRPCInferenceService/{method}" and method in HEALTH_CALLS
            assert called(keyed.server, path)[0] == ("OK" if open_ else "UNAUTHENTICATED"), path
    assert called(keyed.server, "/grpc.health.v1.Health/Check")[0] == "OK"
    assert called(keyed.server, "/grpc.health.v1.Health/Watch")[0] == "UNAUTHENTICATED"


def test_a_refusal_says_how_to_ask_and_comes_before_the_body(keyed: Keyed) -> None:
    host, port = keyed.server.ports["http"]
    with socket.create_connection((host, port), timeout=10) as peer:
        # A body is announced and never sent: nobody waits for it.
        head = "POST /v2/models/own-a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n"
        peer.sendall(head.encode())
        reply = http.client.HTTPResponse(peer)
        reply.begin()
        assert (reply.status, reply.getheader("WWW-Authenticate")) == (401, "Bearer")
        assert "send the header 'Authorization: Bearer KEY'" in reply.read().decode()


def test_a_key_is_shown_once_and_whole(keyed: Keyed) -> None:
    host, port = keyed.server.ports["http"]
    good = keyed.keys["infer"]
    for lines, expect in {
        (f"Authorization: Bearer {good}",): 200,
        (f"authorization: bearer {good}",): 200,
        (f"Authorization: Bearer {good[:-1]}",): 401,
        (f"Authorization: Bearer {good}x",): 401,
        (f"Authorization: {good}",): 401,
        (f"Authorization: Basic {good}",): 401,
        (f"X-Api-Key: {good}",): 401,
        (f"Authorization: Bearer {good}", "Authorization: Bearer x"): 401,
        (f"Authorization: Bearer {good}", f"Authorization: Bearer {good}"): 401,
    }.items():
        with socket.create_connection((host, port), timeout=10) as peer:
            head = "\r\n".join(("GET /v2 HTTP/1.1", "Host: x", *lines, "", ""))
            peer.sendall(head.encode())
            reply = http.client.HTTPResponse(peer)
            reply.begin()
            assert reply.status == expect, lines


@pytest.mark.parametrize("name", ["infer", "manage", "metrics"])
def test_each_scope_opens_what_it_is_for_over_http(keyed: Keyed, name: str) -> None:
    url, shown = keyed.server.http_url, bearer(keyed.keys[name])
    with httpclient.InferenceServerClient(url.removeprefix("http://")) as client:
        assert client.get_server_metadata(headers=shown)["name"] == "nerite"
        assert client.get_model_config("own-a", headers=shown)["name"] == "own-a"
        assert len(client.get_model_repository_index(headers=shown)) == 3
        assert client.get_log_settings(headers=shown)["log_info"] is True
        infer: Callable[[], Any] = lambda: client.infer("own-a", inputs(httpclient), headers=shown)
        settle: Callable[[], Any] = lambda: client.update_log_settings(
            {"log_verbose_level": 0}, headers=shown
        )
        trace: Callable[[], Any] = lambda: client.update_trace_settings(
            "own-a", {"trace_rate": "10"}, headers=shown
        )
        for call, scope in ((infer, "infer"), (settle, "manage"), (trace, "manage")):
            if name == scope:
                call()
            else:
                assert refusal(call) == "403"
    status, text = asked(keyed.server.metrics_url, "GET", "/metrics", shown)
    assert status == (200 if name == "metrics" else 403)
    assert name != "infer" or text == (
        "{\"error\":\"API key 'infer' has no scope 'metrics', which GET /metrics needs; "
        'it has infer"}'
    )


@pytest.mark.parametrize("name", ["infer", "manage", "metrics"])
def test_each_scope_opens_what_it_is_for_over_grpc(keyed: Keyed, name: str) -> None:
    shown = {name.lower(): value for name, value in bearer(keyed.keys[name]).items()}
    with grpcclient.InferenceServerClient(keyed.server.grpc_url) as client:
        assert client.get_server_metadata(headers=shown).name == "nerite"
        assert client.get_model_config("own-a", headers=shown).config.name == "own-a"
        assert len(client.get_model_repository_index(headers=shown).models) == 3
        assert client.get_log_settings(headers=shown).settings["log_info"].bool_param
        infer: Callable[[], Any] = lambda: client.infer("own-a", inputs(grpcclient), headers=shown)
        settle: Callable[[], Any] = lambda: client.update_log_settings(
            {"log_verbose_level": 0}, headers=shown
        )
        trace: Callable[[], Any] = lambda: client.update_trace_settings(
            "own-a", {"trace_rate": "10"}, headers=shown
        )
        for call, scope in ((infer, "infer"), (settle, "manage"), (trace, "manage")):
            if name == scope:
                call()
            else:
                assert refusal(call) == "StatusCode.PERMISSION_DENIED"
        assert refusal(lambda: client.infer("own-a", inputs(grpcclient))) == (
            "StatusCode.UNAUTHENTICATED"
        )


def test_a_key_for_some_models_sees_no_other_over_http(keyed: Keyed) -> None:
    url, shown = keyed.server.http_url, bearer(keyed.keys["own"])
    for path, method, body in (
        ("/v2/models/{}", "GET", None),
        ("/v2/models/{}/config", "GET", None),
        ("/v2/models/{}/stats", "GET", None),
        ("/v2/models/{}/trace/setting", "GET", None),
        ("/v2/models/{}/trace/setting", "POST", {"trace_rate": "9"}),
        ("/v2/models/{}/infer", "POST", INFER),
        ("/v2/models/{}/versions/1/infer", "POST", INFER),
    ):
        assert asked(url, method, path.format("own-a"), shown, body)[0] == 200, path
        for name in ("other", "absent"):
            status, text = asked(url, method, path.format(name), shown, body)
            expect = f"API key 'own' is not for model '{name}'"
            assert (status, json.loads(text)["error"]) == (403, expect)
    index = json.loads(asked(url, "POST", "/v2/repository/index", shown, {})[1])
    assert {entry["name"] for entry in index} == {"own-a", "own-b"}
    stats = json.loads(asked(url, "GET", "/v2/models/stats", shown)[1])["model_stats"]
    assert {entry["name"] for entry in stats} == {"own-a", "own-b"}
    # What concerns every model is not for a key that is for some.
    for path in ("/v2/logging", "/v2/trace/setting"):
        assert asked(url, "GET", path, shown)[0] == 200
        assert asked(url, "POST", path, shown, {})[0] == 403


def test_a_key_for_some_models_sees_no_other_over_grpc(keyed: Keyed) -> None:
    shown = {"authorization": f"Bearer {keyed.keys['own']}"}
    with grpcclient.InferenceServerClient(keyed.server.grpc_url) as client:
        for call in (
            client.get_model_metadata,
            client.get_model_config,
            client.get_inference_statistics,
            client.get_trace_settings,
            lambda name, headers: client.update_trace_settings(name, {"trace_rate": "9"}, headers),
            lambda name, headers: client.infer(name, inputs(grpcclient), headers=headers),
        ):
            call("own-a", headers=shown)
            for name in ("other", "absent"):
                refused = refusal(lambda c=call, n=name: c(n, headers=shown))  # type: ignore[misc]
                assert refused == "StatusCode.PERMISSION_DENIED"
        index = client.get_model_repository_index(headers=shown).models
        assert {entry.name for entry in index} == {"own-a", "own-b"}
        stats = client.get_inference_statistics(headers=shown).model_stats
        assert {entry.name for entry in stats} == {"own-a", "own-b"}
        settings = lambda: client.update_log_settings({"log_verbose_level": 0}, headers=shown)
        assert refusal(settings) == "StatusCode.PERMISSION_DENIED"


def test_of_a_name_that_is_sent_twice_the_one_that_is_served_is_checked(keyed: Keyed) -> None:
    message = service_pb2.ModelInferRequest(model_name="own-a").SerializeToString()
    other = service_pb2.ModelInferRequest(model_name="other").SerializeToString()
    shown = f"Bearer {keyed.keys['own']}"
    path = "/inference.GRPCInferenceService/ModelInfer"
    assert called(keyed.server, path, other + message, authorization=shown)[0] == (
        "INVALID_ARGUMENT"  # admitted, and its inputs are missing
    )
    assert called(keyed.server, path, message + other, authorization=shown) == (
        "PERMISSION_DENIED",
        "API key 'own' is not for model 'other'",
    )
    broken = called(keyed.server, path, b"\x0a\x7f", authorization=shown)
    assert broken == ("INTERNAL", "Unable to parse request")


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
    wrong = "nrt_wrong-canary"
    options: dict[str, Any] = {
        "access": AccessOptions(api_keys=file, http_header_forward=".*", grpc_header_forward=".*"),
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
