# SPDX-License-Identifier: Apache-2.0
"""Turn a component's pod into the workload that runs it: names, labels, probes, ports, replicas.

A `Workload` is what KServe (deployment mode Standard) writes into a Deployment and its Service.
Transformers and explainers are made here as well, since they know no runtime.
"""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import dataclass

from nerite.kserve.defaulting import KSERVE_CONTAINER, TRANSFORMER_CONTAINER
from nerite.kserve.documents import Object
from nerite.kserve.merging import merge_labels, omit_empty
from nerite.kserve.pods import CONTAINER_FIELDS, POD_FIELDS
from nerite.kserve.quantities import canonical_quantity
from nerite.kserve.resources import Resource
from nerite.kserve.service_rules import AUTOSCALER_CLASS
from nerite.kserve.storage_paths import model_uri, sources_of

INTERNAL = "internal.serving.kserve.io"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
AGENT_PORT = 9081
_DEFAULT_PORT = 8080
_PROBED = (KSERVE_CONTAINER, TRANSFORMER_CONTAINER)
# Annotations of a service that its pods do not inherit.
_NOT_INHERITED = frozenset({
    "modelFormat",
    "kubectl.kubernetes.io/last-applied-configuration",
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/max-scale",
    f"{INTERNAL}/storage-initializer-sourceuri",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Workload:
    """One Deployment: `pod` is its pod spec, `spec` the component it was made from."""

    name: str
    component: str
    canary: str
    replicas: int
    labels: dict[str, str]
    annotations: dict[str, str]
    pod: Object
    strategy: Object | None
    spec: Object

    @property
    def ports(self) -> list[Object]:
        """The ports of its Service, the first being port 80."""
        return service_ports(self.name, self.pod["containers"], self.spec)


def workload_of(
    service: Resource,
    component: str,
    spec: Object,
    *,
    pod: Object,
    metadata: Object,
    runtime: Resource | None = None,
    canary: Object | None = None,
) -> Workload:
    """The workload of a component whose containers are ready but for probes."""
    variant = spec.get("name", "")
    name = "-".join(part for part in (service.name, variant, component) if part)
    inherited = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if key not in _NOT_INHERITED
    }
    runtime_spec = runtime.spec if runtime else {}
    annotations = merge_labels(
        runtime_spec.get("annotations"),
        inherited,
        spec.get("annotations"),
        _storage_annotations(spec),
        _sidecar_annotations(spec),
        _agent_annotations(service.name, spec),
    )
    labels = merge_labels(
        runtime_spec.get("labels"),
        metadata.get("labels"),
        spec.get("labels"),
        {SERVICE_LABEL: service.name, "component": component, "app": f"isvc.{name}"},
    )
    for container in pod["containers"]:
        _default_probe(container)
        _canonical_resources(container)
    return Workload(
        name,
        component,
        variant if canary is not None else "",
        _replicas(service, spec, canary),
        labels,
        annotations,
        pod,
        spec.get("deploymentStrategy"),
        spec,
    )


def _replicas(service: Resource, spec: Object, canary: Object | None) -> int:
    least = spec.get("minReplicas")
    if canary is not None:
        stable = max(1, service.spec["predictor"].get("minReplicas", 1))
        share = math.ceil(stable * canary["trafficPercent"] / 100)
        return max(1, share) if least is None else int(least)
    chosen = service.object["metadata"].get("annotations", {}).get(AUTOSCALER_CLASS)
    # With an autoscaler the number is the autoscaler's; the Deployment itself starts with one.
    return int(least) if chosen == "none" and least is not None else 1


def _storage_annotations(spec: Object) -> dict[str, str]:
    model, found = spec.get("model", {}), {}
    uri = model_uri(model)
    if uri is None and "model" not in spec:
        uri = next(
            (
                str(variable.get("value", ""))
                for container in spec.get("containers", [])[:1]
                for variable in container.get("env", [])
                if variable.get("name") == "STORAGE_URI"
            ),
            None,
        )
    if uri is not None:
        found[f"{INTERNAL}/storage-initializer-sourceuri"] = uri
    if "storageContainerName" in spec:
        found[f"{INTERNAL}/storage-container-name"] = spec["storageContainerName"]
    storage = model.get("storage")
    if storage is not None:
        found[f"{INTERNAL}/storage-spec"] = "true"
        if storage.get("key"):
            found[f"{INTERNAL}/storage-spec-key"] = storage["key"]
        if storage.get("parameters"):
            parameters = json.dumps(storage["parameters"], sort_keys=True, separators=(",", ":"))
            found[f"{INTERNAL}/storage-spec-param"] = parameters
    return found


def _sidecar_annotations(spec: Object) -> dict[str, str]:
    found: dict[str, str] = {}
    logger, batcher = spec.get("logger"), spec.get("batcher")
    if logger is not None:
        found |= {f"{INTERNAL}/logger": "true", f"{INTERNAL}/logger-mode": logger["mode"]}
        if logger.get("url"):
            found[f"{INTERNAL}/logger-sink-url"] = logger["url"]
        for key, name in (("metadataHeaders", "headers"), ("metadataAnnotations", "annotations")):
            if logger.get(key):
                found[f"{INTERNAL}/logger-metadata-{name}"] = ",".join(logger[key])
    if batcher is not None:
        found[f"{INTERNAL}/batcher"] = "true"
        for key, name in (("maxBatchSize", "max-batchsize"), ("maxLatency", "max-latency")):
            if key in batcher:
                found[f"{INTERNAL}/batcher-{name}"] = str(batcher[key])
    return found


def _agent_annotations(service_name: str, spec: Object) -> dict[str, str]:
    """A server without a model of its own gets the agent that loads TrainedModels into it."""
    if "model" not in spec or not is_multi_model(spec):
        return {}
    return {
        f"{INTERNAL}/agent": "true",
        f"{INTERNAL}/configVolumeName": f"modelconfig-{service_name}-0",
        f"{INTERNAL}/configMountPath": "/mnt/configs",
        f"{INTERNAL}/modelDir": "/mnt/models",
    }


def is_multi_model(spec: Object) -> bool:
    """Whether a predictor has no model of its own, and is there for TrainedModels."""
    model = spec.get("model")
    if model is not None:
        return not sources_of(spec) and model["modelFormat"]["name"] != "huggingface"
    return any(
        variable.get("name") == "MULTI_MODEL_SERVER" and variable.get("value") == "true"
        for container in (spec.get("containers") or [])[:1]
        for variable in container.get("env") or []
    )


def _default_probe(container: Object) -> None:
    if container.get("name") in _PROBED and "readinessProbe" not in container:
        container["readinessProbe"] = {"tcpSocket": {"port": first_port(container)}}


def first_port(container: Object) -> int:
    """The port a container serves on: the first it declares, or 8080."""
    ports = container.get("ports") or [{"containerPort": _DEFAULT_PORT}]
    return int(ports[0]["containerPort"])


def _canonical_resources(container: Object) -> None:
    for amounts in container.get("resources", {}).values():
        if isinstance(amounts, dict):
            amounts.update({key: canonical_quantity(value) for key, value in amounts.items()})


def service_ports(name: str, containers: list[Object], spec: Object) -> list[Object]:
    """The Service's ports: 80 to the serving container, further declared ones as they are."""
    by_name = {container.get("name"): container for container in containers}
    serving = by_name.get(TRANSFORMER_CONTAINER) or by_name.get(KSERVE_CONTAINER, containers[0])
    declared = serving.get("ports") or [{"containerPort": _DEFAULT_PORT}]
    ports = []
    for i, port in enumerate(declared):
        number = port["containerPort"]
        entry: Object = {
            "name": port.get("name") or name,
            "port": number if i else 80,
            "targetPort": number,
        }
        if any(word in port.get("name", "") for word in ("grpc", "h2c")):
            entry["appProtocol"] = "kubernetes.io/h2c"
        ports.append(entry)
    if "batcher" in spec or "logger" in spec:
        ports[0]["targetPort"] = AGENT_PORT
    return ports


def predictor_host(service: Resource) -> str:
    """Where transformers and explainers of a service find its predictor."""
    variant = service.spec["predictor"].get("name", "")
    name = "-".join(part for part in (service.name, variant, "predictor") if part)
    return f"{name}.{service.namespace}"


def transformer_workload(service: Resource) -> Workload:
    """The transformer, its first container told where the predictor is."""
    spec = service.spec["transformer"]
    pod = omit_empty({k: deepcopy(v) for k, v in spec.items() if k in POD_FIELDS})
    first = pod["containers"][0]
    first["args"] = _with_defaults(first.get("args", []), service, spec)
    env = [e for e in first.get("env", []) if e.get("name") != "INFERENCE_SERVICE_NAME"]
    first["env"] = [*env, {"name": "INFERENCE_SERVICE_NAME", "value": service.name}]
    return _plain_workload(service, "transformer", spec, pod)


def explainer_workload(service: Resource) -> Workload:
    """The explainer: one's own container, or KServe's ART server."""
    spec = service.spec["explainer"]
    pod = omit_empty({k: deepcopy(v) for k, v in spec.items() if k in POD_FIELDS})
    art = spec.get("art")
    if art is None:
        first = pod["containers"][0]
        first["args"] = _with_defaults(first.get("args", []), service, spec)
    else:
        pod["containers"] = [_art_container(service, spec, art)]
    return _plain_workload(service, "explainer", spec, pod)


def _art_container(service: Resource, spec: Object, art: Object) -> Object:
    own = {k: deepcopy(v) for k, v in art.items() if k in CONTAINER_FIELDS}
    container: Object = omit_empty(own)
    container.setdefault("image", f"kserve/art-explainer:{art['runtimeVersion']}")
    args = ["--model_name", service.name, "--http_port", str(_DEFAULT_PORT)]
    args += ["--predictor_host", predictor_host(service)]
    if "containerConcurrency" in spec:
        args += ["--workers", str(spec["containerConcurrency"])]
    if "storageUri" in art:
        args += ["--storage_uri", "/mnt/models"]
    args += ["--adversary_type", art.get("type", "")]
    for key, value in sorted(art.get("config", {}).items()):
        args += [f"--{key}", value]
    container["args"] = args + art.get("args", [])
    return container


def _with_defaults(args: list[str], service: Resource, spec: Object) -> list[str]:
    """KServe's arguments for those that `args` does not give in any form."""
    given = {arg.partition("=")[0] for arg in args}
    defaults = {
        "--model_name": service.name,
        "--predictor_host": predictor_host(service),
        "--http_port": str(_DEFAULT_PORT),
    }
    if "containerConcurrency" in spec:
        defaults["--workers"] = str(spec["containerConcurrency"])
    missing = [
        part for flag, value in defaults.items() if flag not in given for part in (flag, value)
    ]
    return [*args, *missing]


def _plain_workload(service: Resource, component: str, spec: Object, pod: Object) -> Workload:
    metadata = service.object["metadata"]
    return workload_of(service, component, spec, pod=pod, metadata=metadata)
