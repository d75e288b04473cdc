"""Keys that are for some models only: what they reach, and what they see of the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import tritonclient.grpc as grpcclient
from tests.keyed import INFER, Keyed, asked, bearer, called, inputs, keyed_server, refusal
from tritonclient.grpc import service_pb2


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with keyed_server(tmp_path_factory.mktemp("keyed")) as running:
        yield running


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
        rate = {"trace_rate": "9"}
        for name, expect in {
            "own-a": "",
            "other": "StatusCode.PERMISSION_DENIED",
            "absent": "StatusCode.PERMISSION_DENIED",
        }.items():
            calls: list[Callable[[], Any]] = [
                partial(client.get_model_metadata, name, headers=shown),
                partial(client.get_model_config, name, headers=shown),
                partial(client.get_inference_statistics, name, headers=shown),
                partial(client.get_trace_settings, name, headers=shown),
                partial(client.update_trace_settings, name, rate, headers=shown),
                partial(client.infer, name, inputs(grpcclient), headers=shown),
            ]
            assert [refusal(call) for call in calls] == [expect] * len(calls)
        index = client.get_model_repository_index(headers=shown).models
        assert {entry.name for entry in index} == {"own-a", "own-b"}
        stats = client.get_inference_statistics(headers=shown).model_stats
        assert {entry.name for entry in stats} == {"own-a", "own-b"}
        settle = partial(client.update_log_settings, {"log_verbose_level": 0}, headers=shown)
        assert refusal(settle) == "StatusCode.PERMISSION_DENIED"


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
