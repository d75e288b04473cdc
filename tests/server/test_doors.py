# SPDX-License-Identifier: Apache-2.0
"""The ports of SageMaker and Vertex AI, asked as those clouds ask."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.keyed import IDENTITY, INFER, make_key

from nerite.cli.doors import cloud_repository
from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import InvalidArgument
from nerite.server.access_options import AccessOptions, Restriction
from nerite.server.door_options import DoorOptions
from nerite.server.doors import doors
from nerite.server.server import Server
from nerite.testing import serve

OOM = """
class TritonPythonModel:
    def execute(self, requests):
        raise MemoryError("CUDA out of memory" if len(requests) else "")
"""
DOORS = DoorOptions(
    sagemaker=True,
    sagemaker_port=0,
    sagemaker_model="one",
    vertex_ai=True,
    vertex_ai_port=0,
    vertex_ai_model="one",
    vertex_ai_predict_route="/predict",
    vertex_ai_health_route="/health",
)
EXPECTED = {"name": "OUTPUT0", "datatype": "FP32", "shape": [1], "data": [1.0]}
REDIRECT = "X-Vertex-Ai-Triton-Redirect"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("doors")
    for name in ("one", "two", "oom"):
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(
            IDENTITY.replace("identity", "python") if name == "oom" else IDENTITY
        )
    (root / "oom/1/model.py").write_text(OOM)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serve(root, doors=DOORS) as running:
        yield running


def ask(
    server: Server,
    door: str,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    host, port = server.ports[door]
    connection = http.client.HTTPConnection(host, port, timeout=10)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body)
    connection.request(method, path, sent, dict(headers or {}))
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, read, answer.headers


def binary(vendor: str) -> tuple[bytes, dict[str, str], str]:
    """A request with a binary tensor, as a content type tells it."""
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [2]}
    text = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    kind = f"application/vnd.{vendor}.binary+json;json-header-size="
    data = np.array([1.5, 2.5], np.float32).tobytes()
    return text + data, {"Content-Type": f"{kind}{len(text)}"}, kind


@pytest.mark.parametrize(
    ("door", "path", "vendor"),
    [
        ("sagemaker", "/invocations", "sagemaker-triton"),
        ("vertex_ai", "/predict", "vertex-ai-triton"),
    ],
)
def test_the_default_model_is_asked_in_json_and_in_bytes(
    door: str, path: str, vendor: str, server: Server
) -> None:
    status, read, _ = ask(server, door, "POST", path, INFER)
    assert status == 200
    told = json.loads(read)
    assert (told["model_name"], told["outputs"]) == ("one", [EXPECTED])
    body, headers, kind = binary(vendor)
    status, read, answered = ask(server, door, "POST", path, body, headers)
    assert status == 200
    assert answered["Content-Type"].startswith(kind)
    assert answered["Inference-Header-Content-Length"] is None
    length = int(answered["Content-Type"].removeprefix(kind))
    assert json.loads(read[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(read[length:], np.float32).tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("door", "method", "path", "status"),
    [
        ("sagemaker", "GET", "/ping", 200),
        ("sagemaker", "POST", "/ping", 405),
        ("sagemaker", "GET", "/invocations", 405),
        ("sagemaker", "GET", "/v2", 404),
        ("sagemaker", "GET", "/models//invoke", 404),
        ("sagemaker", "POST", "/models/two/1/invoke", 404),
        ("vertex_ai", "GET", "/health", 200),
        ("vertex_ai", "GET", "/predict", 405),
        ("vertex_ai", "GET", "/v2", 404),
        ("http", "GET", "/ping", 404),
        ("http", "POST", "/predict", 404),
        ("http", "GET", "/models", 404),
    ],
)
def test_each_port_has_its_paths_and_no_other(
    door: str, method: str, path: str, status: int, server: Server
) -> None:
    assert ask(server, door, method, path)[0] == status


def test_sagemakers_models_are_told_and_invoked_by_name_or_header(server: Server) -> None:
    status, read, _ = ask(server, "sagemaker", "GET", "/models")
    names = [model["modelName"] for model in json.loads(read)["models"]]
    assert (status, names) == (200, ["one", "oom", "two"])
    target = {"X-Amzn-SageMaker-Target-Model": "two"}
    for path, headers in (("/models/two", {}), ("/models/8f14e45f", target)):
        status, read, _ = ask(server, "sagemaker", "GET", path, None, headers)
        assert (status, json.loads(read)["modelName"]) == (200, "two")
        status, read, _ = ask(server, "sagemaker", "POST", f"{path}/invoke", INFER, headers)
        assert (status, json.loads(read)["model_name"]) == (200, "two")
    for method, path in (
        ("GET", "/models/x"),
        ("DELETE", "/models/x"),
        ("POST", "/models/x/invoke"),
    ):
        assert ask(server, "sagemaker", method, path, INFER)[0] == 404


def test_sagemaker_is_told_400_for_failures_and_507_for_too_little_memory(server: Server) -> None:
    assert ask(server, "sagemaker", "POST", "/invocations", b"{")[0] == 400
    status, read, headers = ask(server, "sagemaker", "POST", "/models/oom/invoke", INFER)
    assert status == 507
    assert "out of memory" in json.loads(read)["error"]
    assert headers["Nerite-Error-Code"] == "INTERNAL"
    status, _, headers = ask(
        server, "sagemaker", "POST", "/invocations", b"x", {"Content-Encoding": "br"}
    )
    assert (status, headers["Accept-Encoding"]) == (415, "gzip, deflate, zstd")
    status, read, _ = ask(server, "sagemaker", "POST", "/models", {"model_name": "h", "url": "/x"})
    assert (status, "explicit model load / unload is not allowed" in read.decode()) == (400, True)
    status, read, _ = ask(server, "sagemaker", "DELETE", "/models/two")
    assert (status, "explicit model load / unload is not allowed" in read.decode()) == (400, True)
    assert ask(server, "sagemaker", "GET", "/models/two")[0] == 200


def test_sagemaker_unloads_where_models_are_controlled(tmp_path: Path) -> None:
    (tmp_path / "one/1").mkdir(parents=True)
    (tmp_path / "one/config.pbtxt").write_text(IDENTITY)
    options = DoorOptions(sagemaker=True, sagemaker_port=0)
    explicit = {"model_control_mode": "explicit", "load_models": ("*",)}
    with serve(tmp_path, doors=options, **explicit) as running:
        assert ask(running, "sagemaker", "GET", "/models/one")[0] == 200
        assert ask(running, "sagemaker", "DELETE", "/models/one")[0] == 200
        assert ask(running, "sagemaker", "GET", "/models/one")[0] == 404


@pytest.mark.parametrize(
    ("to", "status", "part"),
    [
        ("v2", 200, '"name":"nerite"'),
        ("v2/models/two", 200, '"name":"two"'),
        ("v2/models/two/config", 200, '"max_batch_size"'),
        ("v2/models/two/infer", 200, '"model_name":"two"'),
        ("v2/models/two/ready", 200, ""),
        ("v2/repository/index", 200, '"state":"READY"'),
        ("v2/models/two/stats", 200, "model_stats"),
        ("v2/systemsharedmemory/status", 200, "[]"),
        ("metrics", 200, "nv_inference_request_success"),
        ("v2/systemsharedmemory/unregister", 403, ""),
        ("v2/systemsharedmemory/region/r/register", 403, ""),
        ("v2/cudasharedmemory/region/r/unregister", 403, ""),
        ("v2/repository/models/two/load", 403, ""),
        ("v2/repository/models/two/unload", 403, ""),
        ("/v2", 404, "Not Found"),
        ("v2x", 404, "Not Found"),
        ("v1/models/two:predict", 404, "Not Found"),
        ("", 404, "Not Found"),
    ],
)
def test_vertex_ai_redirects_to_v2_and_to_metrics(
    to: str, status: int, part: str, server: Server
) -> None:
    body = INFER if to.endswith("infer") else {}
    got, read, _ = ask(server, "vertex_ai", "POST", "/predict", body, {REDIRECT: to})
    assert got == status
    assert part in read.decode()
    if status == 403:
        assert read == b""
    assert ask(server, "vertex_ai", "GET", "/predict", None, {REDIRECT: to})[0] in (404, 405)


def test_a_redirect_reads_settings_without_a_body_and_sets_them_with_one(server: Server) -> None:
    headers = {REDIRECT: "v2/logging"}
    status, read, _ = ask(server, "vertex_ai", "POST", "/predict", b"", headers)
    assert (status, json.loads(read)["log_verbose_level"]) == (200, 0)
    change = {"log_verbose_level": 1}
    assert ask(server, "vertex_ai", "POST", "/predict", change, headers)[0] == 200
    status, read, _ = ask(server, "vertex_ai", "POST", "/predict", None, headers)
    assert json.loads(read)["log_verbose_level"] == 1
    ask(server, "vertex_ai", "POST", "/predict", {"log_verbose_level": 0}, headers)


def test_both_ports_are_guarded_as_the_v2_port(root: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys.txt", "two", "infer", "two")
    shown = {"Authorization": f"Bearer {key}"}
    access = AccessOptions(
        api_keys=tmp_path / "keys.txt",
        http_restricted=(Restriction(("statistics",), "admin", "yes"),),
    )
    with serve(root, doors=DOORS, access=access) as server:
        for path in ("/invocations", "/models/two/invoke"):
            assert ask(server, "sagemaker", "POST", path, INFER)[0] == 401
        assert ask(server, "sagemaker", "GET", "/ping")[0] == 200
        assert ask(server, "sagemaker", "POST", "/invocations", INFER, shown)[0] == 403
        assert ask(server, "sagemaker", "POST", "/models/two/invoke", INFER, shown)[0] == 200
        # The header names what is asked for, so it is what the key must be for.
        other = {**shown, "X-Amzn-SageMaker-Target-Model": "one"}
        assert ask(server, "sagemaker", "POST", "/models/two/invoke", INFER, other)[0] == 403
        status, read, _ = ask(server, "sagemaker", "GET", "/models", None, shown)
        assert [m["modelName"] for m in json.loads(read)["models"]] == ["two"]
        assert ask(server, "sagemaker", "DELETE", "/models/two", None, shown)[0] == 403
        assert ask(server, "vertex_ai", "GET", "/health")[0] == 200
        for to, status in (
            ("v2/models/two/infer", 200),
            ("v2/models/one/infer", 403),
            ("v2/models/two/stats", 403),
            ("metrics", 403),
            ("v2/logging", 403),
            ("v2/systemsharedmemory/unregister", 403),
        ):
            told = ask(server, "vertex_ai", "POST", "/predict", INFER, {**shown, REDIRECT: to})
            assert told[0] == status, to
        assert ask(server, "vertex_ai", "POST", "/predict", INFER, {REDIRECT: "v2"})[0] == 401
        admin = {**shown, REDIRECT: "v2/models/two/stats", "admin": "yes"}
        assert ask(server, "vertex_ai", "POST", "/predict", b"", admin)[0] == 200


@pytest.mark.parametrize("invocation", ["generate", "generate_stream"])
def test_an_invocation_can_generate(invocation: str, root: Path) -> None:
    doors = DoorOptions(
        sagemaker=True, sagemaker_port=0, sagemaker_model="one", sagemaker_invocation=invocation
    )
    with serve(root, doors=doors) as server:
        status, read, headers = ask(server, "sagemaker", "POST", "/invocations", {"INPUT0": [3]})
    assert status == 200
    streams = invocation == "generate_stream"
    assert headers["Content-Type"].startswith("text/event-stream") is streams
    text = read.decode().removeprefix("data: ").strip()
    assert json.loads(text)["OUTPUT0"] in (3.0, [3.0])


def test_the_only_model_is_the_default_and_a_ping_may_ask_for_life(tmp_path: Path) -> None:
    (tmp_path / "only/1").mkdir(parents=True)
    (tmp_path / "only/config.pbtxt").write_text(IDENTITY + "what: 3")
    doors = DoorOptions(sagemaker=True, sagemaker_port=0, sagemaker_ping="live")
    with serve(tmp_path, doors=doors, wait=None) as server:
        assert server.wait_loaded(30)
        assert ask(server, "sagemaker", "GET", "/ping")[0] == 200
    doors = DoorOptions(sagemaker=True, sagemaker_port=0)
    (tmp_path / "only/config.pbtxt").write_text(IDENTITY)
    with serve(tmp_path, doors=doors) as server:
        assert ask(server, "sagemaker", "POST", "/invocations", INFER)[0] == 200


def test_vertex_ai_needs_routes_and_a_model(root: Path, tmp_path: Path) -> None:
    routes = {"vertex_ai_predict_route": "/predict", "vertex_ai_health_route": "/health"}
    for wrong, text in (
        ({}, "AIP_PREDICT_ROUTE, got ''"),
        ({"vertex_ai_predict_route": "/p"}, "AIP_HEALTH_ROUTE, got ''"),
        ({**routes, "vertex_ai_health_route": "/predict"}, "need a route each"),
        (routes, "only a single model if default model is not specified; there are 3"),
    ):
        doors = DoorOptions(vertex_ai=True, vertex_ai_port=0, **wrong)
        with pytest.raises(InvalidArgument, match=text):
            serve(root, doors=doors).__enter__()


def test_the_variables_of_the_clouds_are_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AIP_MODE": "PREDICTION",
        "AIP_PREDICT_ROUTE": "/p",
        "AIP_HEALTH_ROUTE": "/h",
        "AIP_HTTP_PORT": "9090",
        "AIP_STORAGE_URI": "models",
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "m",
        "SAGEMAKER_TRITON_PING_MODE": "live",
        "SAGEMAKER_TRITON_INFERENCE_TYPE": "generate",
    }.items():
        monkeypatch.setenv(name, value)
    options = server_options([], choose({}))
    assert list(map(str, options.repositories)) == ["models"]
    assert (options.allow_http, options.allow_grpc) == (False, False)
    opened = {door.protocol: door for door in doors(options)}
    assert (opened["vertex_ai"].address, opened["vertex_ai"].port) == ("0.0.0.0", 9090)
    clouds = options.doors
    assert (clouds.vertex_ai_predict_route, clouds.vertex_ai_health_route) == ("/p", "/h")
    assert (clouds.sagemaker_model, clouds.sagemaker_ping) == ("m", "live")
    assert clouds.sagemaker_invocation == "generate"
    kept = server_options(["mine"], choose({"--allow-http": "true", "--vertex-ai-port": "1234"}))
    assert (kept.allow_http, kept.doors.vertex_ai_port) == (True, 1234)
    assert list(map(str, kept.repositories)) == ["mine"]
    monkeypatch.setenv("AIP_HTTP_PORT", "x")
    with pytest.raises(InvalidArgument, match="AIP_HTTP_PORT is 'x'"):
        server_options([], choose({}))
    assert cloud_repository({"AIP_STORAGE_URI": "models"}) == ()


def test_a_port_outside_the_safe_range_is_refused() -> None:
    given = {"--allow-sagemaker": "true", "--sagemaker-safe-port-range": "9000-9100"}
    with pytest.raises(InvalidArgument, match="8080 is not in the safe range 9000 to 9100"):
        server_options(["m"], choose(given))
    options = server_options(["m"], choose({**given, "--sagemaker-port": "9050"}))
    assert {door.protocol: door.port for door in doors(options)}["sagemaker"] == 9050
    with pytest.raises(InvalidArgument, match="'9000' is no range of ports"):
        server_options(["m"], choose({"--sagemaker-safe-port-range": "9000"}))
