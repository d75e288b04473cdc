# SPDX-License-Identifier: Apache-2.0
"""`nerite serve` as KServe calls a model server: its arguments -> Nerite's.

KServe appends a service's arguments to a runtime's and cannot take any away, so its servers let the
last of two equal flags count and overlook what they do not know. Here both hold only on a command
line that has a flag of KServe's: on any other a mistyped flag is an error. Nerite's own flags may
stand among KServe's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nerite.cli.flags import BY_NAME
from nerite.cli.kserve_flags import DEFAULTS, FRAMEWORKS, KSERVE_FLAGS, WORDS_FOR_BOOL, KServeFlag
from nerite.cli.options import read_value
from nerite.cli.remote_models import local_path
from nerite.errors import InvalidArgument, NeriteError

if TYPE_CHECKING:
    from nerite.stores.local import StoredModel

#: The name of a model where none is given.
DEFAULT_NAME = "model"
_HELP = ("--help", "-h")
_REPOSITORIES = ("--model-repository", "--model-store")


@dataclass(frozen=True, slots=True)
class Translated:
    """Arguments of `nerite serve`, and what to tell about those that are not among them."""

    words: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Read:
    """What the words say, before anything is looked at on the disk."""

    given: dict[str, str] = field(default_factory=dict)
    """Flags of KServe's; the last of two counts."""
    own: list[str] = field(default_factory=list)
    """Flags of Nerite's, as they were."""
    paths: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def speaks_kserve(words: Sequence[str]) -> bool:
    """Whether arguments of `nerite serve` have a flag that only KServe's servers have."""
    names = {word.partition("=")[0] for word in words}
    telling = {name for name in names & set(KSERVE_FLAGS) if "_" in name or name == "--workers"}
    return bool(telling) and names.isdisjoint(_HELP)


def translate(words: Sequence[str]) -> Translated:
    """Nerite's arguments for KServe's.

    Raises:
        InvalidArgument: A value cannot be read, a flag is refused, or there is no model where
            `--model_dir` points to; the text names the flag as it was written.
    """
    read = _read(words)
    made = [f"{name}={value}" for name, value in DEFAULTS.items()]
    for name, value in read.given.items():
        flag = KSERVE_FLAGS[name]
        if flag.refused and value not in flag.idle:
            raise InvalidArgument(f"{name} is refused: {flag.refused}")
        if flag.ignored and value not in flag.idle:
            read.warnings.append(f"{name} has no effect: {flag.ignored}")
        if flag.becomes:
            made.append(f"{flag.becomes}={_checked(flag, value)}")
    model = _model_words(read)
    return Translated((*made, *read.own, *model), tuple(read.warnings))


def _read(words: Sequence[str]) -> _Read:
    read, left = _Read(), deque(words)
    while left:
        word = left.popleft()
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            read.paths.append(word)
        elif name in KSERVE_FLAGS:
            takes = not (equals or KSERVE_FLAGS[name].switch)
            read.given[name] = _value_after(name, left) if takes else value
        elif name in BY_NAME:
            takes = not (equals or BY_NAME[name].kind == "switch")
            read.own.append(f"{name}={_value_after(name, left)}" if takes else word)
        else:
            # What follows is its value, as far as anyone can tell.
            unknown = not equals and left and not left[0].startswith("--")
            shown = f"{name} {left.popleft()}" if unknown else word
            read.warnings.append(f"{shown} has no effect: there is no such flag")
    return read


def _value_after(name: str, left: deque[str]) -> str:
    if not left or left[0].startswith("--"):
        raise InvalidArgument(f"{name} needs a value: write {name}=VALUE")
    return left.popleft()


def _checked(flag: KServeFlag, value: str) -> str:
    """The value as Nerite's flag takes it; a complaint about it names the flag that was written."""
    known = replace(BY_NAME[flag.becomes], name=flag.name)
    if known.kind == "bool":
        value = WORDS_FOR_BOOL.get(value.lower(), value)
    read_value(known, value)
    return value


def _model_words(read: _Read) -> list[str]:
    """The path and the name of the model, after a look at what is there."""
    from nerite.stores.named import NamedStore

    named = [f"--model-name={name}"] if (name := read.given.get("--model_name", "")) else []
    if any(word.startswith(_REPOSITORIES) for word in read.own):
        return [*read.paths, *named]
    if "--model_dir" in read.given:
        source, path = "--model_dir", read.given["--model_dir"]
        read.warnings += [f"'{word}' has no effect: --model_dir counts" for word in read.paths]
    elif read.paths:
        source, path = "the model's path", read.paths[-1]
        read.warnings += [
            f"'{word}' has no effect: the last path counts" for word in read.paths[:-1]
        ]
    else:
        raise InvalidArgument("--model_dir is missing; KServe puts a model at /mnt/models")
    try:
        path = local_path(path)
        store = NamedStore(Path(path), name)
        models = store.models()
    except NeriteError as why:
        raise type(why)(f"{source}: {why.message}") from why
    _check_framework(read, models)
    if unused := store.unused_name():
        read.warnings.append(f"--model_name has no effect: {unused}")
    return [path, *(named or ([] if store.is_repository else [f"--model-name={DEFAULT_NAME}"]))]


def _check_framework(read: _Read, models: Sequence[StoredModel]) -> None:
    framework = read.given.get("--framework", "")
    backend = FRAMEWORKS.get(framework)
    for model in models if backend is not None else ():
        if model.file is not None and model.backend != backend:
            raise InvalidArgument(
                f"--framework: '{framework}' was asked for, but '{model.file}' is a model for "
                f"the backend '{model.backend}'"
            )
