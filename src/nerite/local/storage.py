# SPDX-License-Identifier: Apache-2.0
"""Where a model lies on this machine, and how Nerite gets to see it under the service's name.

`Storage` is all that running needs to know about sources. `LocalStorage` knows paths, `file://`
and claims that were mapped to folders; nothing is copied. `DownloadStorage`
fetches everything else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from urllib.parse import unquote

from nerite.config.layout import find_config_files, find_versions
from nerite.config.model_files import backend_of, looks_like_model
from nerite.downloads.fetch import Terms, fetch
from nerite.downloads.progress import Progress
from nerite.downloads.transfer import Courier
from nerite.errors import InvalidArgument, NotFound, Unsupported
from nerite.kserve.storage_paths import parse_claim
from nerite.stores.local import resolve_inside

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Storage(Protocol):
    """Makes what a URI names available on this machine."""

    def fetch(
        self,
        uri: str,
        destination: Path,
        variables: Mapping[str, str] = _NOTHING,
        told: Callable[[str], None] | None = None,
    ) -> Path:
        """The folder or file that has the content: `destination`, or where it lies already.

        Args:
            variables: Credentials and the rest, under the names that KServe gives them.
            told: Called again and again with how far it is; what it raises ends the fetching.
        """
        ...


class LocalStorage:
    """Sources that are on this machine anyway; claims by name, else folders below `volumes`."""

    def __init__(self, volumes: Path, claims: Mapping[str, Path] | None = None) -> None:
        self._volumes = volumes
        self._claims = dict(claims or {})

    def fetch(
        self,
        uri: str,
        destination: Path,
        variables: Mapping[str, str] = _NOTHING,
        told: Callable[[str], None] | None = None,
    ) -> Path:
        """See `Storage`; only the URI counts, for nothing is copied."""
        path = self._path(uri)
        if not path.exists():
            raise NotFound(f"storageUri '{uri}': there is no '{path}'")
        return path

    def _path(self, uri: str) -> Path:
        scheme, separator, rest = uri.partition("://")
        if not separator:
            return Path(uri)
        if scheme == "file":
            return Path("/" + unquote(rest).removeprefix("localhost").lstrip("/"))
        if scheme == "pvc":
            return self._claim(uri)
        raise Unsupported(
            f"storageUri '{uri}': '{scheme}://' is nowhere on this machine; "
            "name a local path, file:// or pvc://"
        )

    def _claim(self, uri: str) -> Path:
        claim = parse_claim(uri)
        folder = self._claims.get(claim.name, self._volumes / claim.name)
        if not folder.is_dir():
            raise NotFound(
                f"storageUri '{uri}': the claim '{claim.name}' is mapped to no folder; start with "
                f"--pvc {claim.name}=FOLDER, or put its content into '{folder}'"
            )
        return resolve_inside(folder, *claim.sub_path.split("/")) if claim.sub_path else folder


class DownloadStorage:
    """Sources that are elsewhere come over HTTP or from a bucket; all others as `LocalStorage`."""

    def __init__(self, local: LocalStorage, environment: Mapping[str, str]) -> None:
        """`environment` has the operator's own credentials; those of a resource go before them."""
        self._local = local
        self._environment = dict(environment)

    def fetch(
        self,
        uri: str,
        destination: Path,
        variables: Mapping[str, str] = _NOTHING,
        told: Callable[[str], None] | None = None,
    ) -> Path:
        """See `Storage`. A fetch that broke off goes on where it was, in the same destination."""
        if not is_elsewhere(uri):
            return self._local.fetch(uri, destination)
        courier = Courier(Progress(told=told))
        fetch(uri, destination, Terms({**self._environment, **variables}, courier=courier))
        return destination


def is_elsewhere(uri: str) -> bool:
    """Whether a source has to be downloaded."""
    return "://" in uri and not uri.startswith(("file://", "pvc://"))


def lay_out(content: Path, name: str, folder: Path) -> Path:
    """What `nerite serve` is pointed to so that it serves `content`.

    A bare model file, or folders of versions, are linked into `folder` as a model called `name`, as
    KServe's servers call it; a model repository and a folder with a configuration keep their names.
    """
    file = content if content.is_file() else _only_model(content)
    versions = content.is_dir() and find_versions(content).folders
    if file is None and (find_config_files(content, None) or not versions):
        return content
    shutil.rmtree(folder, ignore_errors=True)
    model = folder / name
    if file is None:
        folder.mkdir(parents=True)
        model.symlink_to(content.resolve())
    else:
        (model / "1").mkdir(parents=True)
        (model / "1" / f"model{file.suffix}").symlink_to(file.resolve())
    return folder


def lay_out_alone(content: Path, name: str, folder: Path) -> Path:
    """`content` as one model called `name` in `folder`, beside which there may be others.

    A repository of a single model is that model, as `nerite serve --model-name` has it.

    Raises:
        Unsupported: There are several models, whose names are in use already.
    """
    made = lay_out(content, name, folder)
    if made == folder:
        return folder / name
    if find_config_files(content, None):
        return content
    models = [e for e in sorted(content.iterdir()) if e.is_dir() and _is_model(e)]
    if len(models) != 1:
        names = ", ".join(e.name for e in models) or "no model"
        raise Unsupported(f"'{content.name}' is a repository ({names}), not the one model '{name}'")
    return models[0]


def _is_model(folder: Path) -> bool:
    return bool(find_config_files(folder, None) or find_versions(folder).folders)


def _only_model(content: Path) -> Path | None:
    """The bare model file in a folder; None if the folder is a model or a repository."""
    if find_config_files(content, None) or find_versions(content).folders:
        return None
    files = [e for e in sorted(content.iterdir()) if e.is_file() and looks_like_model(e)]
    if len(files) > 1:
        # KServe's words, with the names in front instead of a Python list of paths.
        names = ", ".join(file.name for file in files)
        raise InvalidArgument(
            f"More than one model file is detected, Only one is allowed within model_dir: {names}"
        )
    if not files and not any(e.is_dir() for e in content.iterdir()):
        kinds = ".joblib, .pkl, .skops, .bst, .json, .ubj, .txt or .onnx"
        raise NotFound(f"'{content}' holds no model: a file ending in {kinds}, or model folders")
    return files[0] if files and backend_of(files[0]) else None
