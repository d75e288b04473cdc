# SPDX-License-Identifier: Apache-2.0
"""The validating webhook's rules for InferenceServices, in its order and its words.

Each rule takes the defaulted object and raises `Invalid`. Schema mistakes never reach this far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nerite.kserve.defaulting import COMPONENTS, KSERVE_CONTAINER, deployment_mode
from nerite.kserve.documents import KeyPath, Object
from nerite.kserve.pods import POD_FIELDS
from nerite.kserve.refusals import Invalid
from nerite.kserve.services import FRAMEWORKS
from nerite.kserve.storage_paths import check_storage_uris

NAME_PATTERN = "[a-z]([-a-z0-9]*[a-z0-9])?"
NAME_RULE = (
    "name must consist of lower case alphanumeric characters or '-', and must start with "
    'alphabetical character. (e.g. "my-name" or "abc-123", regex used for validation is '
    f"'{NAME_PATTERN}')"
)
AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"
_CLASSES = ("hpa", "external", "keda", "none")
_METRICS = {"Standard": ("cpu", "memory"), "Knative": ("concurrency", "rps")}
_PREDICTOR_FIELDS = (
    "Name", *FRAMEWORKS.values(), "Model", "StorageUris", "StorageContainerName", "WorkerSpec",
    "PodSpec",
)  # fmt: skip
EXACTLY_ONE = {
    "predictor": f"exactly one of [{', '.join(_PREDICTOR_FIELDS)}] must be specified in "
    "PredictorSpec",
    "transformer": "exactly one of [PodSpec, ComponentExtensionSpec] must be specified in "
    "TransformerSpec",
    "explainer": "exactly one of [ART, PodSpec, ComponentExtensionSpec] must be specified in "
    "ExplainerSpec",
}


def check_service(value: Object, old: Object | None) -> None:
    """Raise `Invalid` for the first rule that the defaulted service breaks."""
    name, spec = value["metadata"]["name"], value["spec"]
    _check_name(name)
    _check_autoscaler_class(value)
    _check_multinode(name, value)
    for path, component in components(spec):
        _check_python_path(name, path, component)
    for path, component in components(spec):
        _check_component(path, component, deployment_mode(value))
    _check_canaries(spec)
    if old is not None:
        _check_update(value, old)


def components(spec: Object) -> Iterator[tuple[KeyPath, Object]]:
    """The components that a service has, each with its path."""
    for name in COMPONENTS:
        if name in spec:
            yield ("spec", name), spec[name]


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise Invalid(f'the InferenceService "{name}" is invalid: a InferenceService {NAME_RULE}')
    if len(f"{name}-predictor") > 63:
        # KServe admits it, and then cannot create the service `<name>-predictor`.
        raise Invalid(
            f'the InferenceService "{name}" is invalid: its name has {len(name)} characters, but '
            "the services made from it ('<name>-predictor') may have 63 in all",
            fix="use at most 53 characters",
        )


def _check_autoscaler_class(value: Object) -> None:
    annotations = value["metadata"].get("annotations", {})
    chosen = annotations.get(AUTOSCALER_CLASS)
    path = ("metadata", "annotations", AUTOSCALER_CLASS)
    if chosen is not None and chosen not in _CLASSES:
        raise Invalid(f"[{chosen}] is not a supported autoscaler class type", path)
    predictor = value["spec"]["predictor"]
    if chosen == "keda" and "scaleMetric" in predictor:
        raise Invalid("ScaleMetric is not supported for KEDA", ("spec", "predictor", "scaleMetric"))


def _check_multinode(name: str, value: Object) -> None:
    predictor = value["spec"]["predictor"]
    worker = predictor.get("workerSpec")
    if worker is None:
        return
    path = ("spec", "predictor", "workerSpec")
    start = f'the InferenceService "{name}" is invalid: '
    chosen = value["metadata"].get("annotations", {}).get(AUTOSCALER_CLASS, "")
    if chosen != "none":
        raise Invalid(f"{start}Multinode only supports 'none' autoscaler({chosen})", path)
    model = predictor.get("model", {})
    if "storageUri" not in model:
        raise Invalid(f"{start}StorageURI must be set for multinode enabled", path)
    for key in ("pipelineParallelSize", "tensorParallelSize"):
        size = worker.get(key)
        if size is not None and size < 1:
            field = key[0].upper() + key[1:]
            text = f"{start}WorkerSpec.{field} cannot be less than 1({size})"
            raise Invalid(text, (*path, key))
    if len(worker.get("containers", [])) > 1:
        text = f"{start}setting multiple containers in workerSpec is not allowed"
        raise Invalid(text, (*path, "containers"))


def _check_python_path(name: str, path: KeyPath, component: Object) -> None:
    for at, container in containers_of(path, component):
        for i, variable in enumerate(container.get("env", [])):
            if variable.get("name") == "PYTHONPATH":
                raise Invalid(
                    f'the InferenceService "{name}" is invalid: setting PYTHONPATH in container '
                    f'"{container.get("name", "")}" is not allowed for security reasons',
                    (*at, "env", i, "name"),
                )


def containers_of(path: KeyPath, component: Object) -> Iterator[tuple[KeyPath, Object]]:
    """Every container of a component, the model's own included."""
    if "model" in component:
        yield (*path, "model"), component["model"]
    for key in ("containers", "initContainers"):
        for i, container in enumerate(component.get(key, [])):
            yield (*path, key, i), container
    if "workerSpec" in component:
        yield from containers_of((*path, "workerSpec"), component["workerSpec"])


def _check_component(path: KeyPath, component: Object, mode: str) -> None:
    kind = str(path[-1])
    _check_exactly_one(path, kind, component)
    model = component.get("model", {})
    if "name" in model:
        text = "the 'name' field is not allowed in standard predictor"
        raise Invalid(text, (*path, "model", "name"))
    _check_confidential(path, model)
    check_storage_uris(path, component)
    _check_replicas(path, component)
    _check_scaling(path, component, mode)
    if component.get("containerConcurrency", 0) < 0:
        raise Invalid("parallelism cannot be less than 0", (*path, "containerConcurrency"))
    _check_logger(path, component.get("logger"))
    if mode == "Knative" and "deploymentStrategy" in component:
        text = "customizing deploymentStrategy is only supported for raw deployment mode"
        raise Invalid(text, (*path, "deploymentStrategy"))


def _check_exactly_one(path: KeyPath, kind: str, component: Object) -> None:
    implementations = [key for key in (*FRAMEWORKS, "model", "art") if key in component]
    containers = component.get("containers", [])
    named = any(c.get("name") == KSERVE_CONTAINER for c in containers)
    if kind == "predictor":
        # Beside a model, containers are sidecars unless one of them claims to be the server.
        custom = named or (bool(containers) and not implementations)
    else:
        custom = bool(containers) or (not implementations and bool(set(component) & _POD_ONLY))
    if len(implementations) + custom != 1:
        raise Invalid(EXACTLY_ONE[kind], path)


# Fields of a pod spec that can only be meant for a pod one brings oneself.
_POD_ONLY = POD_FIELDS & {"containers"}


def _check_confidential(path: KeyPath, model: Object) -> None:
    resource = model.get("confidential", {}).get("resourceId", "")
    if resource and not re.fullmatch(r"kbs:///[^/]+/[^/]+/[^/]+", resource):
        raise Invalid(
            f'spec.predictor.confidential.resourceId: Invalid value: "{resource}": '
            "must be in the format kbs:///<repo>/<type>/<tag>",
            (*path, "model", "confidential", "resourceId"),
        )


def _check_replicas(path: KeyPath, component: Object) -> None:
    least, most = component.get("minReplicas", 1), component.get("maxReplicas", 0)
    if least < 0:
        raise Invalid("'MinReplicas' cannot be less than 0", (*path, "minReplicas"))
    if most < 0:
        raise Invalid("'MaxReplicas' cannot be less than 0", (*path, "maxReplicas"))
    if least > most != 0:
        text = "'MinReplicas' cannot be greater than 'MaxReplicas'"
        raise Invalid(text, (*path, "minReplicas"))


def _check_scaling(path: KeyPath, component: Object, mode: str) -> None:
    metric, target = component.get("scaleMetric"), component.get("scaleTarget")
    if metric is not None and metric not in _METRICS.get(mode, (metric,)):
        raise Invalid(f"[{metric}] is not a supported metric", (*path, "scaleMetric"))
    # KServe applies the bound to memory too, whose target is an amount, not a share.
    is_share = mode == "Standard" and metric in ("cpu", None)
    if is_share and target is not None and not 1 <= target <= 100:
        text = "the target utilization percentage should be a [1-100] integer"
        raise Invalid(text, (*path, "scaleTarget"))


def _check_logger(path: KeyPath, logger: Object | None) -> None:
    if logger is None:
        return
    if logger.get("mode") not in ("all", "request", "response"):
        raise Invalid(
            "invalid logger type", (*path, "logger"), fix="mode: all, request or response"
        )
    storage = logger.get("storage")
    if storage is not None and not all(storage.get(k) for k in ("path", "parameters", "key")):
        text = "invalid logger storage configuration"
        raise Invalid(text, (*path, "logger", "storage"), fix="give path, parameters and key")


def _check_canaries(spec: Object) -> None:
    seen: set[str] = set()
    stable_least = spec["predictor"].get("minReplicas", 1)
    for i, canary in enumerate(spec.get("canary", [])):
        path, predictor = ("spec", "canary", i, "predictor"), canary["predictor"]
        name = predictor.get("name", "")
        if not name:
            raise Invalid("canary predictor.name is required", path)
        if name in seen:
            raise Invalid(f'canary predictor.name "{name}" is duplicated', (*path, "name"))
        seen.add(name)
        if "maxReplicas" in predictor:
            text = f'canary "{name}" must not set maxReplicas (canary uses fixed replicas)'
            raise Invalid(text, (*path, "maxReplicas"))
        least = predictor.get("minReplicas")
        if least is not None and least > stable_least:
            raise Invalid(
                f'canary "{name}" minReplicas ({least}) must not exceed stable predictor '
                f"minReplicas ({stable_least})",
                (*path, "minReplicas"),
            )
        try:
            _check_exactly_one(path, "predictor", predictor)
        except Invalid as invalid:
            raise Invalid(f'canary "{name}" predictor: {invalid.text}', path) from None
    total = sum(canary["trafficPercent"] for canary in spec.get("canary", []))
    if total > 100:
        text = f"sum of canary trafficPercent values ({total}) must be <= 100"
        raise Invalid(text, ("spec", "canary"))


def _check_update(value: Object, old: Object) -> None:
    before, now = deployment_mode(old), deployment_mode(value)
    if before != now:
        raise Invalid(
            f"update rejected: deploymentMode cannot be changed from '{before}' to '{now}'",
            ("metadata", "annotations", "serving.kserve.io/deploymentMode"),
        )
