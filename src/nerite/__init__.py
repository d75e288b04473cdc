# SPDX-License-Identifier: Apache-2.0
"""Nerite: an inference server that is pip-installed.

    with nerite.Server(nerite.ServerOptions(repositories=("models",))) as server:
        print(server.http_url)

Names are loaded when they are first used: importing the package starts nothing and loads
nothing heavy. Everything that is not listed here is internal.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerite.backends.contract import Backend, Batch, Device, Executed, Model, Request
    from nerite.config import ModelConfig, check_path
    from nerite.errors import (
        AlreadyExists,
        Cancelled,
        ConfigError,
        ConfigProblem,
        InternalError,
        InvalidArgument,
        MissingExtra,
        NeriteError,
        NotFound,
        PermissionDenied,
        QueueFull,
        Unauthenticated,
        Unavailable,
        UnknownError,
        Unsupported,
    )
    from nerite.server.options import ServerOptions
    from nerite.server.server import Server

__all__ = [
    "AlreadyExists",
    "Backend",
    "Batch",
    "Cancelled",
    "ConfigError",
    "ConfigProblem",
    "Device",
    "Executed",
    "InternalError",
    "InvalidArgument",
    "MissingExtra",
    "Model",
    "ModelConfig",
    "NeriteError",
    "NotFound",
    "PermissionDenied",
    "QueueFull",
    "Request",
    "Server",
    "ServerOptions",
    "Unauthenticated",
    "Unavailable",
    "UnknownError",
    "Unsupported",
    "check_path",
]

_HOMES = {
    "Server": "nerite.server.server",
    "ServerOptions": "nerite.server.options",
    "ModelConfig": "nerite.config",
    "check_path": "nerite.config",
    **dict.fromkeys(
        ("Backend", "Batch", "Device", "Executed", "Model", "Request"), "nerite.backends.contract"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nerite' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES.get(name, "nerite.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
