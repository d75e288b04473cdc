# SPDX-License-Identifier: Apache-2.0
"""What a load request may bring: a configuration instead of the folder's, and files instead of all
of its files.

Files go to a private folder of this process, which lives as long as the model that was loaded from
it. Their names come from a client, so nothing of them is trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from nerite.errors import InvalidArgument, NotFound
from nerite.models.repository import Found

MOST_FILES = 1000
LARGEST = 2**31
"""Bytes of all files together; a gRPC message is not larger."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came with a load request."""

    config: str | None = None
    """A configuration as JSON."""
    files: Mapping[str, bytes | memoryview] = field(default_factory=dict)
    """Path below the model's folder -> content."""

    def apply(self, name: str, found: Found | None) -> Found:
        """The model as the request wants it; `found` is what the repository has of that name.

        Raises:
            NotFound: There is no such model, and no files were sent.
            InvalidArgument: Files came without a configuration, or where they must not lie.
        """
        if self.files:
            return self._from_files(name)
        if found is None:
            raise NotFound(f"no model repository has a model '{name}', and no files came along")
        if self.config is None:
            return found
        return replace(found, override_json=self.config, asked=True)

    def _from_files(self, name: str) -> Found:
        if self.config is None:
            raise InvalidArgument(
                "Load parameter 'config' must be specified for model file override"
            )
        _check_name(name)
        paths = self._checked_paths(name)
        import tempfile  # only files that came with a request need a place

        place = tempfile.TemporaryDirectory(prefix="nerite-sent-", ignore_cleanup_errors=True)
        folder = Path(place.name) / name
        try:
            for path, content in paths.items():
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as stream:
                    stream.write(content)
        except OSError as why:
            place.cleanup()
            raise InvalidArgument(
                f"the files sent for model '{name}' cannot be laid out: {why.strerror} ({path})"
            ) from why
        return Found(
            name,
            folder,
            override_json=self.config,
            mark=_mark(paths),
            asked=True,
            sent=True,
            release=place.cleanup,
        )

    def _checked_paths(self, model: str) -> dict[PurePosixPath, bytes | memoryview]:
        size = sum(len(content) for content in self.files.values())
        if len(self.files) > MOST_FILES or size > LARGEST:
            raise InvalidArgument(
                f"{len(self.files)} files of {size} bytes were sent for model '{model}'; "
                f"at most {MOST_FILES} files of {LARGEST} bytes are taken"
            )
        return {_checked(path, model): content for path, content in self.files.items()}


def _check_name(name: str) -> None:
    """A model that comes from nowhere gets a folder of its name, so it must be one."""
    if name in (".", "..") or any(c in name for c in "/\\\0") or len(name.encode()) > 255:
        raise InvalidArgument(
            f"invalid model name '{name}': it must not contain path traversal characters"
        )


def _checked(path: str, model: str) -> PurePosixPath:
    relative = PurePosixPath(path)
    parts = path.split("/")
    if (
        relative.is_absolute()
        or any(p in ("", ".", "..") for p in parts)
        or set(path) & {"\\", "\0"}
    ):
        raise InvalidArgument(
            f"file '{path}' of model '{model}' is not a path inside the model's folder; "
            "VERSION/NAME is expected, for instance 1/model.onnx"
        )
    return relative


def _mark(files: Mapping[PurePosixPath, bytes | memoryview]) -> str:
    """Differs if a name or a content does."""
    mark = hashlib.blake2b()
    for path, content in sorted(files.items()):
        mark.update(f"{path}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        mark.update(content)
    return f"sent:{mark.hexdigest()}"
