# SPDX-License-Identifier: Apache-2.0
"""How a model gets into a pod: claims are mounted, images linked, all else is downloaded first.

`pod_with_model` adds to a workload's pod what KServe's pod webhook would: the volume, its mounts,
the storage initializer or the modelcar. Locally nothing of it is a container; it says what has to
be fetched and where the server expects it. Sidecars for logging and batching are not added:
Nerite does both itself.
"""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from typing import Any

from nerite.kserve.admission import Cluster
from nerite.kserve.defaulting import KSERVE_CONTAINER, TRANSFORMER_CONTAINER
from nerite.kserve.documents import Object
from nerite.kserve.merging import strategic_merge
from nerite.kserve.refusals import Invalid
from nerite.kserve.resources import Resource
from nerite.kserve.storage_paths import (
    MODEL_MOUNT,
    Source,
    common_parent,
    matches_format,
    parse_claim,
    resolve_storage,
    sources_of,
)
from nerite.kserve.workloads import INTERNAL, Workload

DOWNLOAD_VOLUME = "kserve-provision-location"
CLAIM_VOLUME = "kserve-pvc-source"
STORAGE_SECRET = "storage-config"  # noqa: S105 - the name of a secret, not one
_READ_ONLY = "storage.kserve.io/readonly"
_SECRET_NAME = "serving.kserve.io/storageSecretName"  # noqa: S105
_MODELCAR_RESOURCES = {
    "limits": {"cpu": "10m", "memory": "15Mi"},
    "requests": {"cpu": "10m", "memory": "15Mi"},
}
_MODELCAR_USER = 1010
# What KServe installs as ClusterStorageContainer `default`.
_DEFAULT_FORMATS: list[Object] = [
    *({"prefix": f"{scheme}://"} for scheme in ("gs", "s3", "hdfs", "webhdfs", "hf", "modelscope")),
    {"regex": r"https://(.+?).blob.core.windows.net/(.+)"},
    {"regex": r"https://(.+?).file.core.windows.net/(.+)"},
    {"regex": r"https?://(.+)/(.+)"},
]


def pod_with_model(workload: Workload, service: Resource, cluster: Cluster) -> Object:
    """The pod with its model; raises `Invalid` where KServe's pod webhook would refuse it."""
    pod = deepcopy(workload.pod)
    if workload.spec.get("storageUris"):
        _add_several(pod, workload, sources_of(workload.spec), cluster)
        return pod
    uri = workload.annotations.get(f"{INTERNAL}/storage-initializer-sourceuri")
    if not uri:
        return pod
    _rewrite_storage_uri(pod)
    read_only = workload.annotations.get(_READ_ONLY) != "false"
    if uri.startswith("pvc://"):
        _mount_claim(pod, uri, read_only)
    elif uri.startswith("oci://"):
        _add_modelcar(pod, uri.removeprefix("oci://"))
    else:
        _add_download(pod, workload, service, cluster, uri)
    return pod


def _servers(pod: Object) -> list[Object]:
    names = (KSERVE_CONTAINER, TRANSFORMER_CONTAINER)
    return [container for container in pod["containers"] if container.get("name") in names]


def _mount(container: Object, volume: str, path: str, read_only: bool, **more: Any) -> None:
    mount: Object = {"name": volume, "mountPath": path, **more}
    if read_only:
        mount["readOnly"] = True
    container.setdefault("volumeMounts", []).append(mount)


def _rewrite_storage_uri(pod: Object) -> None:
    for container in _servers(pod):
        for variable in container.get("env", []):
            if variable["name"] == "STORAGE_URI":
                variable["value"] = MODEL_MOUNT


def _mount_claim(pod: Object, uri: str, read_only: bool) -> None:
    claim = parse_claim(uri)
    volume = {"name": CLAIM_VOLUME, "persistentVolumeClaim": {"claimName": claim.name}}
    pod.setdefault("volumes", []).append(volume)
    sub_path = {"subPath": claim.sub_path} if claim.sub_path else {}
    for container in _servers(pod):
        _mount(container, CLAIM_VOLUME, MODEL_MOUNT, read_only, **sub_path)
    for container in pod["containers"]:
        if container.get("name") == "worker-container":
            _mount(container, CLAIM_VOLUME, MODEL_MOUNT, read_only, **sub_path)


def _add_modelcar(pod: Object, image: str) -> None:
    """The model image runs beside the server, which sees its files through the shared /proc."""
    pod["shareProcessNamespace"] = True
    pod.setdefault("volumes", []).append({"name": DOWNLOAD_VOLUME, "emptyDir": {}})
    for container in _servers(pod):
        _mount(container, DOWNLOAD_VOLUME, "/mnt", read_only=False)
        container.setdefault("env", []).append({"name": "MODEL_INIT_MODE", "value": "async"})
        container.setdefault("securityContext", {})["runAsUser"] = _MODELCAR_USER
    common = {"image": image, "resources": deepcopy(_MODELCAR_RESOURCES)}
    common["terminationMessagePolicy"] = "FallbackToLogsOnError"
    check = (
        f"echo 'Pre-fetching modelcar {image}: ' && [ -d /models ] && "
        "[ \"$$(ls -A /models)\" ] && echo 'OK ... Prefetched and valid (/models exists)' || "
        "(echo 'NOK ... Prefetched but modelcar is invalid (/models does not exist or is empty)' "
        "&& exit 1)"
    )
    first = {"name": "modelcar-init", "args": ["sh", "-c", check], **common}
    pod.setdefault("initContainers", []).append(first)
    link = f"ln -sf /proc/$$$$/root/models {MODEL_MOUNT} && sleep infinity"
    car: Object = {"name": "modelcar", "args": ["sh", "-c", link], **deepcopy(common)}
    car["volumeMounts"] = [{"name": DOWNLOAD_VOLUME, "mountPath": "/mnt"}]
    car["securityContext"] = {"runAsUser": _MODELCAR_USER}
    pod["containers"].append(car)


def _add_download(
    pod: Object, workload: Workload, service: Resource, cluster: Cluster, uri: str
) -> None:
    read_only = workload.annotations.get(_READ_ONLY) != "false"
    env: list[Object] = []
    # Looked up before a placeholder is resolved, as KServe does.
    container = storage_container(uri, workload.spec.get("storageContainerName"), cluster)
    storage = workload.spec.get("model", {}).get("storage")
    if storage is not None:
        uri, env = _from_storage(uri, storage, service, cluster)
    env += _account_env(workload.spec.get("serviceAccountName", "default"), service, cluster)
    pod.setdefault("volumes", []).append({"name": DOWNLOAD_VOLUME, "emptyDir": {}})
    init = _initializer([Source(uri)], DOWNLOAD_VOLUME, MODEL_MOUNT, env, container)
    pod.setdefault("initContainers", []).append(init)
    for server in _servers(pod):
        _mount(server, DOWNLOAD_VOLUME, MODEL_MOUNT, read_only)


def storage_container(uri: str, wanted: str | None, cluster: Cluster) -> Object | None:
    """What ClusterStorageContainers say about downloading `uri`; None where none covers it.

    Where several match, the longest prefix wins, then the name; KServe leaves that undefined.
    """
    enabled = [
        container
        for container in cluster.of_kind("ClusterStorageContainer")
        if not container.object.get("disabled")
        and container.spec.get("workloadType") == "initContainer"
    ]
    if wanted is not None:
        named = next((c for c in enabled if c.name == wanted), None)
        if named is None:
            raise Invalid(f'ClusterStorageContainer "{wanted}" is not found or is disabled')
        if not any(matches_format(uri, known) for known in named.spec["supportedUriFormats"]):
            raise Invalid(f'ClusterStorageContainer "{wanted}" does not support storageUri "{uri}"')
        return dict(named.spec["container"])
    matching = [
        (-len(known.get("prefix", "")), container.name, container)
        for container in enabled
        for known in container.spec["supportedUriFormats"]
        if matches_format(uri, known)
    ]
    if matching:
        return dict(min(matching, key=lambda entry: entry[:2])[2].spec["container"])
    covered = any(matches_format(uri, known) for known in _DEFAULT_FORMATS)
    return {"imagePullPolicy": "IfNotPresent"} if covered else None


def _initializer(
    sources: list[Source], volume: str, mount: str, env: list[Object], patch: Object | None
) -> Object:
    container: Object = {
        "name": "storage-initializer",
        "image": "kserve/storage-initializer:latest",
        "args": [part for source in sources for part in (source.uri, source.mount_path)],
        "env": [
            *env,
            {"name": "HF_HUB_ENABLE_HF_TRANSFER", "value": "1"},
            {"name": "HF_XET_HIGH_PERFORMANCE", "value": "1"},
            {"name": "HF_XET_NUM_CONCURRENT_RANGE_GETS", "value": "8"},
        ],
        "resources": {
            "limits": {"cpu": "1", "memory": "1Gi"},
            "requests": {"cpu": "100m", "memory": "100Mi"},
        },
        "volumeMounts": [{"name": volume, "mountPath": mount}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "imagePullPolicy": "Always",
    }
    if patch is None:
        return container
    # An image with a tag of its own is pulled when absent, as Kubernetes does by default.
    container["imagePullPolicy"] = "IfNotPresent"
    return strategic_merge(container, patch)


def _add_several(pod: Object, workload: Workload, sources: list[Source], cluster: Cluster) -> None:
    read_only = workload.annotations.get(_READ_ONLY) != "false"
    claims = [source for source in sources if source.uri.startswith("pvc://")]
    others = [source for source in sources if source not in claims]
    for source in claims:
        name = _volume_name(source.mount_path)
        claim = {"claimName": parse_claim(source.uri).name}
        pod.setdefault("volumes", []).append({"name": name, "persistentVolumeClaim": claim})
        for server in _servers(pod):
            _mount(server, name, source.mount_path, read_only)
    if not others:
        return
    parent = common_parent([source.mount_path for source in others])
    name = _volume_name(parent)
    pod.setdefault("volumes", []).append({"name": name, "emptyDir": {}})
    wanted = workload.spec.get("storageContainerName")
    patch = storage_container(others[0].uri, wanted, cluster)
    pod.setdefault("initContainers", []).append(_initializer(others, name, parent, [], patch))
    for server in _servers(pod):
        _mount(server, name, parent, read_only)


def _volume_name(path: str) -> str:
    return path.strip("/").replace("/", "-")


def _from_storage(
    uri: str, storage: Object, service: Resource, cluster: Cluster
) -> tuple[str, list[Object]]:
    """The URI and environment of a `storage` spec, looked up in the storage secret."""
    annotations = service.object["metadata"].get("annotations", {})
    secret_name = annotations.get(_SECRET_NAME, STORAGE_SECRET)
    entries = secret_entries(secret_name, service.namespace, cluster)
    key, parameters = storage.get("key"), storage.get("parameters", {})
    if key and entries is None:
        text = f'can\'t read storage secret {secret_name}: secrets "{secret_name}" not found'
        raise Invalid(text)
    kind = parameters.get("type", "")
    names = [key] if key else [f"default_{kind}" if kind else "default", "default"]
    found = next((name for name in names if name in (entries or {})), None)
    if key and found is None:
        raise Invalid(f"specified storage key {key} not found in storage secret {secret_name}")
    entry = _parsed((entries or {})[found], secret_name, found) if found else None
    env: list[Object] = []
    if found:
        reference = {"name": secret_name, "key": found}
        env.append({"name": "STORAGE_CONFIG", "valueFrom": {"secretKeyRef": reference}})
    if parameters:
        text = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
        env.append({"name": "STORAGE_OVERRIDE_CONFIG", "value": text})
    return resolve_storage(uri, storage, entry), env


def _parsed(text: str, secret_name: str, key: str) -> Object:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise Invalid(f"invalid json encountered in key {key} of storage secret {secret_name}")
    return entry


def _account_env(account: str, service: Resource, cluster: Cluster) -> list[Object]:
    """Tokens for model hubs from the secrets of the service account."""
    found = cluster.others.get(("ServiceAccount", service.namespace, account), {})
    env: list[Object] = []
    for reference in found.get("secrets", []):
        entries = secret_entries(reference.get("name", ""), service.namespace, cluster) or {}
        for key in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
            if key in entries:
                source = {"name": reference["name"], "key": key}
                env.append({"name": key, "valueFrom": {"secretKeyRef": source}})
    return env


def secret_entries(name: str, namespace: str, cluster: Cluster) -> dict[str, str] | None:
    """The decoded entries of a Secret, or None where there is none of that name."""
    secret = cluster.others.get(("Secret", namespace, name))
    if secret is None:
        return None
    try:
        encoded = secret.get("data", {})
        decoded = {key: base64.b64decode(value).decode() for key, value in encoded.items()}
    except ValueError:
        raise Invalid(f"the data of secret {name} are not base64 of texts") from None
    return {**decoded, **secret.get("stringData", {})}
