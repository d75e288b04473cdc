# SPDX-License-Identifier: Apache-2.0
"""What an admitted InferenceService becomes: for each component its workload.

`render_service` selects the runtime, completes, merges and renders the containers, and gives one
`Workload` per component and canary, as KServe's controller would put into a Deployment. How the
model gets into the pod is added by `model_volumes`; networks and replicas are in `workloads`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from nerite.kserve.admission import Cluster
from nerite.kserve.defaulting import KSERVE_CONTAINER, TRANSFORMER_CONTAINER
from nerite.kserve.documents import Object
from nerite.kserve.merging import merge_container, merge_pod, omit_empty
from nerite.kserve.pods import CONTAINER_FIELDS, POD_FIELDS
from nerite.kserve.refusals import Invalid
from nerite.kserve.resources import Resource
from nerite.kserve.selection import Failure, Selection, select_runtime
from nerite.kserve.server_types import default_for_server, image_of, server_type_of
from nerite.kserve.storage_paths import check_uri, model_uri, sources_of
from nerite.kserve.template_syntax import TemplateError
from nerite.kserve.templates import render_container
from nerite.kserve.workloads import Workload, explainer_workload, transformer_workload, workload_of

_INVALID_SPEC = "InvalidPredictorSpec"


@dataclass(slots=True)
class Rendering:
    """The decision for one service; without `failure`, `workloads` is what would run."""

    service: Resource
    selection: Selection | None = None
    failure: Failure | None = None
    workloads: list[Workload] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def predictor(self) -> Workload | None:
        return next(
            (w for w in self.workloads if w.component == "predictor" and not w.canary), None
        )


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


def render_service(service: Resource, cluster: Cluster) -> Rendering:
    """Everything decided about an admitted service, given the runtimes of `cluster`."""
    rendering = Rendering(service)
    try:
        predictor = service.spec["predictor"]
        rendering.workloads.append(_predictor(rendering, predictor, cluster, None))
        for canary in service.spec.get("canary", []):
            # KServe's override is shallow: a canary's `model` replaces the stable one whole.
            override = {**_without_scaling(predictor), **canary["predictor"]}
            rendering.workloads.append(_predictor(rendering, override, cluster, canary))
    except _Failed as failed:
        rendering.failure = failed.failure
        rendering.workloads.clear()
        return rendering
    if "transformer" in service.spec:
        rendering.workloads.append(transformer_workload(service))
    if "explainer" in service.spec:
        rendering.workloads.append(explainer_workload(service))
    return rendering


def _without_scaling(predictor: Object) -> Object:
    scaling = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "autoScaling")
    return {key: value for key, value in predictor.items() if key not in scaling}


def _predictor(
    rendering: Rendering, predictor: Object, cluster: Cluster, canary: Object | None
) -> Workload:
    service = rendering.service
    _check_storage(predictor, cluster)
    metadata = deepcopy(service.object["metadata"])
    pod_part = {k: deepcopy(v) for k, v in predictor.items() if k in POD_FIELDS}
    runtime: Resource | None = None
    if "model" in predictor:
        selection = select_runtime(predictor, service.namespace, cluster)
        if canary is None:
            rendering.selection = selection
        if selection.failure:
            raise _Failed(selection.failure)
        assert selection.chosen is not None
        runtime = selection.chosen
        containers = _model_containers(rendering, predictor, runtime, metadata)
        pod = merge_pod(runtime.spec, pod_part)
    else:
        containers = pod_part["containers"]
        pod = omit_empty(pod_part)
    pod["containers"] = [_announced(c, service.name) for c in containers]
    return workload_of(
        service,
        "predictor",
        predictor,
        pod=pod,
        metadata=metadata,
        runtime=runtime,
        canary=canary,
    )


def _check_storage(predictor: Object, cluster: Cluster) -> None:
    formats = [
        known
        for container in cluster.of_kind("ClusterStorageContainer")
        if not container.object.get("disabled")
        for known in container.spec["supportedUriFormats"]
    ]
    try:
        uri = model_uri(predictor.get("model", {}))
        if uri is not None and "storageUri" in predictor.get("model", {}):
            check_uri(uri, formats)
    except Invalid as invalid:
        raise _Failed(Failure("", "", invalid.text)) from None


def _model_containers(
    rendering: Rendering, predictor: Object, runtime: Resource, metadata: Object
) -> list[Object]:
    """kserve-container, transformer-container, the runtime's others, the service's others."""
    service = rendering.service
    model = deepcopy(predictor["model"])
    labels = metadata.setdefault("labels", {})
    default_for_server(model, labels, runtime, service.name, bool(sources_of(predictor)))
    own = {k: v for k, v in model.items() if k in CONTAINER_FIELDS}
    theirs = {c["name"]: c for c in runtime.spec["containers"]}
    if not theirs:
        text = "no container configuration found in selected serving runtime"
        raise _Failed(Failure(_INVALID_SPEC, text, text))
    if KSERVE_CONTAINER not in theirs:
        text = f"failed to find {KSERVE_CONTAINER} in ServingRuntime containers"
        raise _Failed(Failure(_INVALID_SPEC, text, text))
    server = _rendered(rendering, theirs.pop(KSERVE_CONTAINER), own, runtime, metadata)
    server["image"] = image_of(server, model.get("runtimeVersion"), server_type_of(runtime))
    sidecars = {c.get("name", ""): c for c in predictor.get("containers", [])}
    containers = [server]
    transformer = sidecars.pop(TRANSFORMER_CONTAINER, None)
    if transformer is not None or TRANSFORMER_CONTAINER in theirs:
        base = theirs.pop(TRANSFORMER_CONTAINER, {})
        containers.append(_rendered(rendering, base, transformer or {}, runtime, metadata))
    for name, base in theirs.items():
        # KServe appends both where the service has a sidecar of that name; no cluster takes two.
        containers.append(merge_container(base, sidecars.pop(name, {})))
    return containers + [omit_empty(deepcopy(c)) for c in sidecars.values()]


def _rendered(
    rendering: Rendering, base: Object, own: Object, runtime: Resource, metadata: Object
) -> Object:
    merged = merge_container(base, own)
    try:
        rendered = render_container(merged, own, metadata)
    except TemplateError as error:
        text = (
            f"failed to replace placeholders in serving runtime {runtime.name} "
            f"Container {merged['name']}"
        )
        raise _Failed(
            Failure(_INVALID_SPEC, text, f"{text}: template: container-tmpl: {error}")
        ) from None
    rendering.warnings += rendered.warnings
    container: Object = rendered.value
    return container


def _announced(container: Object, service_name: str) -> Object:
    """`container` told by INFERENCE_SERVICE_NAME which service it belongs to."""
    env = [e for e in container.get("env", []) if e.get("name") != "INFERENCE_SERVICE_NAME"]
    container["env"] = [*env, {"name": "INFERENCE_SERVICE_NAME", "value": service_name}]
    return container
