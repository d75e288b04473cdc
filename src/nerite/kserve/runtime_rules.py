# SPDX-License-Identifier: Apache-2.0
"""The validating webhook's rules for ServingRuntimes and ClusterServingRuntimes.

A disabled runtime is admitted unseen. Conflicts are looked for only among enabled runtimes of the
same scope, as in KServe; the rule about priorities within one runtime is always applied, although
KServe forgets it for the first runtime of a namespace.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from nerite.kserve.documents import KeyPath, Object
from nerite.kserve.refusals import Invalid
from nerite.kserve.resources import Resource

_SIZES = ("pipelineParallelSize", "tensorParallelSize")
_SIZE_VARIABLES = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")
_GPU_RESOURCES = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi")
_GPU_TYPES = "serving.kserve.io/gpu-resource-types"


def check_runtime(new: Resource, old: Object | None, peers: Sequence[Resource]) -> None:
    """Raise `Invalid` for the first rule broken; `peers` are the runtimes of the same scope."""
    if new.spec.get("disabled"):
        return
    _check_python_path(new)
    _check_workers(new, old)
    _check_own_priorities(new)
    for peer in peers:
        if peer.name != new.name and not peer.spec.get("disabled"):
            _check_conflict(new, peer)


def _containers(spec: Object) -> Iterator[tuple[KeyPath, Object]]:
    for i, container in enumerate(spec.get("containers", [])):
        yield ("spec", "containers", i), container
    for i, container in enumerate(spec.get("workerSpec", {}).get("containers", [])):
        yield ("spec", "workerSpec", "containers", i), container


def _check_python_path(new: Resource) -> None:
    for path, container in _containers(new.spec):
        for i, variable in enumerate(container.get("env", [])):
            if variable.get("name") == "PYTHONPATH":
                raise Invalid(
                    f'the {new.kind} "{new.name}" is invalid: setting PYTHONPATH in container '
                    f'"{container["name"]}" is not allowed for security reasons',
                    (*path, "env", i, "name"),
                )


def _check_workers(new: Resource, old: Object | None) -> None:
    start = f"the {new.kind} {new.name} is invalid: "
    worker = new.spec.get("workerSpec")
    if worker is None:
        if old is not None and "workerSpec" in old.get("spec", {}):
            text = f"{start}removing workerSpec where it already exists is not allowed"
            raise Invalid(text, ("spec",))
        return
    path = ("spec", "workerSpec")
    if len(worker["containers"]) > 1:
        text = f"{start}setting multiple containers in workerSpec is not allowed"
        raise Invalid(text, (*path, "containers"))
    if not worker["containers"]:
        # KServe's webhook panics on this one.
        text = f"{start}workerSpec needs one container"
        raise Invalid(text, (*path, "containers"))
    for key in _SIZES:
        size = worker.get(key)
        if size is not None and size < 1:
            field = key[0].upper() + key[1:]
            text = f"{start}the WorkerSpec.{field} cannot be less than 1({size})"
            raise Invalid(text, (*path, key))
    for at, container in _containers(new.spec):
        _check_worker_container(start, at, container, new.spec)


def _check_worker_container(start: str, at: KeyPath, container: Object, spec: Object) -> None:
    for i, variable in enumerate(container.get("env", [])):
        if variable.get("name") in _SIZE_VARIABLES:
            text = f"{start}setting {variable['name']} in environment variables is not allowed"
            raise Invalid(text, (*at, "env", i, "name"))
    allowed = (*_GPU_RESOURCES, *_listed_gpus(start, spec))
    for resource in container.get("resources", {}).get("limits", {}):
        known = resource in allowed or resource.startswith("nvidia.com/mig")
        if "gpu" in resource.rpartition("/")[2] and not known:
            text = f"{start}unknown GPU resource type {resource}"
            fix = f"list it in the annotation {_GPU_TYPES}"
            raise Invalid(text, (*at, "resources", "limits", resource), fix)


def _listed_gpus(start: str, spec: Object) -> list[str]:
    text = spec.get("annotations", {}).get(_GPU_TYPES, "[]")
    try:
        listed = json.loads(text)
    except ValueError:
        listed = None
    if not isinstance(listed, list):
        path = ("spec", "annotations", _GPU_TYPES)
        raise Invalid(f"{start}{_GPU_TYPES} must be a JSON list of names", path)
    return listed


def _check_own_priorities(new: Resource) -> None:
    first: dict[str, int | None] = {}
    for i, entry in enumerate(new.spec.get("supportedModelFormats", [])):
        if not entry.get("autoSelect"):
            continue
        name, priority = entry["name"], entry.get("priority")
        seen = first.setdefault(name, priority)
        if seen is not None and priority is not None and seen != priority:
            raise Invalid(
                f"different priorities assigned for the model format {name} under the "
                f"{new.kind.lower()} {new.name}",
                ("spec", "supportedModelFormats", i, "priority"),
            )


def _check_conflict(new: Resource, peer: Resource) -> None:
    if bool(new.spec.get("multiModel")) != bool(peer.spec.get("multiModel")):
        return
    shared = set(new.spec.get("protocolVersions", [])) & set(peer.spec.get("protocolVersions", []))
    if not shared:
        return
    for i, mine in enumerate(new.spec.get("supportedModelFormats", [])):
        for theirs in peer.spec.get("supportedModelFormats", []):
            if _same_claim(mine, theirs):
                kinds = f"{new.kind.lower()}s"
                where = f" in namespace {new.namespace}" if new.namespace else ""
                raise Invalid(
                    f"same priority assigned for the model format {mine['name']} in the {kinds} "
                    f"{peer.name} and {new.name}{where}",
                    ("spec", "supportedModelFormats", i, "priority"),
                )


def _same_claim(mine: Object, theirs: Object) -> bool:
    return bool(
        mine.get("autoSelect")
        and theirs.get("autoSelect")
        and mine["name"].lower() == theirs["name"].lower()
        and mine.get("version") == theirs.get("version")
        and mine.get("priority") is not None
        and mine.get("priority") == theirs.get("priority")
    )
