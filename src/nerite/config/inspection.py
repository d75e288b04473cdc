# SPDX-License-Identifier: Apache-2.0
"""Check whatever a path names: a repository, one model folder, or one configuration file.

This is `nerite check`: it loads nothing and asks no backend unless given an inferrer, and it tells
all problems of all models instead of stopping at the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nerite.config import layout
from nerite.config.ensemble import Member, circular, find_cycle, join_ensemble
from nerite.config.read import Examined, Request, examine, read_config_file
from nerite.errors import ConfigError, ConfigProblem, NeriteError


def check_path(path: Path, request: Request | None = None) -> list[ConfigProblem]:
    """Every problem of the configurations under `path`; empty when all is well."""
    request = request if request is not None else Request()
    if path.is_file():
        return _check_file(path, request)
    if not path.is_dir():
        text = f"there is no file or folder {path}"
        fix = "give a model repository, a model folder or a configuration file"
        return [ConfigProblem(text, str(path), fix=fix, code="NOT_FOUND")]
    if _is_model(path):
        return _examine(path, request).problems
    return _check_repository(path, request)


def _is_model(path: Path) -> bool:
    has_config = bool(layout.find_config_files(path, None))
    return has_config or bool(layout.find_versions(path).folders)


def _check_file(path: Path, request: Request) -> list[ConfigProblem]:
    folder = path.parent.parent if path.parent.name == "configs" else path.parent
    if path.parent.name == "configs":
        return _examine(folder, replace(request, config_name=path.stem)).problems
    if path.name in layout.CONFIG_FILES and layout.find_config_files(folder, None)[0] == path:
        standalone = not layout.find_versions(folder).folders
        return _examine(folder, replace(request, standalone=standalone)).problems
    try:
        read_config_file(path)
    except ConfigError as error:
        return list(error.problems)
    return []


def _check_repository(path: Path, request: Request) -> list[ConfigProblem]:
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        fix = "put each model into a folder of its own: model/config.pbtxt, model/1/"
        return [ConfigProblem(f"no models in {path}", str(path), fix=fix)]
    models = {folder.name: _examine(folder, request) for folder in folders}
    join_all(models)
    return [problem for found in models.values() for problem in found.problems]


def _examine(folder: Path, request: Request) -> Examined:
    try:
        return examine(folder, request)
    except ConfigError as error:
        return Examined(folder, problems=list(error.problems))
    except NeriteError as error:
        problem = ConfigProblem(error.message, str(folder), code=error.code)
        return Examined(folder, problems=[problem])


def join_all(models: Mapping[str, Examined]) -> None:
    """Check every ensemble against the models beside it, the inner ones first."""
    configs = {name: m.config for name, m in models.items() if m.config is not None}
    done: set[str] = set()

    def join(name: str) -> None:
        config = configs.get(name)
        if name in done or config is None or not config.ensemble_steps:
            return
        done.add(name)
        last = find_cycle(name, configs)
        if last:
            models[name].add(circular(name, last))
            return
        for step in config.ensemble_steps:
            join(step.model)
        if not models[name].problems:
            members = {other: _member(models[other]) for other in models}
            models[name].config, problems = join_ensemble(config, members)
            models[name].add(*problems)

    for name in models:
        join(name)


def _member(found: Examined) -> Member:
    if not found.problems:
        return Member(found.config, found.versions)
    first = found.problems[0]
    if found.config is not None and found.config.ensemble_steps:
        return Member(found.config, fault=first.message, is_valid=False)
    label = "Internal" if first.code == "INTERNAL" else "Invalid argument"
    highest = max(found.versions, default=1)
    fault = f"version {highest} is at UNAVAILABLE state: {label}: {first.message}"
    return Member(found.config, fault=fault)
