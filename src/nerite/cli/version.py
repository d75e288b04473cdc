# SPDX-License-Identifier: Apache-2.0
"""`nerite version`: what is installed, for a person or for a bug report."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Annotated, Any

import typer

_FORMATS = ("scikit-learn", "skops", "xgboost", "xgboost-cpu", "lightgbm")
PARTS = ("numpy", "protobuf", "onnxruntime", "onnx", "pydantic", "pillow", *_FORMATS)


def version(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the versions of Nerite, its data plane, Python and the packages that it uses."""
    facts = installed()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items() if found)
    typer.echo(f"nerite {facts['nerite']} (core {facts['core']}, Python {facts['python']})")
    typer.echo(f"with {packages}")


def installed() -> dict[str, Any]:
    """The versions as one JSON object; a package that is not installed is null."""
    from nerite import _core

    return {
        "nerite": _found("nerite") or _core.__version__,
        "core": _core.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _found(name) for name in PARTS},
    }


def _found(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
