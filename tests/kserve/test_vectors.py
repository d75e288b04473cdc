# SPDX-License-Identifier: Apache-2.0
"""Every vector that was recorded from KServe v0.20.0 on a real API server, replayed.

A vector is compared in aspects (admission, chosen, status, errors, deployments, services, pod), so
that one known deviation does not hide the rest. `DEVIATIONS` names each aspect in which Nerite
differs, and why; one that starts to agree fails, so that the list stays true.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from nerite.errors import ConfigError
from nerite.kserve.admission import Cluster, admit, admit_all
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import read_documents
from nerite.kserve.model_volumes import pod_with_model
from nerite.kserve.refusals import Invalid, Refused
from nerite.kserve.rendering import Rendering, render_service
from nerite.kserve.resources import KINDS
from nerite.kserve.workloads import Workload

FOLDER = Path(__file__).parent / "vectors"
THEMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
# In what the API server fills in by itself; removed on both sides.
_FILLED_IN = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
    "protocol": "TCP",
    "successThreshold": 1,
    "failureThreshold": 3,
    "periodSeconds": 10,
    "timeoutSeconds": 1,
    "scheme": "HTTP",
    "service": "",
    "apiVersion": "v1",
    "defaultMode": 420,
    "resources": {},
    "securityContext": {},
    "name": "",
}


@dataclass(frozen=True)
class Replayed:
    """One aspect of one object of a vector: what KServe said, what Nerite says."""

    expected: Any
    actual: Any


@cache
def load(theme: str) -> dict[str, dict[str, Any]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (FOLDER / f"{theme}.yaml").read_text(encoding="utf-8")
    return {vector["id"]: vector for vector in yaml.load(text, Loader=loader)["vectors"]}


def replay(vector: dict[str, Any]) -> dict[str, Replayed]:
    """The aspects of a vector by name."""
    aspects: dict[str, Replayed] = {}
    cluster, answers = _admit_documents(vector)
    expected = [
        _admission(result, text)
        for result, text in zip(vector["results"], vector["documents"], strict=True)
    ]
    aspects["admission"] = Replayed(expected, answers)
    if "late_document" in vector:
        aspects["before the late document"] = _before(vector)
    for key, after in vector.get("after", {}).items():
        kind, namespace, name = key.split("/")
        if kind != "InferenceService":
            continue
        service = cluster.get(kind, namespace, name)
        rendering = render_service(service, cluster) if service else None
        suffix = "" if name == _last_service(vector) else f" of {name}"
        for aspect, both in _compare(after, rendering, cluster):
            aspects[aspect + suffix] = both
    return aspects


def _before(vector: dict[str, Any]) -> Replayed:
    """The state that a late runtime ended, and the error that was reported in it."""
    cluster, _ = _admit_documents({k: v for k, v in vector.items() if k != "late_document"})
    ((key, after),) = vector["after"].items()
    service = cluster.get(*key.split("/"))
    assert service is not None
    rendering = render_service(service, cluster)
    status = _status(rendering)
    status.pop("states")
    wanted = (after["before_late_document"], after["errors"])
    return Replayed(wanted, (status, _error(rendering)))


def _last_service(vector: dict[str, Any]) -> str:
    names = [key.split("/")[2] for key in vector["after"] if key.startswith("InferenceService/")]
    return names[-1]


def _admit_documents(vector: dict[str, Any]) -> tuple[Cluster, list[Any]]:
    cluster = builtin_cluster("0.20")
    times = vector.get("created_after_seconds", {})
    answers: list[Any] = []
    texts = [
        *vector["documents"],
        *([vector["late_document"]] if "late_document" in vector else []),
    ]
    for i, text in enumerate(texts):
        (document,) = read_documents(text, "vector.yaml")
        if document.kind not in KINDS:
            cluster = cluster.with_credentials(document)
            answers.append(_admission(vector["results"][i], text))
            continue
        try:
            resource = admit(document, cluster)
        except Refused as refused:
            answers.append({"code": refused.status, "error": refused.text})
            continue
        created = times.get(f"{resource.kind}/{resource.name}", 0)
        cluster = cluster.with_resource(resource, 1000 + created)
        answers.append({"object": normal(resource.object)})
    return cluster, answers[: len(vector["results"])]


def _admission(result: dict[str, Any], text: str) -> Any:
    if not result["accepted"]:
        return {"code": result["code"], "error": result["error"]}
    # An object that is left out was stored as it was written.
    return {"object": normal(result.get("object") or yaml.safe_load(text))}


def _compare(
    after: dict[str, Any], rendering: Rendering | None, cluster: Cluster
) -> Iterator[tuple[str, Replayed]]:
    yield "chosen", Replayed(after.get("chosen"), rendering and _chosen(rendering))
    yield "status", Replayed(after.get("modelStatus"), rendering and _status(rendering))
    yield "errors", Replayed(_errors(after, rendering), rendering and _error(rendering))
    for deployment in after.get("deployments", []):
        workload = _named(rendering, deployment["name"])
        if workload is None or "storageUris" in workload.spec:
            continue
        assert rendering is not None
        if "pod_after_webhook" in deployment or "pod_refused" in deployment:
            wanted = _pod_wanted(deployment)
            aspect = "pod" if workload.component == "predictor" else f"pod {workload.component}"
            if workload.canary:
                aspect += f" {workload.canary}"
            yield aspect, Replayed(wanted, _pod(workload, rendering, cluster))
    if "deployments" in after and rendering:
        wanted = {d["name"]: normal(_flat(d)) for d in after["deployments"]}
        actual = {n: normal(d) for n, d in _deployments(rendering, cluster)}
        yield "deployments", Replayed(wanted, actual)
    if "services" in after and rendering and after.get("deployments"):
        wanted = {s["name"]: s["ports"] for s in after["services"]}
        yield "services", Replayed(wanted, {w.name: w.ports for w in rendering.workloads})


def _chosen(rendering: Rendering) -> Any:
    selection = rendering.selection
    if selection is None or selection.chosen is None:
        return None
    scope = "namespace" if selection.chosen.kind == "ServingRuntime" else "cluster"
    return {"name": selection.chosen.name, "scope": scope}


def _status(rendering: Rendering) -> Any:
    failure = rendering.failure
    if failure is None or not failure.reason:
        return None
    return {
        "transitionStatus": "InvalidSpec",
        "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
        "lastFailureInfo": {"message": failure.message, "reason": failure.reason},
    }


def _errors(after: dict[str, Any], rendering: Rendering | None) -> list[str]:
    """KServe's errors, with the version where it prints a pointer, and without the position in
    its own JSON text that it gives for templates."""
    version = None
    if rendering is not None:
        model = rendering.service.spec["predictor"].get("model", {})
        version = model.get("modelFormat", {}).get("version")
    if "before_late_document" in after:
        return []  # they were reported before it, and are compared there
    texts = [text.replace("0xPTR", str(version)) for text in after.get("errors", [])]
    return [re.sub(r"container-tmpl:1(:\d+)?:", "container-tmpl:", text) for text in texts]


def _error(rendering: Rendering) -> list[str]:
    return [rendering.failure.error] if rendering.failure else []


def _flat(deployment: dict[str, Any]) -> dict[str, Any]:
    apart = ("name", "pod_after_webhook", "pod_refused")
    return {key: value for key, value in deployment.items() if key not in apart}


def _named(rendering: Rendering | None, name: str) -> Workload | None:
    workloads = rendering.workloads if rendering else []
    return next((workload for workload in workloads if workload.name == name), None)


def _pod_wanted(deployment: dict[str, Any]) -> Any:
    if "pod_refused" in deployment:
        return deployment["pod_refused"].partition("denied the request: ")[2]
    return normal(deployment["pod_after_webhook"])


def _pod(workload: Workload, rendering: Rendering, cluster: Cluster) -> Any:
    """What the model adds to the pod: its volumes, and the containers that changed."""
    try:
        pod = pod_with_model(workload, rendering.service, cluster)
    except Invalid as invalid:
        return invalid.text
    before = workload.pod
    changed = {
        key: pod[key]
        for key in ("volumes", "initContainers", "shareProcessNamespace")
        if pod.get(key) != before.get(key)
    }
    containers = [c for c in pod["containers"] if c not in before["containers"]]
    for container in containers:
        # The API server, not KServe, copies limits into requests.
        limits = container.get("resources", {}).get("limits", {})
        for key, value in limits.items():
            container["resources"].setdefault("requests", {}).setdefault(key, value)
    return normal({**changed, "containers": containers})


def _deployments(rendering: Rendering, cluster: Cluster) -> Iterator[tuple[str, dict[str, Any]]]:
    for workload in rendering.workloads:
        # Several sources are KServe's controller's business, one source its pod webhook's.
        several = "storageUris" in workload.spec
        pod = pod_with_model(workload, rendering.service, cluster) if several else workload.pod
        flat = {
            "replicas_field": workload.replicas,
            "labels": workload.labels,
            "annotations": workload.annotations,
            **pod,
        }
        if workload.strategy:
            flat["strategy"] = workload.strategy
        yield workload.name, flat


def normal(value: Any) -> Any:
    """`value` without what the API server fills in, and without empty maps of no meaning."""
    if isinstance(value, list):
        return [normal(item) for item in value]
    if not isinstance(value, dict):
        return value
    cleaned = {key: normal(item) for key, item in value.items()}
    is_object = "kind" in value
    return {
        key: item
        for key, item in cleaned.items()
        if is_object or key not in _FILLED_IN or _FILLED_IN[key] != item
    }


_AGENT = "the agent sidecar (batcher, logger, model puller) is no container here: Nerite does it"
_NODES = "several nodes need a cluster: their environment and worker Deployment are not rendered"
_ESCAPED = "values are not HTML-escaped"
_QUOTES = "quotes in an action are not JSON-escaped first, so it works"
_LITERAL = "a text of the service's own that is no template stays as it is"
_ADMITTED = "refused here, since nothing good can come of it: "
_MERGED = "the two are merged into something a cluster takes, so there is no error"

DEVIATIONS: dict[str, str] = {
    **{f"components/{name}: pod": _AGENT for name in (
        "batcher", "batcher-timeout", "logger", "logger-metadata", "logger-batcher",
    )},
    "forms/model-no-storage-mlserver: pod": _AGENT,
    "images/server-type-triton: pod": _AGENT,
    **{f"trained/{name}: pod": _AGENT for name in (
        "plain", "memory-too-large", "framework-unknown", "memory-changed", "uri-changed",
    )},
    **{f"selection/worker-spec-chosen: {a}": _NODES for a in ("pod", "deployments", "services")},
    **{f"forms/mlserver-label-kept: {a}": "the user's modelClass label is kept"
       for a in ("pod", "deployments")},
    **{f"forms/custom-resources: {a}": "a limit is never filled in below the request"
       for a in ("admission", "errors")},
    **{f"placeholders/html-{n}: {a}": _ESCAPED
       for n in ("less", "plus") for a in ("pod", "deployments")},
    **{f"placeholders/index-quotes: {a}": _QUOTES for a in ("status", "errors")},
    **{f"placeholders/unclosed: {a}": _LITERAL for a in ("status", "errors")},
    "merging/probe-kinds: errors": _MERGED,
    "merging/sidecar-same-name: errors": _MERGED,
    "graphs/weight-negative: admission": _ADMITTED + "a negative weight",
    "graphs/cycle: admission": _ADMITTED + "a graph that never ends",
    "graphs/url-odd: admission": _ADMITTED + "a URL without a scheme",
    "refused/name-long: admission": _ADMITTED + "a name too long for its services",
    "refused/predictor-empty: admission": "refused by the exactly-one rule instead of a panic",
    "refused/spec-missing: admission": "refused by the schema instead of a panic",
    "refused/model-empty: admission": _ADMITTED + "a model without a format",
    "refused/env-no-name: admission": _ADMITTED + "an env entry without a name",
    "runtimes/two-priorities-empty-namespace: admission": "the rule holds for first runtimes too",
    "runtimes/adapter-bad: admission": _ADMITTED + "an unknown serverType",
    "scaling/metric-memory-standard-101: admission": "a memory target is an amount, not a share",
    "selection/namespace-same-name-auto: chosen": "the scope told is that of the chosen runtime",
    "storage/csc-shadow: pod": "of several matching containers the longest prefix wins",
    "storage/csc-bad-workload: admission": _ADMITTED + "an unknown workloadType",
    "storage/csc-bad-regex: admission": _ADMITTED + "a regex that does not compile",
    "storage/csc-bad-regex: errors": "the bad regex was refused, so only the scheme is at fault",
}  # fmt: skip

VECTORS = {name: vector for theme in THEMES for name, vector in load(theme).items()}
# Deviations from vectors without `defect`: parts of a cluster that have no counterpart here.
NO_COUNTERPART = (_AGENT, _NODES)


@pytest.mark.parametrize("name", VECTORS)
def test_nerite_decides_as_kserve_did(name: str) -> None:
    for aspect, both in replay(VECTORS[name]).items():
        case = f"{name}: {aspect}"
        if case in DEVIATIONS:
            assert both.actual != both.expected, f"{case} agrees now: take it off the list"
        else:
            assert both.actual == both.expected, case


def test_every_deviation_is_from_a_defect_or_has_no_counterpart() -> None:
    for case, reason in DEVIATIONS.items():
        vector = VECTORS[case.partition(": ")[0]]
        assert "defect" in vector or reason in NO_COUNTERPART, case


def test_every_deviation_names_an_aspect_that_is_compared() -> None:
    for case in DEVIATIONS:
        name, _, aspect = case.partition(": ")
        assert aspect in replay(VECTORS[name]), case


def test_all_themes_are_here() -> None:
    assert len(VECTORS) == 324


JUNK = (None, 0, -1, 1.5, True, "", "x", [], {}, [None], {"a": None}, [{"name": "a"}])


def _spoiled(value: Any, chance: random.Random) -> Any:
    """`value` with one node, chosen at random, replaced by something that hardly belongs there."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.15:
        return chance.choice(JUNK)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    copy[key] = _spoiled(value[key], chance)
    return copy


@pytest.mark.parametrize("theme", THEMES)
def test_whatever_stands_in_a_document_is_decided_or_refused(theme: str) -> None:
    """No document makes the code fall over: it is refused with a place, or rendered."""
    chance = random.Random(theme)
    for vector in load(theme).values():
        for text in vector["documents"]:
            spoiled = _spoiled(yaml.safe_load(text), chance)
            try:
                documents = read_documents(yaml.safe_dump(spoiled), "spoiled.yaml")
                cluster = admit_all(documents, builtin_cluster("0.20"))
            except ConfigError as refused:
                places = {problem.file for problem in refused.problems}
                assert places == {"spoiled.yaml"}
                continue
            for service in cluster.of_kind("InferenceService"):
                for workload in render_service(service, cluster).workloads:
                    with contextlib.suppress(Invalid):
                        pod_with_model(workload, service, cluster)
