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
from dataclasses import asdict, dataclass

from nerite.kserve.admission import Cluster
from nerite.kserve.defaulting import KSERVE_CONTAINER, TRANSFORMER_CONTAINER
from nerite.kserve.documents import Object
from nerite.kserve.model_volumes import pod_with_model
from nerite.kserve.refusals import Invalid
from nerite.kserve.rendering import Rendering
from nerite.kserve.resources import Resource
from nerite.kserve.storage_paths import Source, sources_of
from nerite.kserve.workloads import INTERNAL, Workload, predictor_host
from nerite.local.containers import (
    Container,
    Probe,
    expand,
    fixed_ports,
    ports_of,
    probe_of,
    vital_probe_of,
)
from nerite.local.credentials import credentials_of
from nerite.local.sidecars import logger_problem, scaling_warnings
from nerite.local.stand_ins import FORMATS, Machine, is_stood_in, server_type, stand_in
from nerite.local.storage import is_elsewhere
from nerite.local.variables import Unknown, variables_of

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
        value = [[asdict(c) for c in self.containers], sources if self.credentials else sources[0]]
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
    builder = _Builder(workload, rendering, cluster, machine)
    if problem := logger_problem(workload.spec, service):
        builder.warnings.append(f"nothing is logged: {problem}")
    builder.warnings += scaling_warnings(workload.spec)
    try:
        containers = [c for spec in pod["containers"] if (c := builder.container(spec))]
        sources = _sources(workload, pod, service.document.file)
        credentials = credentials_of(workload, pod, service, cluster) if _remote(sources) else {}
    except (_Impossible, Unknown) as impossible:
        return _blocked(base, str(impossible))
    return Component(
        base.namespace,
        base.service,
        base.role,
        base.name,
        tuple(containers),
        tuple(sources),
        tuple(sorted(credentials.items())),
        warnings=tuple(builder.warnings),
        canary=base.canary,
        percent=percent,
        replicas=base.replicas,
        needs=needs,
    )


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


class _Impossible(Exception):
    """A container that serves cannot run here; the text says what would be needed."""


class _Builder:
    """Turns the containers of one pod into processes."""

    def __init__(
        self, workload: Workload, rendering: Rendering, cluster: Cluster, machine: Machine
    ) -> None:
        self.workload = workload
        self.service = rendering.service
        self.cluster = cluster
        self.machine = machine
        self.warnings: list[str] = []
        selection = rendering.selection
        in_runtime = workload.component == "predictor" and "model" in workload.spec
        self.runtime = selection.chosen if selection and in_runtime else None

    def container(self, spec: Object) -> Container | None:
        """The process; None for a sidecar that cannot run here, which a warning tells."""
        name = str(spec.get("name", ""))
        if name == "modelcar":
            raise _Impossible(
                f"{self.workload.name} takes its model from an image (oci://), which needs a "
                "container engine; name the model by pvc://, file:// or a local path"
            )
        try:
            return self._stand_in(spec) or self._program(spec)
        except _Impossible as impossible:
            first = self.workload.pod["containers"][0].get("name")
            if name in (KSERVE_CONTAINER, TRANSFORMER_CONTAINER, first):
                raise
            self.warnings.append(f"not run here: {impossible}")
            return None

    def _stand_in(self, spec: Object) -> Container | None:
        if self.runtime is None or spec["name"] != KSERVE_CONTAINER:
            return None
        server = server_type(self.runtime)
        format_name = self.workload.spec["model"]["modelFormat"]["name"]
        if not is_stood_in(server, format_name):
            return None
        if not self.workload.annotations.get(f"{INTERNAL}/storage-initializer-sourceuri") and (
            not self.workload.spec.get("storageUris")
        ):
            raise _Impossible(
                f"{self.workload.name} has no model (no storageUri); a server that TrainedModels "
                "are loaded into is not offered here"
            )
        variables = self._variables(spec)
        found = stand_in(spec, server, self.service.name, variables, self.machine)
        self.warnings += [
            f"the argument {word} of {spec['name']} has no effect on Nerite"
            for word in found.ignored
        ]
        return found.container

    def _program(self, spec: Object) -> Container:
        variables = self._variables(spec)
        words = [expand(w, variables) for w in (*spec.get("command", []), *spec.get("args", []))]
        if not words or (not spec.get("command") and words[0].startswith("-")):
            raise _Impossible(self._without_command(spec))
        # An absolute path is one of the image's; here the program may lie elsewhere.
        program = self.machine.which(words[0]) or self.machine.which(posixpath.basename(words[0]))
        if program is None:
            raise _Impossible(
                f"{self._called(spec)} runs the program '{words[0]}', which is not on this machine"
                f"{self._image(spec)}; install it, or give 'command' a program that is here"
            )
        ports = ports_of(spec)
        texts = (*words, *variables.values())
        return Container(
            str(spec["name"]),
            (program, *words[1:]),
            probe_of(spec),
            tuple(sorted(variables.items())),
            ports,
            fixed_ports(ports, texts),
            str(spec.get("workingDir", "")),
            grpc_port=_grpc_port(spec),
            liveness=self._vital(spec, "livenessProbe"),
            startup=self._vital(spec, "startupProbe"),
        )

    def _vital(self, spec: Object, key: str) -> Probe | None:
        found = vital_probe_of(spec, key)
        if found is None and spec.get(key):
            self.warnings.append(
                f"the {key} of {self._called(spec)} is not asked: only httpGet and tcpSocket are"
            )
        return found

    def _variables(self, spec: Object) -> dict[str, str]:
        try:
            return variables_of(spec, self.service, self.workload.name, self.cluster)
        except Unknown as unknown:
            raise _Impossible(f"{self._called(spec)} {unknown}") from None

    def _called(self, spec: Object) -> str:
        return f"container {spec.get('name', '')} of {self.workload.name}"

    def _image(self, spec: Object) -> str:
        image = spec.get("image")
        return f" (it is in the image {image})" if image else ""

    def _without_command(self, spec: Object) -> str:
        image = spec.get("image", "no image")
        start = f"{self._called(spec)} runs what is in the image {image}"
        if self.runtime is None or spec.get("name") != KSERVE_CONTAINER:
            return f"{start}, and no container engine is used here; give it a 'command'"
        server = server_type(self.runtime)
        format_name = self.workload.spec["model"]["modelFormat"]["name"]
        if server in FORMATS:
            known = ", ".join(sorted(FORMATS[server]))
            return (
                f"{start}; in the place of {server} Nerite serves {known}, not {format_name}: "
                f"give the runtime {self.runtime.name} a 'command' that is on this machine"
            )
        known = ", ".join(sorted(FORMATS))
        return (
            f"{start}; give the runtime {self.runtime.name} a 'command' that is on this machine, "
            f"or the annotation serving.kserve.io/server-type with a server that Nerite stands in "
            f"for ({known})"
        )


def _grpc_port(spec: Object) -> int | None:
    for port in spec.get("ports", []):
        if any(word in port.get("name", "") for word in ("grpc", "h2c")):
            return int(port["containerPort"])
    return None
