# SPDX-License-Identifier: Apache-2.0
"""Turn a model folder into a checked, completed ModelConfig.

Reading is in `pbtxt`, `yaml_file` and `json_file`, filling gaps in `complete`, rules in `check`,
folders in `layout`; this module only runs them in Triton's order. It never touches a backend:
what a backend can infer is asked for through `Inferrer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerite.config import layout
from nerite.config.check import FIRST, LATER, check
from nerite.config.complete import Inferrer, complete_backend, complete_instances, normalise
from nerite.config.json_file import read_json
from nerite.config.model import ModelConfig, message_of
from nerite.config.pbtxt import read_pbtxt
from nerite.config.positions import Positions
from nerite.config.rules import Context
from nerite.config.rules.identity import backend_is_known
from nerite.config.schema import Message, ModelConfigMessage
from nerite.config.settings import Settings
from nerite.config.tree import Node
from nerite.errors import ConfigError, ConfigProblem

LARGEST_FILE = 64 * 1024 * 1024
OVERRIDE = "<config override>"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A model folder that may be loaded: its configuration and the versions to serve."""

    config: ModelConfig
    versions: tuple[int, ...]
    """The versions the policy chooses, ascending."""
    folder: Path
    file: Path | None = None
    """The configuration file; None when there was none."""
    warnings: tuple[str, ...] = ()
    positions: Positions = field(default_factory=Positions)
    """Where each key stands in `file`, for problems that are found later."""


@dataclass(slots=True)
class Examined:
    """A model folder, whatever its state: what could be read, and all that is wrong with it."""

    folder: Path
    file: Path | None = None
    config: ModelConfig | None = None
    versions: tuple[int, ...] = ()
    positions: Positions = field(default_factory=Positions)
    warnings: list[str] = field(default_factory=list)
    problems: list[ConfigProblem] = field(default_factory=list)

    def add(self, *problems: ConfigProblem) -> None:
        """Keep problems, each with its file and line."""
        self.problems.extend(self.positions.place(problem) for problem in problems)


@dataclass(frozen=True, slots=True)
class Request:
    """How a model folder is to be examined; the arguments of `read_model`."""

    name: str | None = None
    auto_complete: bool = True
    config_name: str | None = None
    override_json: str | None = None
    inferrer: Inferrer | None = None
    gpus: tuple[int, ...] = ()
    settings: Settings = field(default_factory=Settings)
    renamed: bool = False
    """The file's own name does not count: the operator gave the model another one."""
    standalone: bool = False
    """The file is not in a model folder (yet): nothing beside it is looked at."""


def read_model(
    folder: Path,
    *,
    name: str | None = None,
    auto_complete: bool = True,
    config_name: str | None = None,
    override_json: str | None = None,
    inferrer: Inferrer | None = None,
    gpus: tuple[int, ...] = (),
    settings: Settings | None = None,
) -> LoadedConfig:
    """The completed configuration of a model folder and the versions to serve.

    Raises ConfigError with every problem found, in Triton's order, each with file and line. What
    `inferrer` raises passes through, with places added if it is a ConfigError.

    Args:
        name: the model's name; the folder's unless given.
        auto_complete: whether a missing file is an empty one and `inferrer` is asked.
        config_name: prefer `configs/{config_name}.pbtxt` (`--model-config-name`).
        override_json: a configuration that replaces the file's, as JSON.
        gpus: the ids of the GPUs that instances may use.
    """
    request = Request(
        name=name,
        auto_complete=auto_complete,
        config_name=config_name,
        override_json=override_json,
        inferrer=inferrer,
        gpus=gpus,
        settings=settings if settings is not None else Settings(),
    )
    found = examine(folder, request)
    if found.problems or found.config is None:
        raise ConfigError(*found.problems)
    warnings = tuple(found.warnings)
    return LoadedConfig(found.config, found.versions, folder, found.file, warnings, found.positions)


def read_written(
    folder: Path, *, config_name: str | None = None, override_json: str | None = None
) -> ModelConfig:
    """A configuration as it stands, neither completed nor checked; empty if there is none.

    Raises ConfigError where it cannot be read.
    """
    request = Request(config_name=config_name, override_json=override_json)
    return ModelConfig(_written(Examined(folder), folder, request)[0])


def examine(folder: Path, request: Request) -> Examined:
    """All that can be said about a model folder; what an inferrer raises passes through."""
    name = request.name if request.name is not None else folder.resolve().name
    found = Examined(folder)
    try:
        versions = layout.find_versions(folder)
        message, found.positions = _written(found, folder, request)
        if request.renamed:
            message.ClearField("name")
    except ConfigError as error:
        found.add(*error.problems)
        return found
    except OSError as error:
        text = f"failed to read model directory {folder}: {error.strerror}"
        found.add(ConfigProblem(text, str(folder), code="INTERNAL"))
        return found
    found.warnings.extend(versions.warnings)
    _finish(found, message, replace(request, name=name), versions)
    return found


def _finish(found: Examined, message: Message, request: Request, versions: layout.Versions) -> None:
    """Complete and check a message that was read."""
    context = _context(found.folder, request)
    _complete(found, message, request, versions, context)
    config = ModelConfig(message)
    inferrer = request.inferrer if request.auto_complete and not request.standalone else None
    if found.problems and inferrer is not None:
        return  # a backend must not be asked about what is known to be wrong
    found.versions, missed = layout.choose_versions(
        tuple(versions.folders), config.version_policy, config.name
    )
    found.warnings.extend(missed)
    if not found.versions and not request.standalone:
        found.add(layout.no_version(config.name, config.version_policy, versions))
    elif inferrer is not None:
        version_dir = versions.folders[found.versions[-1]]
        message = _inferred(found, inferrer, config, version_dir, request.settings)
        normalise(message)
        found.add(*check(message, FIRST, context))
    complete_instances(message, request.gpus)
    found.add(*check(message, LATER, context))
    found.config = ModelConfig(message)


def _complete(
    found: Examined,
    message: Message,
    request: Request,
    versions: layout.Versions,
    context: Context,
) -> None:
    """What the server itself adds, and the rules that hold from then on."""
    rules = FIRST
    try:
        complete_backend(message, request.name or "", versions.first)
    except ConfigError as error:
        found.add(*error.problems)
        rules = tuple(rule for rule in FIRST if rule is not backend_is_known)
    normalise(message)
    found.add(*check(message, rules, context))


def _context(folder: Path, request: Request) -> Context:
    if request.standalone:
        return Context(gpus=request.gpus, settings=request.settings)
    return Context(folder, request.name or "", request.gpus, request.settings)


def _inferred(
    found: Examined,
    inferrer: Inferrer,
    config: ModelConfig,
    version_dir: Path,
    settings: Settings,
) -> Message:
    try:
        return inferrer(config, version_dir, settings).to_message()
    except ConfigError as error:
        raise ConfigError(*(found.positions.place(p) for p in error.problems)) from error


def _written(found: Examined, folder: Path, request: Request) -> tuple[Message, Positions]:
    """What the configuration file, or what replaces it, says."""
    if request.override_json is not None:
        positions = Positions(OVERRIDE)
        node = read_json(request.override_json, OVERRIDE)
        return message_of(node, positions), positions
    files = layout.find_config_files(folder, request.config_name)
    if files:
        found.file = files[0]
        for other in files[1:]:
            found.warnings.append(f"ignoring {other}: {files[0].name} counts")
        return read_config_file(files[0])
    if not request.auto_complete:
        path = folder / layout.CONFIG_FILES[0]
        text = f"failed to open text file for read {path}: No such file or directory"
        fix = "write a config.pbtxt, or allow the configuration to be completed"
        raise ConfigError(ConfigProblem(text, str(path), fix=fix, code="INTERNAL"))
    return ModelConfigMessage(), Positions()


def read_config_file(path: Path) -> tuple[Message, Positions]:
    """The message of a configuration file and where its keys stand; raises ConfigError."""
    text = _text_of(path)
    if path.suffix == ".pbtxt":
        return read_pbtxt(text, str(path))
    positions = Positions(str(path))
    return message_of(_tree_reader(path)(text, str(path)), positions), positions


def _tree_reader(path: Path) -> Callable[[str, str], Node]:
    if path.suffix in (".yaml", ".yml"):
        from nerite.config.yaml_file import read_yaml

        return read_yaml
    if path.suffix == ".json":
        return read_json
    text = f"unknown kind of configuration file {path}"
    fix = "name it config.pbtxt, config.yaml or config.json"
    raise ConfigError(ConfigProblem(text, str(path), fix=fix))


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            text = f"configuration file {path} is larger than {LARGEST_FILE} bytes"
            raise ConfigError(ConfigProblem(text, str(path), fix="is it the model's file?"))
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        text = f"failed to read text proto from {path}: not UTF-8 text"
        fix = "save the file as UTF-8"
        raise ConfigError(ConfigProblem(text, str(path), line, column, fix=fix)) from None
    except OSError as error:
        text = f"failed to open text file for read {path}: {error.strerror}"
        fix = "make it a readable file"
        raise ConfigError(ConfigProblem(text, str(path), fix=fix, code="INTERNAL")) from None
