"""Conditions, model states and routes as functions of what runs, and how they are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.local.test_components import MODEL, WITH_TRANSFORMER, cluster_of, components_of, service

from nerite.kserve.gateway import RouteTable
from nerite.kserve.rendering import Rendering, render_service
from nerite.local.components import Component
from nerite.local.copy_view import CopyView
from nerite.local.describing import described
from nerite.local.events import Events, happened, readiness
from nerite.local.lifeline import Exit
from nerite.local.overview import overview
from nerite.local.routes import service_route
from nerite.local.running import Running
from nerite.local.status import service_status
from nerite.local.supervisor import GroupView
from nerite.local.tables import aligned, cells, columns, human_duration

SKLEARN = service(MODEL % ("sklearn", "v1", ""))
NOW = 1_800_000_000.0


def rendering_of(text: str) -> Rendering:
    cluster = cluster_of(text)
    return render_service(cluster.of_kind("InferenceService")[0], cluster)


def copy_of(component: Component, **more: Any) -> CopyView:
    given = {
        "number": 1, "component": component, "ready": False, "stopping": False, "fetching": False,
        "port": 5001, "grpc_port": 5002, "pids": (77,), "restarts": 0, "failing": False,
        "problem": "", "last_exit": None,
    }  # fmt: skip
    return CopyView(**{**given, **more})


def group(component: Component, *copies: CopyView, wanted: tuple[Component, ...] = ()) -> GroupView:
    serving = tuple(copy for copy in copies if copy.ready)
    return GroupView(wanted or (component,), copies, serving)


def status_of(text: str, *groups: GroupView, last: dict[str, Any] | None = None) -> dict[str, Any]:
    revisions = {(c.key, c.digest): 1 for found in groups for c in found.wanted}
    running = Running(groups, revisions)
    return service_status(rendering_of(text), running, last or {}, NOW)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in status["conditions"]}


(PREDICTOR,) = components_of(SKLEARN)
READY = copy_of(PREDICTOR, ready=True)


def test_ready() -> None:
    status = status_of(SKLEARN, group(PREDICTOR, READY))
    assert conditions(status) == {
        "IngressReady": ("True", ""),
        "PredictorReady": ("True", ""),
        "Ready": ("True", ""),
        "Stopped": ("False", ""),
    }
    assert status["url"] == status["address"]["url"] == "http://127.0.0.1:5001"
    assert status["modelStatus"] == {
        "copies": {"failedCopies": 0, "totalCopies": 1},
        "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
        "transitionStatus": "UpToDate",
    }
    assert status["clusterServingRuntimeName"] == "kserve-sklearnserver"
    assert status["deploymentMode"] == "Standard"


EXITED = Exit(1, NOW - 5, "failed to load")


@pytest.mark.parametrize(
    ("more", "states", "reason"),
    [
        ({"fetching": True}, ("Loading", "InProgress"), None),
        ({}, ("Loading", "InProgress"), None),
        (
            {"failing": True, "last_exit": EXITED},
            ("FailedToLoad", "BlockedByFailedLoad"),
            "ModelLoadFailed",
        ),
        (
            {"failing": True, "problem": "there is no '/x'"},
            ("FailedToLoad", "BlockedByFailedLoad"),
            "ModelLoadFailed",
        ),
        (
            {"last_exit": replace(EXITED, was_ready=True), "restarts": 1},
            ("Loading", "InProgress"),
            "RuntimeUnhealthy",
        ),
    ],
)
def test_not_ready_has_kserves_reasons(
    more: dict[str, Any], states: tuple[str, str], reason: str | None
) -> None:
    status = status_of(SKLEARN, group(PREDICTOR, copy_of(PREDICTOR, **more)))
    assert conditions(status) == {
        "IngressReady": ("False", "Predictor ingress not created"),
        "PredictorReady": ("False", "MinimumReplicasUnavailable"),
        "Ready": ("False", "Predictor ingress not created"),
        "Stopped": ("False", ""),
    }
    message = next(c for c in status["conditions"] if c["type"] == "PredictorReady")["message"]
    assert message.startswith("Deployment does not have minimum availability. ")
    model = status["modelStatus"]
    assert (model["states"]["targetModelState"], model["transitionStatus"]) == states
    assert model["states"]["activeModelState"] == ""
    assert model.get("lastFailureInfo", {}).get("reason") == reason
    assert "url" not in status


def test_a_time_of_transition_stays_until_the_status_changes() -> None:
    first = status_of(SKLEARN, group(PREDICTOR, copy_of(PREDICTOR)))
    for condition in first["conditions"]:
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    second = status_of(SKLEARN, group(PREDICTOR, READY), last=first)
    times = {c["type"]: c["lastTransitionTime"][:4] for c in second["conditions"]}
    assert times == {
        "IngressReady": "2027", "PredictorReady": "2027", "Ready": "2027", "Stopped": "2020",
    }  # fmt: skip


def test_an_obstacle_is_told_in_the_condition_and_the_model_status() -> None:
    text = service(MODEL % ("mlflow", "v2", ""))
    (blocked,) = components_of(text)
    status = status_of(text, group(blocked))
    assert conditions(status)["PredictorReady"] == ("False", "CannotRunHere")
    failure = status["modelStatus"]["lastFailureInfo"]
    assert failure["reason"] == "RuntimeUnhealthy"
    assert failure["message"] == blocked.obstacle


def test_a_transformer_that_waits_says_for_what() -> None:
    _, transformer = components_of(service(WITH_TRANSFORMER))
    waiting = GroupView((transformer,), waiting_for="irises-predictor")
    status = status_of(service(WITH_TRANSFORMER), group(PREDICTOR, READY), waiting)
    found = conditions(status)
    assert found["PredictorReady"] == ("True", "")
    assert found["IngressReady"] == ("False", "Transformer ingress not created")
    condition = next(c for c in status["conditions"] if c["type"] == "TransformerReady")
    assert condition["message"].endswith("It waits for irises-predictor.")


OTHER = components_of(SKLEARN.replace("/models/irises", "/models/other"))[0]


def split(latest: int) -> GroupView:
    wanted = (replace(OTHER, percent=latest), replace(PREDICTOR, percent=100 - latest))
    ready = copy_of(wanted[0], ready=True, number=2, port=6001)
    return GroupView(wanted, (READY, ready), (ready, READY))


def test_traffic_names_both_revisions() -> None:
    traffic = status_of(SKLEARN, split(10))["components"]["predictor"]["traffic"]
    assert [(t["percent"], t["latestRevision"], t.get("tag")) for t in traffic] == [
        (10, True, None),
        (90, False, "prev"),
    ]


def routes_of(text: str, *groups: GroupView) -> dict[str, Any]:
    table = RouteTable([service_route(rendering_of(text), Running(groups))])
    return {c["name"]: c for c in json.loads(table.to_json())["services"][0]["components"]}


def test_routes_carry_hosts_and_weights() -> None:
    predictor = routes_of(SKLEARN, split(10))["predictor"]
    assert "irises-predictor.lab.svc.cluster.local" in predictor["hosts"]
    assert predictor["revisions"] == [
        {"weight": 1000, "replicas": [{"http": "127.0.0.1:6001", "grpc": "127.0.0.1:5002"}]},
        {"weight": 9000, "replicas": [{"http": "127.0.0.1:5001", "grpc": "127.0.0.1:5002"}]},
    ]
    assert predictor["absent"] is None


def test_what_is_not_ready_gets_no_requests() -> None:
    latest = copy_of(replace(OTHER, percent=50), number=2)
    half = GroupView((latest.component, replace(PREDICTOR, percent=50)), (READY, latest), (READY,))
    (revision,) = routes_of(SKLEARN, half)["predictor"]["revisions"]
    assert revision["replicas"][0]["http"] == "127.0.0.1:5001"


@pytest.mark.parametrize(
    ("text", "groups", "told"),
    [
        (SKLEARN, [group(PREDICTOR, copy_of(PREDICTOR))], "The model is being loaded."),
        (SKLEARN, [], "it is not started yet"),
        (MODEL % ("homemade", "v1", ""), [], "No runtime found to support"),
        (SKLEARN, [group(replace(PREDICTOR, obstacle="no engine"))], "no engine"),
        (SKLEARN, [group(PREDICTOR, copy_of(PREDICTOR, fetching=True, progress="2 of 9 MB"))],
         "The model is being fetched: 2 of 9 MB."),
    ],
)  # fmt: skip
def test_clients_are_told_why_nobody_answers(text: str, groups: list[GroupView], told: str) -> None:
    text = text if "kind:" in text else service(text)
    predictor = routes_of(text, *groups)["predictor"]
    assert predictor["revisions"] == []
    assert told in predictor["absent"]


SIDECARS = """batcher: {maxBatchSize: 7}
    logger: {url: %s, mode: request, metadataHeaders: [x-user]}
    timeout: 9
    """


def test_batcher_logger_and_timeout_are_handed_on() -> None:
    text = SKLEARN.replace("predictor:\n    ", f"predictor:\n    {SIDECARS % 'http://sink:9/x'}")
    predictor = routes_of(text, group(PREDICTOR, READY))["predictor"]
    assert predictor["batcher"] == {"max_batch_size": 7, "max_latency_ms": 5000}
    assert predictor["timeout_secs"] == 9
    logger = predictor["logger"]
    assert (logger["authority"], logger["path"]) == ("sink:9", "/x")
    assert (logger["requests"], logger["responses"]) == (True, False)
    assert logger["metadata_headers"] == ["x-user"]


def test_a_logger_that_cannot_be_used_is_a_warning_and_stops_nothing() -> None:
    text = SKLEARN.replace("predictor:\n    ", f"predictor:\n    {SIDECARS % 'https://sink/'}")
    (component,) = components_of(text)
    assert 'nothing is logged: logger.url "https://sink/" is not usable' in component.warnings[0]
    assert routes_of(text, group(component, READY))["predictor"]["logger"] is None


def shown(*groups: GroupView) -> dict[str, Any]:
    value = dict(rendering_of(SKLEARN).service.object)
    value["metadata"] = {**value["metadata"], "creationTimestamp": "2027-01-15T08:00:00Z"}
    return {**value, "status": status_of(SKLEARN, *groups)}


def test_the_table_has_kserves_columns() -> None:
    head = columns("InferenceService")
    row = cells(shown(split(10)), "InferenceService", NOW)
    assert dict(zip(head, row, strict=True)) == {
        "NAME": "irises",
        "URL": "http://127.0.0.1:6001",
        "READY": "True",
        "PREV": "90",
        "LATEST": "10",
        "PREVROLLEDOUTREVISION": "irises-predictor-00001",
        "LATESTREADYREVISION": "irises-predictor-00001",
        "AGE": "0s",
    }
    everywhere = cells(shown(), "InferenceService", NOW + 61, wide=True, namespaces=True)
    assert everywhere[:2] == ["lab", "irises"]
    assert everywhere[-6:-1] == ["61s", "", "kserve-sklearnserver", "", "InProgress"]
    assert aligned([["A", "B"], ["long", ""]]) == ["A      B", "long"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (599, "9m59s"), (600, "10m"),
        (10799, "179m"), (10800, "3h"), (18600, "5h10m"), (28800, "8h"), (172799, "47h"),
        (172800, "2d"), (273600, "3d4h"), (8 * 86400, "8d"), (800 * 86400, "2y70d"),
    ],
)  # fmt: skip
def test_ages_are_rounded_as_kubectl_rounds_them(seconds: float, told: str) -> None:
    assert human_duration(seconds) == told


def test_events_count_what_happens_again() -> None:
    events = Events()
    crashed = copy_of(PREDICTOR, restarts=1, last_exit=EXITED)
    before = {PREDICTOR.key: group(PREDICTOR)}
    after = {PREDICTOR.key: group(PREDICTOR, crashed)}
    for turn in range(3):
        for key, happening in happened(before, after):
            events.add(key, NOW + turn, [happening])
    found = {event["reason"]: event for event in events.of(("lab", "irises"))}
    assert found["BackOff"]["message"] == (
        "irises-predictor ended with exit code 1: failed to load"
    )
    assert found["BackOff"]["count"] == 3
    assert found["Started"]["message"] == "Started irises-predictor (process 77) on port 5001"
    text = described(shown(), {"events": events.of(("lab", "irises"))}, NOW + 10)
    assert "8s (x3 over 10s)" in text
    assert "      Model Format:\n        Name:  sklearn" in text


def test_becoming_ready_and_not_is_told_once() -> None:
    down = status_of(SKLEARN, group(PREDICTOR, copy_of(PREDICTOR)))
    upright = status_of(SKLEARN, group(PREDICTOR, READY))
    assert readiness("InferenceService", "irises", down, upright) == [
        ("Normal", "InferenceServiceReady", "InferenceService [irises] is Ready")
    ]
    ((kind, reason, text),) = readiness("InferenceService", "irises", upright, down)
    assert (kind, reason) == ("Warning", "InferenceServiceNotReady")
    assert "no longer Ready because of: Predictor ingress not created" in text
    assert readiness("InferenceService", "irises", upright, upright) == []


def test_the_overview_tells_what_the_latest_revision_lacks() -> None:
    failing = copy_of(OTHER, number=2, failing=True, last_exit=EXITED)
    value = shown(GroupView((OTHER,), (READY, failing), (READY,)))
    details = {"components": [{"name": "irises-predictor", "stopping": False, "restarts": 4}]}
    service_row, predictor = overview([(value, details)])
    assert (service_row.name, service_row.ready) == ("lab/irises", "True")
    assert predictor.restarts == 4
    assert predictor.message == "the latest revision failed: failed to load"
