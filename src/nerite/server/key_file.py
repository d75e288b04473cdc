# SPDX-License-Identifier: Apache-2.0
"""The file of API keys: one line a key, without the key itself.

    # name  digest of the key   what for      which models
    ci      sha256:9f86d081...  infer         ranker-*,scorer
    ops     sha256:60303ae2...  manage,infer  *

What a key opens is decided in the data plane. No text here ever holds more of a line than a name:
whoever writes a key where its digest belongs should not find it in a log.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.errors import AlreadyExists, ConfigError, ConfigProblem, InvalidArgument

SCOPES = ("infer", "manage", "metrics")

#: What every key begins with, so that scanners for leaked secrets can find one.
PREFIX = "nrt_"

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_NAME = re.compile(rf"(?!{PREFIX})[A-Za-z0-9][A-Za-z0-9._@-]{{0,63}}")
_FORM = "NAME sha256:HEX SCOPE[,SCOPE] MODEL[,MODEL]"


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key as its line tells it."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    """Patterns of names: `*` is any text, `?` one character."""

    def __str__(self) -> str:
        scopes, models = ",".join(self.scopes), ",".join(self.models)
        return f"{self.name} sha256:{self.sha256} {scopes} {models}"

    def to_dict(self) -> dict[str, Any]:
        """As the data plane takes it."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "scopes": list(self.scopes),
            "models": list(self.models),
        }


def read_keys(file: str | Path) -> tuple[KeyLine, ...]:
    """The keys of a file.

    Raises:
        ConfigError: It cannot be read, or lines of it are wrong; each with file and line.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as why:
        raise ConfigError(_problem(file, 0, f"API keys cannot be read: {why.strerror}")) from None
    except UnicodeDecodeError:
        raise ConfigError(_problem(file, 0, "API keys cannot be read: not UTF-8 text")) from None
    problems: list[ConfigProblem] = []
    keys: list[KeyLine] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = _read_line(line)
            _check_new(key, keys)
            keys.append(key)
        except (InvalidArgument, AlreadyExists) as why:
            problems.append(_problem(file, number, why.message))
    if problems:
        raise ConfigError(*problems)
    return tuple(keys)


def new_key(name: str, scopes: Sequence[str], models: Sequence[str]) -> tuple[str, KeyLine]:
    """A new key of 256 random bits, and its line.

    Raises:
        InvalidArgument: The name, a scope or a pattern cannot be written in a line.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, _read_line(f"{name} sha256:{digest} {','.join(scopes)} {','.join(models)}")


def append_key(file: str | Path, line: KeyLine) -> None:
    """Adds a line to a file, which is made for its owner alone if it is not there.

    Raises:
        ConfigError: The file is there and wrong.
        AlreadyExists: It has a key of this name.
    """
    path = Path(file)
    text = ""
    if path.exists():
        _check_new(line, read_keys(path))
        text = path.read_text(encoding="utf-8")
    # In one piece, so that a server that looks meanwhile never sees half a line.
    piece = f"{line}\n" if not text or text.endswith("\n") else f"\n{line}\n"
    try:
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as why:
        raise InvalidArgument(f"'{file}' cannot be written: {why.strerror}") from None
    try:
        os.write(opened, piece.encode())
    finally:
        os.close(opened)


def _read_line(line: str) -> KeyLine:
    fields = line.split()
    if len(fields) != 4:
        raise InvalidArgument(f"the line has {len(fields)} fields; {_FORM} is expected")
    name, digest, scopes, models = fields
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            "the name is not usable; up to 64 letters, digits and '._@-' are, and it does not "
            f"begin with '{PREFIX}'"
        )
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise InvalidArgument(
            f"the digest of key '{name}' is not 'sha256:' and 64 hexadecimal digits"
        )
    for scope in scopes.split(","):
        if scope not in SCOPES:
            raise InvalidArgument(
                f"scope '{scope}' of key '{name}' is not known; {', '.join(SCOPES)} are"
            )
    if not all(models.split(",")):
        raise InvalidArgument(f"a model pattern of key '{name}' is empty; '*' is every model")
    return KeyLine(name, found[1].lower(), tuple(scopes.split(",")), tuple(models.split(",")))


def _check_new(key: KeyLine, known: Sequence[KeyLine]) -> None:
    for other in known:
        if other.name == key.name:
            raise AlreadyExists(f"there is a key '{key.name}' already")
        if other.sha256 == key.sha256:
            raise AlreadyExists(f"key '{key.name}' is the same key as '{other.name}'")


def _problem(file: str | Path, line: int, message: str) -> ConfigProblem:
    return ConfigProblem(message, file=str(file), line=line)
