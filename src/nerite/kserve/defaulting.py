# SPDX-License-Identifier: Apache-2.0
"""What a cluster writes into an object that it accepts.

Two hands do it there: the schema's defaults (all kinds) and KServe's mutating webhook
(InferenceService). Server-type defaults come later, when the runtime is known: `server_types`.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from nerite.kserve.documents import Object
from nerite.kserve.quantities import canonical_quantity, parse_quantity
from nerite.kserve.resources import Kind
from nerite.kserve.schema import prune_nulls
from nerite.kserve.services import FRAMEWORKS

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
MODEL_FORMAT = "modelFormat"
KSERVE_CONTAINER = "kserve-container"
TRANSFORMER_CONTAINER = "transformer-container"
MODEL_MOUNT = "/mnt/models"
DEFAULT_RESOURCES = {"cpu": "1", "memory": "2Gi"}
COMPONENTS = ("predictor", "transformer", "explainer")

_LEGACY_MODES = {"RawDeployment": "Standard", "Serverless": "Knative"}
# The legacy keys, and the formats under `model`, whose servers speak only v2.
_V2_KEYS = frozenset({"triton", "onnx", "huggingface"})
_V2_FORMATS = frozenset({"triton", "vLLM"})


def default_object(value: Object, kind: Kind) -> Object:
    """A copy of `value` with everything a cluster would have filled in."""
    value = prune_nulls(deepcopy(value))
    metadata = value["metadata"]
    if kind.namespaced:
        metadata.setdefault("namespace", "default")
    else:
        metadata.pop("namespace", None)
    if kind.name == "InferenceService":
        _default_service(value)
    if kind.name == "ClusterStorageContainer":
        value["spec"].setdefault("workloadType", "initContainer")
        value["spec"].setdefault("supportsMultiModelDownload", False)
    for ports in _lists_of(value.get("spec"), "ports"):
        for port in ports:
            port.setdefault("protocol", "TCP")
    return value


def deployment_mode(value: Object) -> str:
    """The mode an object asks for; Standard, in which Nerite runs everything, if it names none."""
    annotations = value["metadata"].get("annotations", {})
    return str(annotations.get(DEPLOYMENT_MODE, "Standard"))


def _default_service(value: Object) -> None:
    spec, metadata = value["spec"], value["metadata"]
    _default_predictor(spec["predictor"])
    for canary in spec.get("canary", []):
        _default_predictor(canary["predictor"])
    for name in ("transformer", "explainer"):
        component = spec.get(name, {})
        if component.get("containers"):
            _default_custom(component["containers"])
        _default_storage_uris(component)
    _default_art(spec.get("explainer", {}).get("art"))
    annotations = metadata.setdefault("annotations", {})
    format_name = spec["predictor"].get("model", {}).get("modelFormat", {}).get("name")
    if format_name and MODEL_FORMAT not in annotations:
        annotations[MODEL_FORMAT] = format_name
    mode = annotations.get(DEPLOYMENT_MODE, "Standard")
    annotations[DEPLOYMENT_MODE] = _LEGACY_MODES.get(mode, mode)
    _canonical_quantities(spec)


def _default_predictor(predictor: Object) -> None:
    for key in FRAMEWORKS:
        if key in predictor:
            # KServe lets the legacy key overwrite a `model` that stands beside it.
            carried = predictor.pop(key)
            predictor["model"] = {"modelFormat": {"name": key}, **carried}
            if key in _V2_KEYS:
                predictor["model"].setdefault("protocolVersion", "v2")
            break
    model = predictor.get("model")
    if model is not None and model["modelFormat"]["name"] in _V2_FORMATS:
        model.setdefault("protocolVersion", "v2")
    if model is None and predictor.get("containers"):
        _default_custom(predictor["containers"])
    _default_storage_uris(predictor)


def _default_custom(containers: list[Object]) -> None:
    first = containers[0]
    if len(containers) == 1 or not first.get("name"):
        first["name"] = KSERVE_CONTAINER
    _default_resources(main_container(containers))


def main_container(containers: list[Object]) -> Object:
    """The container that serves: `kserve-container`, or the first."""
    named = (c for c in containers if c.get("name") == KSERVE_CONTAINER)
    return next(named, containers[0])


def _default_resources(container: Object) -> None:
    """Fill in 1 CPU and 2Gi, but never a limit below the request beside it.

    KServe fills in each key by itself, so a request of 2 CPUs gets a limit of 1 and the
    Deployment is invalid.
    """
    resources = container.setdefault("resources", {})
    limits, requests = resources.setdefault("limits", {}), resources.setdefault("requests", {})
    for name, default in DEFAULT_RESOURCES.items():
        asked, limit = requests.get(name, default), limits.get(name, default)
        if parse_quantity(asked) > parse_quantity(limit):
            if name in requests:
                limit = asked
            else:
                asked = limit
        limits.setdefault(name, limit)
        requests.setdefault(name, asked)


def _default_art(art: Object | None) -> None:
    if art is None:
        return
    art.setdefault("name", KSERVE_CONTAINER)
    art.setdefault("runtimeVersion", "latest")
    _default_resources(art)


def _default_storage_uris(component: Object) -> None:
    for entry in component.get("storageUris", []):
        entry.setdefault("mountPath", MODEL_MOUNT)


def _canonical_quantities(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _canonical_quantities(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "resources" and isinstance(item, dict):
                for group in ("limits", "requests"):
                    amounts = item.get(group, {})
                    amounts.update({k: canonical_quantity(v) for k, v in amounts.items()})
            else:
                _canonical_quantities(item)


def _lists_of(value: Any, wanted: str) -> Iterator[list[Object]]:
    """Every list of mappings that stands under the key `wanted`."""
    if isinstance(value, list):
        for item in value:
            yield from _lists_of(item, wanted)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == wanted and isinstance(item, list):
                yield [entry for entry in item if isinstance(entry, dict)]
            yield from _lists_of(item, wanted)
