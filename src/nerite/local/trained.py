# SPDX-License-Identifier: Apache-2.0
"""The TrainedModels of a daemon: models put into the predictor of an InferenceService without one.

Which of them get there is decided as KServe does: the service must have no model of its own, and
its memory limit must be enough for all, those first that were there first. One whose service is
not there is kept and waits, where a cluster would delete it. Not safe by itself: the daemon calls
it under its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from nerite.kserve.admission import Cluster
from nerite.kserve.documents import Object
from nerite.kserve.graphs import v1_path, v2_path
from nerite.kserve.quantities import parse_quantity
from nerite.kserve.resources import Resource
from nerite.kserve.storage_paths import Source
from nerite.kserve.workloads import is_multi_model
from nerite.local.components import Component
from nerite.local.conditions import condition, is_ready, since
from nerite.local.credentials import account_variables
from nerite.local.events import Events, readiness
from nerite.local.supervisor import GroupView
from nerite.local.variables import Unknown

Key = tuple[str, str]
Views = Mapping[str, GroupView]
StatusOf = Callable[[Key], Object | None]
#: No component of a service has a dot in its name.
TRAINED_SUFFIX = ".trainedmodel"
_NOT_READY = "Inference Service needs to be ready before Trained Model can be ready"
_NOT_MULTI = "Inference Service predictor is not configured for multi-model serving"
_NO_MEMORY = "Inference Service does not have enough memory resources for Trained Model"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one TrainedModel."""

    model: Resource
    parent: Resource | None
    is_multi_model: bool = False
    fits: bool = False

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.model.namespace, self.model.name

    @property
    def component(self) -> str:
        """The name of its component."""
        return f"{self.model.name}{TRAINED_SUFFIX}"


def verdicts(cluster: Cluster) -> list[Verdict]:
    """One for each TrainedModel, by namespace and name."""

    def age(model: Resource) -> tuple[float, str]:
        return cluster.created.get((model.kind, model.namespace, model.name), 0.0), model.name

    taken: dict[Key, Decimal] = {}
    found = []
    for model in sorted(cluster.of_kind("TrainedModel"), key=age):
        parent = cluster.get("InferenceService", model.namespace, model.spec["inferenceService"])
        if parent is None:
            found.append(Verdict(model, None))
            continue
        key = parent.namespace, parent.name
        together = taken.get(key, Decimal(0)) + parse_quantity(model.spec["model"]["memory"])
        fits = together <= memory_of(parent)
        if fits:
            taken[key] = together
        found.append(Verdict(model, parent, is_multi_model(parent.spec["predictor"]), fits))
    return sorted(found, key=lambda verdict: verdict.key)


def memory_of(parent: Resource) -> Decimal:
    """The memory limit that a service itself gives its predictor; nothing if it gives none."""
    predictor = parent.spec["predictor"]
    container: Object = predictor.get("model") or (predictor.get("containers") or [{}])[0]
    limits: Object = (container.get("resources") or {}).get("limits") or {}
    return parse_quantity(limits.get("memory", 0))


class TrainedModels:
    """See the module."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._verdicts: list[Verdict] = []
        self._wanted: dict[Key, list[Component]] = {}
        self._statuses: dict[Key, Object] = {}

    def components(
        self, cluster: Cluster, hosts: Callable[[Key], Iterable[str]]
    ) -> list[Component]:
        """What shall be loaded; `hosts` tells the components of a service that take models."""
        self._verdicts = verdicts(cluster)
        self._wanted = {v.key: list(_components(v, cluster, hosts)) for v in self._verdicts}
        return [component for found in self._wanted.values() for component in found]

    def keys_of(self, key: Key) -> tuple[str, ...]:
        """The keys of a model's components, whether they are wanted or not."""
        return (f"{key[0]}/{key[1]}{TRAINED_SUFFIX}",)

    def log_keys(self, key: Key) -> tuple[str, ...]:
        """The keys under which something of a model may be logged; none without such a model."""
        return self.keys_of(key) if key in self._wanted else ()

    def keys(self) -> set[str]:
        """The keys of all components that are wanted."""
        return {component.key for found in self._wanted.values() for component in found}

    def status(self, key: Key) -> Object:
        """The status of a model."""
        return self._statuses.get(key, {})

    def look(self, status_of: StatusOf, views: Views, now: float) -> None:
        """Brings statuses up to date; `status_of` tells a service's, or None for no service."""
        before, self._statuses = self._statuses, {}
        for verdict in self._verdicts:
            last = before.get(verdict.key, {})
            parent = status_of((verdict.model.namespace, verdict.model.spec["inferenceService"]))
            groups = self._groups(verdict.key, views)
            conditions = _conditions(verdict, parent, groups)
            status: Object = {
                "conditions": since(conditions, last.get("conditions", []), now),
                "observedGeneration": verdict.model.object["metadata"].get("generation", 1),
                **_addresses(verdict, parent or {}),
            }
            self._statuses[verdict.key] = status
            event_key = verdict.model.namespace, verdict.component
            self._events.add(
                event_key, now, readiness("TrainedModel", verdict.model.name, last, status)
            )

    def _groups(self, key: Key, views: Views) -> list[GroupView]:
        (name,) = self.keys_of(key)
        return [g for k, g in views.items() if k.partition("@")[0] == name and g.wanted]

    def details(self, key: Key, views: Views) -> Object:
        """Processes and events, for `describe`."""
        copies = [copy for group in self._groups(key, views) for copy in group.copies]
        return {
            "components": [copy.described(key[1], "-") for copy in copies],
            "events": self._events.of((key[0], f"{key[1]}{TRAINED_SUFFIX}")),
        }


def _components(
    verdict: Verdict, cluster: Cluster, hosts: Callable[[Key], Iterable[str]]
) -> Iterator[Component]:
    model, parent = verdict.model, verdict.parent
    if parent is None or not (verdict.is_multi_model and verdict.fits):
        return
    account = str(parent.spec["predictor"].get("serviceAccountName", "default"))
    obstacle, credentials = "", {}
    try:
        credentials = account_variables(account, model.namespace, cluster)
    except Unknown as unknown:
        obstacle = f"{parent.name} {unknown}"
    for host in hosts((parent.namespace, parent.name)):
        yield Component(
            model.namespace,
            verdict.component,
            "trained",
            verdict.component,
            sources=(Source(model.spec["model"]["storageUri"]),),
            credentials=tuple(sorted(credentials.items())),
            obstacle=obstacle,
            lives_in=host,
            model=model.name,
        )


def _conditions(verdict: Verdict, parent: Object | None, groups: list[GroupView]) -> list[Object]:
    """KServe's three, and Ready: the last of them that fails, or why it is not loaded."""
    service = verdict.model.spec["inferenceService"]
    there = f'{_NOT_READY}: inferenceservices.serving.kserve.io "{service}" not found'
    why = _NOT_READY if verdict.parent is not None else there
    asked = [
        ("InferenceServiceReady", is_ready(parent or {}), "InferenceServiceNotReady", why),
        ("IsMMSPredictor", verdict.is_multi_model, "IsNotMMSPredictor", _NOT_MULTI),
        ("MemoryResourceAvailable", verdict.fits, "MemoryResourceNotAvailable", _NO_MEMORY),
    ]
    ready = _loaded(groups)
    if verdict.parent is None:
        first = condition("InferenceServiceReady", "False", "InferenceServiceNotReady", why)
        others = [condition(kind, "Unknown") for kind, *_ in asked[1:]]
        return [first, *others, {**first, "type": "Ready"}]
    found = []
    for kind, holds, reason, message in asked:
        each = condition(kind, "True") if holds else condition(kind, "False", reason, message)
        found.append(each)
        if not holds:
            ready = {**each, "type": "Ready"}
    return [*found, ready]


def _loaded(groups: list[GroupView]) -> Object:
    """Whether the model is in every process of its service."""
    for group in groups:
        wanted = group.wanted[0]
        if wanted.obstacle:
            return condition("Ready", "False", "CannotRunHere", wanted.obstacle)
        mine = [c for c in group.copies if c.component.digest == wanted.digest and not c.stopping]
        before = "; what was loaded before goes on answering" if group.serving else ""
        for copy in mine:
            if copy.problem:
                return condition("Ready", "False", "ModelLoadFailed", copy.problem + before)
        if not group.serving:
            told = next((f": {copy.progress}" for copy in mine if copy.progress), "")
            is_fetched = not any(copy.fetching for copy in mine)
            text = (
                "The model is being loaded" if is_fetched else f"The model is being fetched{told}"
            )
            return condition("Ready", "False", "ModelLoading", text)
    if not groups:
        return condition("Ready", "False", "ModelLoading", "The model is being loaded")
    return condition("Ready", "True")


def _addresses(verdict: Verdict, parent: Object) -> Object:
    """Where it is asked, as soon as its service has an address."""
    if verdict.parent is None:
        return {}
    model: Object = verdict.parent.spec["predictor"].get("model") or {}
    path_of = v2_path if model.get("protocolVersion") in ("v2", "grpc-v2") else v1_path
    path, found = path_of(verdict.model.name), {}
    if address := parent.get("address", {}).get("url"):
        found["address"] = {"url": address + path}
    if url := parent.get("url"):
        found["url"] = url + path
    return found
