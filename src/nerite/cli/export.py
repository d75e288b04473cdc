# SPDX-License-Identifier: Apache-2.0
"""`nerite export`: what other systems need to be told about Nerite."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Literal

import typer

from nerite.cli import examples

app = typer.Typer(
    help="Print what other systems need to be told about Nerite.", no_args_is_help=True
)


@app.callback()
def export() -> None:
    """Print what other systems need to be told about Nerite."""


@app.command(epilog=examples.of("export runtime"))
def runtime(
    *,
    image: Annotated[
        str, typer.Option(help="The container image (see deploy/Dockerfile); nerite:VERSION.")
    ] = "",
    name: Annotated[str, typer.Option(help="How the runtimes' names begin.")] = "nerite",
    model_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="triton, onnx, sklearn, xgboost or lightgbm; may be repeated. All unless given.",
        ),
    ] = None,
    namespace: Annotated[
        str, typer.Option(help="Make ServingRuntimes of this namespace, not of the cluster.")
    ] = "",
    priority: Annotated[
        int | None,
        typer.Option(
            help="The highest is chosen; KServe's own have 1 to 3, so 4 takes their services over. "
            "Without one, services keep the runtime that they have."
        ),
    ] = None,
    auto_select: Annotated[
        bool, typer.Option(help="Also for services that name no runtime.")
    ] = True,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load pickles too, which can run any code.")
    ] = False,
    serverless: Annotated[
        bool, typer.Option("--serverless", help="For Knative, which takes one port only.")
    ] = False,
    output: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", help="yaml or json.")
    ] = "yaml",
) -> None:
    """Print KServe ServingRuntimes for Nerite, one per model format, for `kubectl apply -f -`."""
    from nerite.kserve import export as runtimes

    wanted = runtimes.Runtimes(
        image=image or f"nerite:{metadata.version('nerite')}",
        name=name,
        formats=tuple(model_format or runtimes.FORMATS),
        namespace=namespace,
        priority=priority,
        auto_select=auto_select,
        trust=trust,
        serverless=serverless,
    )
    objects = runtimes.manifests(wanted)
    text = runtimes.as_json(objects) if output == "json" else runtimes.as_yaml(objects).rstrip()
    typer.echo(text)
