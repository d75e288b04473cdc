"""Who may ask for what, on the real wire over both protocols: keys and their scopes."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tests.keyed import Keyed, asked, bearer, called, inputs, keyed_server, refusal
from tritonclient.grpc import service_pb2

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
    "/graphs",
    "/graphs/g",
    "/graphs/n/g",
    "/metrics",
    "/nothing",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with keyed_server(tmp_path_factory.mktemp("keyed")) as running:
        yield running


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


def outcomes(client: Any, kind: Any, shown: dict[str, str]) -> dict[str, list[str]]:
    """What becomes of calls that need a scope: scope -> the status of each, empty if it is done."""
    level, rate = {"log_verbose_level": 0}, {"trace_rate": "10"}
    calls = {
        "infer": [lambda: client.infer("own-a", inputs(kind), headers=shown)],
        "manage": [
            lambda: client.update_log_settings(level, headers=shown),
            lambda: client.update_trace_settings("own-a", rate, headers=shown),
            lambda: client.update_trace_settings(None, rate, headers=shown),
        ],
    }
    return {scope: [refusal(call) for call in each] for scope, each in calls.items()}


def expected(name: str, status: str) -> dict[str, list[str]]:
    return {
        "infer": ["" if name == "infer" else status],
        "manage": ["" if name == "manage" else status] * 3,
    }


@pytest.mark.parametrize("name", ["infer", "manage", "metrics"])
def test_each_scope_opens_what_it_is_for_over_http(keyed: Keyed, name: str) -> None:
    url, shown = keyed.server.http_url, bearer(keyed.keys[name])
    with httpclient.InferenceServerClient(url.removeprefix("http://")) as client:
        assert client.get_server_metadata(headers=shown)["name"] == "nerite"
        assert client.get_model_config("own-a", headers=shown)["name"] == "own-a"
        assert len(client.get_model_repository_index(headers=shown)) == 3
        assert client.get_log_settings(headers=shown)["log_info"] is True
        assert outcomes(client, httpclient, shown) == expected(name, "403")
    status, text = asked(keyed.server.metrics_url, "GET", "/metrics", shown)
    assert status == (200 if name == "metrics" else 403)
    assert name != "infer" or text == (
        "{\"error\":\"API key 'infer' has no scope 'metrics', which GET /metrics needs; "
        'it has infer"}'
    )


@pytest.mark.parametrize("name", ["infer", "manage", "metrics"])
def test_each_scope_opens_what_it_is_for_over_grpc(keyed: Keyed, name: str) -> None:
    shown = {"authorization": f"Bearer {keyed.keys[name]}"}
    with grpcclient.InferenceServerClient(keyed.server.grpc_url) as client:
        assert client.get_server_metadata(headers=shown).name == "nerite"
        assert client.get_model_config("own-a", headers=shown).config.name == "own-a"
        assert len(client.get_model_repository_index(headers=shown).models) == 3
        assert client.get_log_settings(headers=shown).settings["log_info"].bool_param
        told = outcomes(client, grpcclient, shown)
        assert told == expected(name, "StatusCode.PERMISSION_DENIED")
        told = outcomes(client, grpcclient, {"authorization": "Bearer x"})
        assert told == expected("", "StatusCode.UNAUTHENTICATED")
