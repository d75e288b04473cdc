# SPDX-License-Identifier: Apache-2.0
"""Merge a runtime's container and pod spec with a service's.

This is Kubernetes' strategic merge: the service's scalars win, maps merge by key, lists that
Kubernetes keys (`env`, `ports`, `volumeMounts`, ...) merge by that key with the service's order
first, all other lists are replaced. Two things go beyond it: `args` are concatenated, and where
the service brings another kind of probe or volume than the runtime, its kind replaces the other
(KServe keeps both, which no cluster accepts).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from nerite.kserve.documents import Object

_MERGE_KEYS = {
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_POD_FIELDS_OF_RUNTIME = (
    "nodeSelector", "affinity", "tolerations", "volumes", "imagePullSecrets", "schedulerName",
    "resourceClaims",
)  # fmt: skip
# Go omits these when they are false, zero or empty, so a service cannot set them back.
_OMITTED_WHEN_ZERO = frozenset({
    "stdin", "stdinOnce", "tty", "readOnly", "hostNetwork", "hostPID", "hostIPC", "name", "image",
    "value", "workingDir", "subPath", "terminationMessagePath", "terminationMessagePolicy",
    "imagePullPolicy", "schedulerName",
})  # fmt: skip
_OMITTED_WHEN_EMPTY = frozenset({
    "args", "command", "resources", "limits", "requests", "nodeSelector", "tolerations",
    *_MERGE_KEYS,
})  # fmt: skip
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")


def merge_container(runtime: Object, service: Object) -> Object:
    """The container that runs: `service` over `runtime`, arguments of both in that order."""
    overlay = omit_empty(service)
    base = omit_empty(runtime)
    for probe in _PROBES:
        _drop_other_kinds(base.get(probe), overlay.get(probe), _HANDLERS)
    merged = strategic_merge(base, overlay)
    args = [*base.get("args", []), *overlay.get("args", [])]
    if args:
        merged["args"] = args
    for variable in merged.get("env", []):
        if "value" in variable and "valueFrom" in variable:
            theirs = {entry["name"]: entry for entry in overlay.get("env", [])}
            form = theirs.get(variable["name"], {})
            variable.pop("valueFrom" if "value" in form else "value")
    return merged


def merge_pod(runtime: Object, service: Object) -> Object:
    """The pod spec beside its containers: of the runtime only what KServe takes over."""
    base = {k: deepcopy(runtime[k]) for k in _POD_FIELDS_OF_RUNTIME if k in runtime}
    overlay = omit_empty(service)
    by_name = {volume["name"]: volume for volume in overlay.get("volumes", [])}
    for volume in base.get("volumes", []):
        _drop_other_kinds(volume, by_name.get(volume.get("name")), None)
    return strategic_merge(omit_empty(base), overlay)


def merge_labels(*layers: Mapping[str, str] | None) -> dict[str, str]:
    """The union of label or annotation maps; later ones win."""
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(layer or {})
    return merged


def strategic_merge(base: Object, overlay: Object) -> Object:
    """Kubernetes' strategic merge patch of two maps, without its `$` directives."""
    merged = deepcopy(base)
    for key, value in overlay.items():
        current = merged.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            merged[key] = strategic_merge(current, value)
        elif isinstance(current, list) and isinstance(value, list) and key in _MERGE_KEYS:
            merged[key] = _merge_lists(current, value, _MERGE_KEYS[key])
        else:
            merged[key] = deepcopy(value)
    return merged


def _merge_lists(base: list[Object], overlay: list[Object], key: str) -> list[Object]:
    """Merge by `key`; what only `base` has goes before the first overlay item behind it there."""
    old = {entry.get(key): entry for entry in base}
    patched = [strategic_merge(old.get(entry.get(key), {}), entry) for entry in overlay]
    named = {entry.get(key) for entry in overlay}
    rest = [entry for entry in base if entry.get(key) not in named]
    place = {entry.get(key): i for i, entry in enumerate(base)}
    merged: list[Object] = []
    while rest and patched:
        after = place.get(patched[0].get(key), -1)
        take_rest = place[rest[0].get(key)] < after
        merged.append(deepcopy(rest.pop(0)) if take_rest else patched.pop(0))
    return merged + patched + [deepcopy(entry) for entry in rest]


def _drop_other_kinds(
    base: Object | None, overlay: Object | None, kinds: tuple[str, ...] | None
) -> None:
    """Remove from `base` the kind (of probe, of volume) that `overlay` replaces by another."""
    if base is None or overlay is None:
        return
    wanted = {k for k in overlay if (k in kinds if kinds else k != "name")}
    for key in list(base):
        is_kind = key in kinds if kinds else key != "name"
        if wanted and is_kind and key not in wanted:
            del base[key]


def omit_empty(value: Any, key: str = "") -> Any:
    """`value` as Go would write it: without the empty fields that mean nothing."""
    if isinstance(value, dict):
        pairs = {k: omit_empty(v, k) for k, v in value.items()}
        return {k: v for k, v in pairs.items() if not _is_omitted(k, v)}
    return [omit_empty(item) for item in value] if isinstance(value, list) else value


def _is_omitted(key: str, value: Any) -> bool:
    if value is None:
        return True
    if key in _OMITTED_WHEN_ZERO and value in ("", False):
        return True
    return key in _OMITTED_WHEN_EMPTY and value in ([], {})
