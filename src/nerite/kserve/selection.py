# SPDX-License-Identifier: Apache-2.0
"""Which ServingRuntime an InferenceService gets, and what every other one lacked.

KServe 0.20's rule, exactly: a named runtime is taken or refused; otherwise the eligible ones are
ordered (namespaced before cluster, then priority, lowest protocol, age, name) and the first wins.
KServe says only that none was found; here each runtime carries the first criterion it failed, and
a hint where the failure is one that people commonly run into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from nerite.kserve import near_misses
from nerite.kserve.admission import Cluster, key_of
from nerite.kserve.documents import Object
from nerite.kserve.resources import Resource

Outcome = Literal["chosen", "eligible", "rejected"]
_PROTOCOL_ORDER = {"v1": 1, "v2": 2, "grpc-v1": 3, "grpc-v2": 4}
_UNKNOWN_PROTOCOL = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """The first criterion that a runtime failed, and what the user may do about it."""

    criterion: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.criterion}; hint: {self.hint}" if self.hint else self.criterion


@dataclass(frozen=True, slots=True)
class Candidate:
    runtime: Resource
    outcome: Outcome
    reason: str

    @property
    def scope(self) -> str:
        return scope_of(self.runtime)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing was chosen: the status' reason and message, and the controller's error."""

    reason: str
    message: str
    error: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The decision for one predictor; exactly one of `chosen` and `failure` is set."""

    chosen: Resource | None
    failure: Failure | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a predictor asks for."""

    namespace: str
    format_name: str
    version: str | None
    protocol: str | None
    runtime: str | None
    multi_node: bool
    unknown: bool = False
    """Whether no runtime at all knows a format of that name."""

    @property
    def label(self) -> str:
        name, version = self.format_name, self.version
        return name if version is None else f"{name}:{version}"


def request_of(predictor: Object, namespace: str) -> Request:
    """What a defaulted predictor with a `model` asks for."""
    model = predictor["model"]
    return Request(
        namespace,
        model["modelFormat"]["name"],
        model["modelFormat"].get("version"),
        model.get("protocolVersion"),
        model.get("runtime"),
        "workerSpec" in predictor,
    )


def select_runtime(predictor: Object, namespace: str, cluster: Cluster) -> Selection:
    """Decide for a defaulted predictor that has a `model`."""
    request = request_of(predictor, namespace)
    ordered = candidate_order(request, cluster)
    known = {entry["name"] for runtime in ordered for entry in _formats(runtime)}
    request = replace(request, unknown=request.format_name not in known)
    # The empty name counts as a name, in KServe too.
    if request.runtime is not None:
        return _named(request, ordered)
    return _automatic(request, ordered)


def scope_of(runtime: Resource) -> str:
    return "namespace" if runtime.kind == "ServingRuntime" else "cluster"


def candidate_order(request: Request, cluster: Cluster) -> list[Resource]:
    """Every runtime the service can see, in the order in which KServe would prefer them."""

    def preference(runtime: Resource) -> tuple[object, ...]:
        priority = _priority(runtime, request.format_name)
        by_priority = (1, 0) if priority is None else (0, -priority)
        age = cluster.created.get(key_of(runtime), 0.0)
        return (*by_priority, lowest_protocol(runtime)[0], -age, runtime.name)

    namespaced = cluster.of_kind("ServingRuntime", request.namespace)
    shared = cluster.of_kind("ClusterServingRuntime")
    return sorted(namespaced, key=preference) + sorted(shared, key=preference)


def lowest_protocol(runtime: Resource) -> tuple[int, str | None]:
    """The runtime's first protocol in KServe's order, with its place in that order."""
    protocols = runtime.spec.get("protocolVersions", [])
    ranked = [(_PROTOCOL_ORDER.get(p, _UNKNOWN_PROTOCOL), p) for p in protocols]
    return min(ranked, key=lambda pair: pair[0], default=(_UNKNOWN_PROTOCOL, None))


def _formats(runtime: Resource) -> list[Object]:
    entries: list[Object] = runtime.spec.get("supportedModelFormats", [])
    return entries


def _priority(runtime: Resource, format_name: str) -> int | None:
    # The first entry of that name counts, whatever its version and autoSelect.
    for entry in _formats(runtime):
        if entry["name"] == format_name:
            priority: int | None = entry.get("priority")
            return priority
    return None


def _labels(entries: list[Object]) -> set[str]:
    names = {entry["name"] for entry in entries}
    return names | {f"{e['name']}:{e['version']}" for e in entries if "version" in e}


def _automatic(request: Request, ordered: list[Resource]) -> Selection:
    chosen: Resource | None = None
    candidates = []
    for runtime in ordered:
        rejection = _first_failed(request, runtime)
        if rejection is not None:
            candidates.append(Candidate(runtime, "rejected", str(rejection)))
        elif chosen is None:
            chosen = runtime
            candidates.append(Candidate(runtime, "chosen", "first eligible in candidate order"))
        else:
            candidates.append(Candidate(runtime, "eligible", _why_later(request, chosen, runtime)))
    failure = None
    if chosen is None:
        version = "<nil>" if request.version is None else request.version
        asked = f"{{{request.format_name} {version}}}"
        failure = Failure(
            "NoSupportingRuntime",
            "No runtime found to support specified framework/version",
            f"no runtime found to support predictor with model type: {asked}",
        )
    return Selection(chosen, failure, tuple(candidates))


def _why_later(request: Request, chosen: Resource, runtime: Resource) -> str:
    if scope_of(chosen) != scope_of(runtime):
        return f"after {chosen.name}: runtimes of the namespace come before those of the cluster"
    mine, theirs = (_priority(r, request.format_name) for r in (runtime, chosen))
    if mine != theirs:
        return f"after {chosen.name}: priority {_shown(mine)} against {_shown(theirs)}"
    if lowest_protocol(runtime)[0] != lowest_protocol(chosen)[0]:
        return f"after {chosen.name}: same priority, but {chosen.name} has the lower protocol"
    return f"after {chosen.name}: same priority and protocol; the newer, then the name decides"


def _shown(priority: int | None) -> str:
    return "none" if priority is None else str(priority)


def _first_failed(request: Request, runtime: Resource) -> Rejection | None:
    criteria: tuple[Callable[[Request, Resource], Rejection | None], ...] = (
        _is_enabled,
        _serves_one_model,
        _supports_format,
        _speaks_protocol,
        _has_the_nodes,
    )
    return next((found for check in criteria if (found := check(request, runtime))), None)


def _is_enabled(_: Request, runtime: Resource) -> Rejection | None:
    return Rejection("it is disabled") if runtime.spec.get("disabled") else None


def _serves_one_model(_: Request, runtime: Resource) -> Rejection | None:
    if not runtime.spec.get("multiModel"):
        return None
    hint = f'multi-model runtimes are never chosen by themselves; set runtime: "{runtime.name}"'
    return Rejection("it is a multi-model runtime (multiModel: true)", hint)


def _supports_format(request: Request, runtime: Resource) -> Rejection | None:
    entries = _formats(runtime)
    automatic = [entry for entry in entries if entry.get("autoSelect")]
    if request.label in _labels(automatic):
        return None
    if request.label in _labels(entries):
        return Rejection(
            f'it supports the format "{request.label}", but without autoSelect',
            f"add autoSelect: true to that entry of {runtime.name}, "
            f'or set runtime: "{runtime.name}"',
        )
    same = [entry for entry in entries if entry["name"] == request.format_name]
    if same:
        return _version_differs(request, same)
    names = [entry["name"] for entry in entries] if request.unknown else []
    hint = near_misses.of_format(request.format_name, names)
    return Rejection(f'it does not support the format "{request.format_name}"', hint)


def _version_differs(request: Request, entries: list[Object]) -> Rejection:
    versions = [entry["version"] for entry in entries if "version" in entry]
    criterion = f'it does not support version "{request.version}" of "{request.format_name}"'
    return Rejection(criterion, near_misses.of_version(versions))


def _speaks_protocol(request: Request, runtime: Resource) -> Rejection | None:
    protocols = runtime.spec.get("protocolVersions", [])
    asked = request.protocol or "v1"
    if not protocols or asked in protocols:
        return None
    spoken = ", ".join(protocols)
    if request.protocol is None:
        best = lowest_protocol(runtime)[1]
        return Rejection(
            f"it does not speak v1, which is asked for when protocolVersion is not set ({spoken})",
            f"set protocolVersion: {best} on the model",
        )
    return _other_protocol(asked, protocols)


def _other_protocol(asked: str, protocols: list[str]) -> Rejection:
    criterion = f"it does not speak {asked} ({', '.join(protocols)})"
    return Rejection(criterion, near_misses.of_protocol(asked, protocols))


def _has_the_nodes(request: Request, runtime: Resource) -> Rejection | None:
    offered = "workerSpec" in runtime.spec
    if offered == request.multi_node:
        return None
    if offered:
        hint = "add workerSpec: {} to the predictor if several nodes are meant"
        return Rejection("it is for several nodes (workerSpec), the service asks for one", hint)
    return Rejection("it is for one node, the service asks for several (workerSpec)")


def _named(request: Request, ordered: list[Resource]) -> Selection:
    name = request.runtime
    named = next((runtime for runtime in ordered if runtime.name == name), None)
    failure, rejection = _refusal(request, named)
    names = [runtime.name for runtime in ordered]
    nearest = near_misses.of_runtime(name or "", names) if named is None else ""
    candidates = []
    for runtime in ordered:
        if runtime is named:
            outcome: Outcome = "chosen" if rejection is None else "rejected"
            reason = "named by the service" if rejection is None else str(rejection)
            candidates.append(Candidate(runtime, outcome, reason))
        elif runtime.name == name:
            reason = "a runtime of this name in the service's namespace comes first"
            candidates.append(Candidate(runtime, "rejected", reason))
        else:
            reason = f'the service names the runtime "{name}"'
            if not name:
                reason += "; hint: an empty name counts as a name, so leave `runtime` out"
            elif runtime.name == nearest:
                reason += f', which is not there; hint: did you mean "{runtime.name}"?'
            candidates.append(Candidate(runtime, "rejected", reason))
    return Selection(None if failure else named, failure, tuple(candidates))


def _refusal(
    request: Request, named: Resource | None
) -> tuple[Failure, Rejection] | tuple[None, None]:
    """Why the named runtime cannot be used, in KServe's words and in ours."""
    if named is None:
        text = f"No ServingRuntimes or ClusterServingRuntimes with the name: {request.runtime}"
        message = "Waiting for runtime to become available"
        return Failure("RuntimeNotRecognized", message, text), Rejection("there is no such runtime")
    start = f"specified runtime {named.name}"
    if named.spec.get("disabled"):
        message, error = "Specified runtime is disabled", f"{start} is disabled"
        return Failure("RuntimeDisabled", message, error), Rejection("it is disabled")
    protocols = named.spec.get("protocolVersions", [])
    if request.protocol is not None and protocols and request.protocol not in protocols:
        what = "does not support specified protocol version"
        rejection = _other_protocol(request.protocol, protocols)
        failure = Failure("NoSupportingRuntime", f"Specified runtime {what}", f"{start} {what}")
        return failure, rejection
    if request.label not in _labels(_formats(named)):
        what = "does not support specified framework/version"
        found = _supports_format(request, named)
        rejection = found or Rejection("it does not support the format")
        failure = Failure("NoSupportingRuntime", f"Specified runtime {what}", f"{start} {what}")
        return failure, rejection
    return None, None
