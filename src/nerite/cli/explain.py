# SPDX-License-Identifier: Apache-2.0
"""`nerite explain`: which ServingRuntime KServe would choose for some YAML, and why no other.

The decision is made in `nerite.kserve`; this module reads the words of the command line, shows
what was decided and turns it into an exit code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from nerite.cli import screen
from nerite.cli.manifests import Filenames, read_named, warn_of_foreign, warn_of_repeated
from nerite.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from nerite.kserve.explain import Role, Style


def explain(
    files: Filenames,
    builtin: Annotated[
        str, typer.Option(help="KServe's own runtimes to stand beside: 0.20, 0.11 or none.")
    ] = "0.20",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, one object per service.")
    ] = False,
) -> None:
    """Show, without a cluster, which runtime each InferenceService gets and what it would run.

    Every runtime is listed in the order in which KServe prefers them, with the first criterion
    that it failed. Exits with 1 if a service finds no runtime or a file would be refused.
    """
    from nerite.kserve import explain as kserve
    from nerite.kserve.builtin_runtimes import builtin_cluster

    cluster = builtin_cluster(builtin)
    documents = read_named(files)
    warn_of_foreign(documents)
    warn_of_repeated(documents)
    found = kserve.explain(documents, cluster)
    if not found:
        shown = ", ".join(files)
        raise ConfigError(ConfigProblem("there is no InferenceService to explain", shown))
    if as_json:
        typer.echo(json.dumps(kserve.as_json(found), indent=2))
    else:
        typer.echo(kserve.as_text(found, _style(screen.Paint.for_stdout())))
    raise typer.Exit(code=int(any(explanation.error for explanation in found)))


def _style(paint: screen.Paint) -> Style:
    def style(role: Role, text: str) -> str:
        colours = {
            "name": paint.bold,
            "chosen": paint.green,
            "eligible": paint.yellow,
            "rejected": paint.dim,
            "error": paint.red,
            "hint": paint.yellow,
        }
        return colours[role](text)

    return style
