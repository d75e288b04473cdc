# SPDX-License-Identifier: Apache-2.0
"""What an InferenceService needs running on this machine: one `Component` per Deployment.

`desired_components` is a function of what KServe decided (`nerite.kserve.rendering`) and of which
programs there are. A container becomes Nerite, where Nerite has the backend; a program of this
machine, where its command names one; otherwise the component says what it would take. Nothing is
fetched or started here.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import asdict, dataclass, replace

from nerite.kserve.admission import Cluster
from nerite.kserve.defaulting import KSERVE_CONTAINER, TRANSFORMER_CONTAINER
from nerite.kserve.documents import Object
from nerite.kserve.model_volumes import pod_with_model
from nerite.kserve.refusals import Invalid
from nerite.kserve.rendering import Rendering
from nerite.kserve.resources import Resource
from nerite.kserve.storage_paths import Source, sources_of
from nerite.kserve.workloads import INTERNAL, Workload, is_multi_model, predictor_host
from nerite.local.containers import Container, lone_copy
from nerite.local.credentials import credentials_of
from nerite.local.pod_processes import Impossible, PodBuilder
from nerite.local.sharing import is_asked_for, own_process_needed
from nerite.local.sidecars import logger_problem, scaling_warnings
from nerite.local.stand_ins import Machine
from nerite.local.storage import is_elsewhere
from nerite.local.variables import Unknown

STOP = "serving.kserve.io/stop"
#: `Component.lives_in` of what any shared process may take.
SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Component:
    """One server of a service: the processes of its pod, or why there are none."""

    namespace: str
    service: str
    role: str
    name: str
    containers: tuple[Container, ...] = ()
    sources: tuple[Source, ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()
    """Variables with which what has to be downloaded is."""
    obstacle: str = ""
    warnings: tuple[str, ...] = ()
    canary: str = ""
    percent: int = 100
    replicas: int = 1
    """So many copies of it run."""
    needs: str = ""
    """The component whose address it is told, so that one must be up first."""
    lives_in: str = ""
    """In whose process its model is: a component's key, or `SHARED`; empty if it has its own."""
    model: str = ""
    """The name under which it is loaded there."""
    hosts_models: bool = False
    """Whether models of others are put into its process."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def digest(self) -> str:
        """Changes exactly if the processes must be started anew."""
        sources = [[asdict(s) for s in self.sources], self.credentials]
        value: list[object] = [[asdict(c) for c in self.containers]]
        value.append(sources if self.credentials else sources[0])
        if self.lives_in or self.hosts_models:
            value.append([self.lives_in, self.model, self.hosts_models])
        text = json.dumps(value, sort_keys=True, default=sorted)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def serving(self) -> Container:
        """The container that requests go to first."""
        by_name = {container.name: container for container in self.containers}
        return by_name.get(TRANSFORMER_CONTAINER) or by_name.get(
            KSERVE_CONTAINER, self.containers[0]
        )


def is_stopped(service: Resource) -> bool:
    """Whether the service asks for nothing to run."""
    return bool(service.object["metadata"].get("annotations", {}).get(STOP) == "true")


def desired_components(rendering: Rendering, cluster: Cluster, machine: Machine) -> list[Component]:
    """The components of a service; none if it is stopped or KServe would not run it."""
    service = rendering.service
    if rendering.failure or is_stopped(service):
        return []
    shares = {c["predictor"]["name"]: c["trafficPercent"] for c in service.spec.get("canary", [])}
    found = []
    for workload in rendering.workloads:
        percent = 100
        if workload.component == "predictor":
            rest = 100 - sum(shares.values())
            percent = shares[workload.canary] if workload.canary else rest
        found.append(_component(workload, rendering, cluster, machine, percent))
    return found


def _component(
    workload: Workload, rendering: Rendering, cluster: Cluster, machine: Machine, percent: int
) -> Component:
    service = rendering.service
    needs = "" if workload.component == "predictor" else predictor_host(service).split(".")[0]
    base = Component(
        service.namespace,
        service.name,
        workload.component,
        workload.name,
        canary=workload.canary,
        percent=percent,
        replicas=_replicas(workload),
        needs=needs,
    )
    try:
        pod = pod_with_model(workload, service, cluster)
    except Invalid as invalid:
        return _blocked(base, invalid.text)
    builder = PodBuilder(workload, rendering, cluster, machine)
    if problem := logger_problem(workload.spec, service):
        builder.warnings.append(f"nothing is logged: {problem}")
    builder.warnings += scaling_warnings(workload.spec)
    try:
        containers = [c for spec in pod["containers"] if (c := builder.container(spec))]
        sources = _sources(workload, pod, service.document.file)
        credentials = credentials_of(workload, pod, service, cluster) if _remote(sources) else {}
    except (Impossible, Unknown) as impossible:
        return _blocked(base, str(impossible))
    builder.warnings += lone_copy(containers, base.replicas)
    made = replace(
        base,
        containers=tuple(containers),
        sources=tuple(sources),
        credentials=tuple(sorted(credentials.items())),
        hosts_models=base.role == "predictor" and is_multi_model(workload.spec),
    )
    if base.role == "predictor" and not made.hosts_models:
        made = _sharing(made, builder, service, machine)
    return replace(made, warnings=tuple(builder.warnings))


def _sharing(
    component: Component, builder: PodBuilder, service: Resource, machine: Machine
) -> Component:
    """The component, as a model in a shared process if that was asked for and can be."""
    asked, problem = is_asked_for(service, machine.shared)
    if problem:
        builder.warnings.append(problem)
    if not asked:
        return component
    why = own_process_needed(
        builder.workload.spec, component.containers, builder.passed, component.sources
    )
    if why:
        builder.warnings.append(f"it has a process of its own: {why}")
        return component
    return replace(component, lives_in=SHARED, model=component.serving.model_name)


def _replicas(workload: Workload) -> int:
    """The least copies: what an autoscaler would keep running, since there is none here."""
    return max(1, workload.replicas if workload.canary else workload.spec.get("minReplicas") or 1)


def _blocked(base: Component, why: str) -> Component:
    head = (base.namespace, base.service, base.role, base.name)
    return Component(*head, obstacle=why, canary=base.canary, percent=base.percent)


def _sources(workload: Workload, pod: Object, file: str) -> list[Source]:
    """What is fetched before the start: URIs resolved, each with its folder in the container."""
    if workload.spec.get("storageUris"):
        return [Source(_absolute(s.uri, file), s.mount_path) for s in sources_of(workload.spec)]
    uri = workload.annotations.get(f"{INTERNAL}/storage-initializer-sourceuri")
    if not uri:
        return []
    for container in pod.get("initContainers", []):
        if container.get("name") == "storage-initializer":
            uri = container["args"][0]
    return [Source(_absolute(uri, file))]


def _remote(sources: list[Source]) -> bool:
    return any(is_elsewhere(source.uri) for source in sources)


def _absolute(uri: str, file: str) -> str:
    """A relative path is meant from the file that names it; everything else is as it is."""
    if "://" in uri or posixpath.isabs(uri):
        return uri
    return posixpath.normpath(posixpath.join(posixpath.dirname(file), uri))
