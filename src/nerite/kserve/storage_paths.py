# SPDX-License-Identifier: Apache-2.0
"""Where a model comes from, and where it appears in the container.

`sources_of` reads the three ways to say it (`storageUri`, `storage`, `storageUris`) and gives
pairs of source and mount path; `model_volume` says how a pod gets one. Nothing is fetched here:
that is the stores' work. KServe's rules are kept, with its words where it refuses.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any

from nerite.kserve.documents import KeyPath, Object
from nerite.kserve.refusals import Invalid

MODEL_MOUNT = "/mnt/models"
SCHEME_PLACEHOLDER = "<scheme-placeholder>"
SCHEMES = (
    "gs://", "s3://", "pvc://", "file://", "https://", "http://", "hdfs://", "webhdfs://",
    "oci://", "oci+native://", "hf://",
)  # fmt: skip
_AZURE = re.compile(r"https://(.+?).blob.core.windows.net/(.+)")
_HAS_SCHEME = re.compile(r"\w+?://")


@dataclass(frozen=True, slots=True)
class Source:
    """One place to fetch from, and the folder in the container where its content appears."""

    uri: str
    mount_path: str = MODEL_MOUNT


@dataclass(frozen=True, slots=True)
class Claim:
    """A `pvc://` source: a volume claim and a folder in it, mounted without copying."""

    name: str
    sub_path: str


def check_storage_uris(path: KeyPath, component: Object) -> None:
    """Refuse `storageUris` beside a `storageUri`, and mount paths that cannot be shared."""
    entries = component.get("storageUris", [])
    if not entries:
        return
    if "storageUri" in component.get("model", {}):
        text = "Setting both StorageURI and StorageURIs is not supported."
        raise Invalid(text, (*path, "storageUris"))
    for i, entry in enumerate(entries):
        _check_mount_path(entry["mountPath"], (*path, "storageUris", i, "mountPath"))
    others = [e["mountPath"] for e in entries if not e["uri"].startswith("pvc://")]
    claims = [e["mountPath"] for e in entries if e["uri"].startswith("pvc://")]
    if len(set(claims)) != len(claims):
        # KServe looks only when two other sources exist; two volumes at one path are never right.
        raise Invalid("PVC storage paths must be unique", (*path, "storageUris"))
    if len(others) > 1 and common_parent(others) == "/":
        raise Invalid(
            "storageUris must share a common parent directory other than /", (*path, "storageUris")
        )


def _check_mount_path(mount: str, path: KeyPath) -> None:
    if mount.strip("/") == "":
        raise Invalid("storage path cannot be empty", path)
    if ".." in mount.split("/"):
        raise Invalid("storage path cannot contain '..'", path)
    if len(mount) > 255:
        raise Invalid("storage path cannot be longer than 255 characters", path)


def common_parent(paths: list[str]) -> str:
    """The deepest folder that holds all of `paths`; one path is its own parent."""
    return posixpath.commonpath(paths) if paths else "/"


def check_uri(uri: str, known_formats: list[Object]) -> None:
    """Refuse a scheme that neither KServe nor a ClusterStorageContainer's format knows."""
    if not _HAS_SCHEME.search(uri) or uri.startswith(SCHEMES) or _AZURE.search(uri):
        return
    if any(matches_format(uri, known) for known in known_formats):
        return
    raise Invalid(
        "StorageURI not supported: storageUri, must be one of: "
        f"[{', '.join(SCHEMES)}] or match https://{{}}.blob.core.windows.net/{{}}/{{}} or be an "
        f"absolute or relative local path. StorageUri [{uri}] is not supported",
        ("spec", "predictor", "model", "storageUri"),
    )


def matches_format(uri: str, known: Object) -> bool:
    """Whether a ClusterStorageContainer's `supportedUriFormats` entry covers `uri`."""
    if known.get("prefix"):
        return uri.startswith(str(known["prefix"]))
    return bool(known.get("regex") and re.search(str(known["regex"]), uri))


def sources_of(component: Object) -> list[Source]:
    """What a component wants fetched, in order; empty for a server without a model."""
    if component.get("storageUris"):
        return [Source(e["uri"], e["mountPath"]) for e in component["storageUris"]]
    model = component.get("model", {})
    uri = model_uri(model)
    return [] if uri is None else [Source(uri)]


def model_uri(model: Object) -> str | None:
    """The URI a model names by `storageUri` or by `storage.path`; raises where it names both."""
    path = model.get("storage", {}).get("path")
    if "storageUri" in model:
        if path is not None:
            raise Invalid(
                "must provide only one of storageUri and storage.path",
                ("spec", "predictor", "model", "storage", "path"),
            )
        return str(model["storageUri"])
    return None if path is None else f"{SCHEME_PLACEHOLDER}://{path.lstrip('/')}"


def parse_claim(uri: str) -> Claim:
    """`pvc://claim/sub/dir` as the claim's name and the folder in it."""
    name, _, sub_path = uri.removeprefix("pvc://").partition("/")
    return Claim(name, sub_path)


def resolve_storage(uri: str, storage: Object, secret: Object | None) -> str:
    """The real URI of a `storage` spec, its scheme and bucket known from parameters or secret.

    `secret` is the decoded entry that `storage.key` names, or None. Parameters win over it.
    """
    parameters: dict[str, Any] = storage.get("parameters", {})
    kind = str(parameters.get("type") or (secret or {}).get("type") or "")
    if not uri.startswith(f"{SCHEME_PLACEHOLDER}://"):
        return uri
    if not kind:
        raise Invalid("unable to determine storage type")
    rest = uri.removeprefix(f"{SCHEME_PLACEHOLDER}://")
    if kind == "s3":
        bucket = str(parameters.get("bucket") or (secret or {}).get("bucket") or "")
        if not bucket:
            raise Invalid(f'format [{kind}] requires a bucket but none is given for "{rest}"')
        rest = f"{bucket}/{rest}"
    return f"{kind}://{rest}"


def local_path(text: str, model_directory: str) -> str:
    """`text` with every `/mnt/models` replaced by the folder that holds the model here."""
    return re.sub(r"/mnt/models(?![\w.-])", lambda _: model_directory.rstrip("/"), text)
