# SPDX-License-Identifier: Apache-2.0
"""Find the class behind a backend's name, importing it on first use.

Built-ins are a table of `"name": "module:Class"`; others register the same string in the
entry-point group `nerite.backends`, or are written as it stands into a model's configuration
(`backend: "my_module:MyBackend"`). A built-in whose package is missing says which extra to install.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from nerite.backends.contract import Backend, Model
from nerite.errors import InvalidArgument, MissingExtra

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "nerite.backends"

BUILT_IN: Final[Mapping[str, str]] = {
    "identity": "nerite.backends.identity:IdentityBackend",
    "lightgbm": "nerite.backends.lightgbm:LightGbmBackend",
    "onnxruntime": "nerite.backends.onnx:OnnxBackend",
    "python": "nerite.backends.python.backend:PythonBackend",
    "sklearn": "nerite.backends.sklearn:SklearnBackend",
    "xgboost": "nerite.backends.xgboost:XgboostBackend",
}

#: Package that a built-in imports -> the extra that brings it.
EXTRAS: Final[Mapping[str, str]] = {
    "lightgbm": "lightgbm",
    "onnxruntime": "onnx",
    "sklearn": "sklearn",
    "skops": "sklearn",
    "xgboost": "xgboost",
}

DEFAULT_DIRECTORY: Final = "/opt/tritonserver/backends"


def find(name: str) -> type[Backend]:
    """The class of the backend called `name`.

    Raises:
        InvalidArgument: There is no such backend.
        MissingExtra: It is built in, but its package is not installed.
    """
    target = BUILT_IN.get(name)
    if target is not None:
        return _built_in(name, target)
    plugin = _plugins().get(name)
    if plugin is not None:
        return _import(name, plugin.value)
    if ":" in name:
        return _import(name, name)
    # Triton's text; what Triton cannot say, which backends there are, follows it.
    raise InvalidArgument(
        f"unable to find backend library for backend '{name}', "
        "try specifying runtime on the model configuration."
        f" Available backends: {', '.join(available())}"
    )


def available() -> list[str]:
    """The names of all backends that are built in or registered by an installed package."""
    return sorted({*BUILT_IN, *_plugins()})


def source_of(name: str) -> str:
    """Where a backend comes from: its `module:Class`, and the package that registered it."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    point = _plugins()[name]
    package = point.dist.name if point.dist is not None else "an installed package"
    return f"{point.value} (from {package})"


def check_runtime(model: Model, backend: str) -> None:
    """Refuses a `runtime` that names anything but the backend itself, in Triton's words.

    Nerite's backends are Python classes: there is no library to choose. The names under which
    Triton ships its own ones are accepted, so that configurations that spell them out keep working.
    """
    runtime = model.config.runtime
    if runtime in ("", f"libtriton_{backend}.so", "model.py"):
        return
    directory = f"{model.settings.get('backend-directory', DEFAULT_DIRECTORY)}/{backend}"
    if ".." in PurePosixPath(runtime).parts or runtime.startswith("/"):
        raise InvalidArgument(
            f"backend library name '{runtime}' escapes backend directory '{directory}', "
            f"for model '{model.name}', check model config runtime field"
        )
    raise InvalidArgument(
        f"unable to find backend library '{runtime}' for model '{model.name}', "
        f"searched: '{model.version_folder}' '{model.folder}' '{directory}' "
    )


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _built_in(name: str, target: str) -> type[Backend]:
    module, _, attribute = target.partition(":")
    try:
        found = importlib.import_module(module)
        require = getattr(found, "require", None)
        if require is not None:
            require()
    except ModuleNotFoundError as why:
        package = (why.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtra(f"backend '{name}'", package, EXTRAS[package]) from why
    return _attribute(name, found, attribute)


def _import(name: str, target: str) -> type[Backend]:
    module, _, attribute = target.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as why:
        if why.name is None or not (module == why.name or module.startswith(f"{why.name}.")):
            raise InvalidArgument(
                f"backend '{name}' cannot be imported: {why}; install the package it needs"
            ) from why
        raise InvalidArgument(
            f"backend '{name}' names the module '{module}', which cannot be found; "
            "install it or put its folder on PYTHONPATH"
        ) from why
    except Exception as why:
        raise InvalidArgument(
            f"backend '{name}' cannot be imported: {type(why).__name__}: {why}"
        ) from why
    return _attribute(name, found, attribute)


def _attribute(name: str, module: object, attribute: str) -> type[Backend]:
    found = getattr(module, attribute, None)
    missing = [m for m in ("load", "execute", "unload") if not callable(getattr(found, m, None))]
    if isinstance(found, type) and not missing:
        return found
    raise InvalidArgument(
        f"backend '{name}': '{attribute}' in {module!r} "
        + (f"has no method {', '.join(missing)}" if isinstance(found, type) else "is not a class")
        + "; a backend is a class with load, execute and unload"
    )
