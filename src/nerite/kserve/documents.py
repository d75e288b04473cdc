# SPDX-License-Identifier: Apache-2.0
"""Read Kubernetes YAML so that every complaint can name file, line and path.

A document keeps, beside its plain value, the position of each key and list item. What the value
means is decided in `resources`; this module refuses only what is no YAML, no mapping, or says a
key twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nerite.errors import ConfigError, ConfigProblem

Object = dict[str, Any]
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in its file, counted from one."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: `value` is what it says, `positions` where it says so."""

    value: Object
    file: str = ""
    positions: dict[KeyPath, Position] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return str(self.value.get("kind", ""))

    def position(self, path: KeyPath) -> Position:
        """The place of `path`, or of the nearest parent that the file does hold."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position(0, 0))

    def problem(self, path: KeyPath, message: str, value: str = "", fix: str = "") -> ConfigProblem:
        """A complaint about `path` that carries its place."""
        at = self.position(path)
        return ConfigProblem(message, self.file, at.line, at.column, dotted(path), value, fix)


def dotted(path: KeyPath) -> str:
    """`("spec", "env", 0, "name")` as `spec.env[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_documents(text: str, file: str = "") -> list[Document]:
    """The documents of one YAML text; empty ones are left out."""
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node]
        return [_document(node, file) for node in nodes if not _is_null(node)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        problem = ConfigProblem(f"not YAML: {error.problem}", file, line, column)
        raise ConfigError(problem) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(ConfigProblem(f"not YAML: {error.reason}", file, line)) from None


def _is_null(node: yaml.Node) -> bool:
    # What a `---` with only comments below it is read as.
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def read_files(paths: list[str | Path]) -> list[Document]:
    """The documents of files and folders (their `*.yaml` and `*.yml`, sorted), in that order."""
    return [
        document for file, text in read_texts(paths) for document in read_documents(text, str(file))
    ]


def read_texts(paths: Iterable[str | Path]) -> list[tuple[Path, str]]:
    """The files that `read_files` reads, each with its text."""
    return [(file, _text_of(file)) for path in paths for file in _files(Path(path))]


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = ConfigProblem(f"not UTF-8 text: {error.reason}", str(file))
        raise ConfigError(problem) from None
    except OSError as error:
        problem = ConfigProblem(f"cannot be read: {(error.strerror or '').lower()}", str(file))
        raise ConfigError(problem) from None


def _files(path: Path) -> Iterator[Path]:
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name that no file can have
        problem = ConfigProblem(f"cannot be read: {(error.strerror or '').lower()}", str(path))
        raise ConfigError(problem) from None
    if not is_folder:
        if not is_there:
            raise ConfigError(ConfigProblem("no such file or folder", str(path)))
        yield path
        return
    files = sorted(p for p in path.iterdir() if p.suffix in {".yaml", ".yml"} and p.is_file())
    if not files:
        raise ConfigError(ConfigProblem("the folder holds no .yaml or .yml file", str(path)))
    yield from files


def _document(node: yaml.Node, file: str) -> Document:
    positions: dict[KeyPath, Position] = {}
    if not isinstance(node, yaml.MappingNode):
        mark = node.start_mark
        text = "a Kubernetes document must be a mapping with apiVersion, kind and metadata"
        raise ConfigError(ConfigProblem(text, file, mark.line + 1, mark.column + 1))
    constructor = _TextualDates("")
    try:
        value = _walk(node, (), positions, constructor, file)
    except RecursionError:
        raise ConfigError(ConfigProblem("an anchor contains itself", file)) from None
    finally:
        constructor.dispose()
    return Document(value, file, positions)


class _TextualDates(yaml.SafeLoader):
    """YAML as Kubernetes reads it: `2026-01-01` stays a text."""


_TextualDates.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def _walk(
    node: yaml.Node,
    path: KeyPath,
    positions: dict[KeyPath, Position],
    constructor: yaml.SafeLoader,
    file: str,
) -> Any:
    positions.setdefault(path, Position(node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.SequenceNode):
        return [
            _walk(item, (*path, i), positions, constructor, file)
            for i, item in enumerate(node.value)
        ]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, path, constructor, file)
    _refuse_repeated_keys(node, path, file)
    constructor.flatten_mapping(node)
    value: Object = {}
    for key_node, value_node in node.value:
        key = _key(constructor.construct_object(key_node, deep=True))
        place = Position(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        positions[(*path, key)] = place
        value[key] = _walk(value_node, (*path, key), positions, constructor, file)
    return value


def _scalar(node: yaml.Node, path: KeyPath, constructor: yaml.SafeLoader, file: str) -> Any:
    try:
        return constructor.construct_object(node, deep=True)
    except ValueError as error:  # a tag promises a number: `!!int many`
        mark = node.start_mark
        place = (file, mark.line + 1, mark.column + 1, dotted(path))
        raise ConfigError(ConfigProblem(f"not YAML: {error}", *place)) from None


def _refuse_repeated_keys(node: yaml.MappingNode, path: KeyPath, file: str) -> None:
    # Before merge keys (`<<`) are expanded: there a repetition is an override.
    seen: set[str] = set()
    for key_node, _ in node.value:
        key, mark = str(key_node.value), key_node.start_mark
        if key in seen:
            text = f"the key '{key}' stands here twice"
            raise ConfigError(
                ConfigProblem(text, file, mark.line + 1, mark.column + 1, dotted(path))
            )
        seen.add(key)


def _key(key: Any) -> str:
    # As sigs.k8s.io/yaml: keys become JSON strings, `true` and `1` included.
    return {True: "true", False: "false"}.get(key, str(key)) if not isinstance(key, str) else key
