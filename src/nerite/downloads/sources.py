# SPDX-License-Identifier: Apache-2.0
"""A URI -> the kind of place it names, by KServe's rules, in KServe's order.

Whether anything is there is not asked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from nerite.errors import InvalidArgument, Unsupported

Kind = Literal["folder", "claim", "http", "s3", "gs", "azure"]

#: What a person may write, for messages.
ACCEPTED = (
    "a path, file://, pvc://CLAIM/PATH, http://, https://, s3://BUCKET/PATH, gs://BUCKET/PATH or "
    "https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH"
)
_AZURE_HOST = re.compile(r"([^.]+)\.(?:z\d+\.blob\.storage\.azure\.net|blob\.core\.windows\.net)")
_ELSEWHERE = {
    "hf": "download it with `hf download` and name the folder",
    "hdfs": "copy it with `hdfs dfs -get` and name the folder",
    "webhdfs": "copy it with `hdfs dfs -get` and name the folder",
    "oci": "KServe mounts it (modelcar); name the folder",
    "oci+native": "Kubernetes mounts it (image volume); name the folder",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A place that holds model files."""

    kind: Kind
    uri: str
    """As it was written, but without secrets: messages show it."""
    container: str = ""
    """The bucket, Azure's container, or the claim."""
    path: str = ""
    """The path in it, without slashes around."""
    account: str = ""
    query: str = ""
    """What Azure's shared access signature is."""


def parse(uri: str) -> Source:
    """The place that a URI names.

    Raises:
        InvalidArgument: It is incomplete.
        Unsupported: Its scheme is not offered; the text says which are.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Source("folder", uri, path=uri)
    if scheme == "file":
        return Source("folder", uri, path=unquote(rest))
    if scheme == "pvc":
        return _in_container("claim", uri, rest)
    if scheme in ("s3", "s3a"):
        return _in_container("s3", uri, rest)
    if scheme == "gs":
        return _in_container("gs", uri, rest)
    if scheme in ("http", "https"):
        return _web(uri)
    hint = _ELSEWHERE.get(scheme, f"{ACCEPTED} is")
    raise Unsupported(f"'{uri}': '{scheme}://' is not offered; {hint}")


def _in_container(kind: Kind, uri: str, rest: str) -> Source:
    container, _, path = rest.partition("/")
    if not container:
        what = "claim" if kind == "claim" else "bucket"
        raise InvalidArgument(f"'{uri}' names no {what}; write {uri.partition(':')[0]}://NAME/PATH")
    return Source(kind, uri, container, path.strip("/"))


def _web(uri: str) -> Source:
    try:
        parts = urlsplit(uri)
    except ValueError as why:
        raise InvalidArgument(f"this is no URL: {why}") from why
    shown = without_secrets(uri)
    path = unquote(parts.path).strip("/")
    azure = _AZURE_HOST.fullmatch(parts.hostname or "")
    if azure:
        container, _, below = path.partition("/")
        if not container:
            raise InvalidArgument(f"'{shown}' names no container; write .../CONTAINER/PATH")
        return Source("azure", shown, container, below, account=azure[1], query=parts.query)
    if not parts.hostname:
        raise InvalidArgument(f"'{shown}' names no host")
    if not PurePosixPath(path).name or parts.path.endswith("/"):
        raise InvalidArgument(f"'{shown}' names no file; a folder cannot be listed over HTTP")
    return Source("http", shown, path=path)


def without_secrets(uri: str) -> str:
    """A URL without its user, its password and its query, which may be a signature."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return f"{uri.partition('://')[0]}://..."
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
