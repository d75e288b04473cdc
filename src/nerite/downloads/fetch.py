# SPDX-License-Identifier: Apache-2.0
"""One URI into one folder. Everything below is chosen here, and nothing is written but there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nerite.downloads import folders
from nerite.downloads.archives import Limits, is_archive, unpack
from nerite.downloads.buckets import Bucket, Filters
from nerite.downloads.http import HttpFile
from nerite.downloads.names import safe_relative
from nerite.downloads.progress import Progress
from nerite.downloads.sources import Source, parse
from nerite.downloads.staging import Staging
from nerite.downloads.transfer import Courier, transfer
from nerite.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Terms:
    """How files are fetched."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Credentials and the rest, under KServe's names."""
    claims: Mapping[str, Path] = field(default_factory=dict)
    """The folder that stands for each volume claim."""
    limits: Limits = field(default_factory=Limits)
    courier: Courier = field(default_factory=lambda: Courier(Progress()))


def fetch(uri: str, destination: Path, terms: Terms) -> list[Path]:
    """Brings what a URI names into a folder; what is there then.

    What is on this machine is linked. A single archive is unpacked. If it fails, what was fetched
    stays in a hidden folder, from which the next call with the same URI goes on.

    Raises:
        NeriteError: It cannot be; the text names the URI.
    """
    source = parse(uri)
    destination.mkdir(parents=True, exist_ok=True)
    if source.kind in ("folder", "claim"):
        path = Path(source.path)
        if source.kind == "claim":
            path = folders.folder_of_claim(source, terms.claims)
        return folders.link(path, destination, source.uri, terms.limits)
    # The whole URI, for its query may choose the file.
    staging = Staging(destination, uri)
    if source.kind == "http":
        _fetch_http(uri, source, staging, terms)
    else:
        Bucket(source, terms.variables).fetch(staging, _filters(terms.variables), terms.courier)
    _unpack_single(staging, source, terms.limits)
    return staging.finish()


def _fetch_http(uri: str, source: Source, staging: Staging, terms: Terms) -> None:
    relative = PurePosixPath(safe_relative(PurePosixPath(source.path).name, source.uri))
    part = staging.part(relative)
    transfer(part, HttpFile(uri, terms.variables).open_at, terms.courier, source.uri)
    staging.keep(part, relative)


def _unpack_single(staging: Staging, source: Source, limits: Limits) -> None:
    entries = list(staging.files.iterdir())
    if len(entries) != 1 or not entries[0].is_file() or not is_archive(entries[0].name):
        return
    archive = entries[0].replace(staging.files.parent / entries[0].name)
    try:
        unpack(archive, staging.files, limits, source.uri)
    except BaseException:
        staging.drop()  # it would be as bad the next time
        raise


def _filters(variables: Mapping[str, str]) -> Filters:
    return Filters(
        _patterns(variables, "STORAGE_ALLOW_PATTERNS"),
        _patterns(variables, "STORAGE_IGNORE_PATTERNS"),
    )


def _patterns(variables: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Patterns as a JSON list, or separated by commas."""
    text = variables.get(name, "").strip()
    if not text.startswith("["):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        patterns = json.loads(text)
    except ValueError as why:
        raise InvalidArgument(f"variable '{name}' is not JSON: {why}") from why
    return tuple(str(pattern) for pattern in patterns)
