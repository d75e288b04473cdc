# SPDX-License-Identifier: Apache-2.0
"""The command `nerite`: its sub-commands and its exit codes.

0: done. 1: wrong flags, a problem found, or an error, told in one line on standard error. Triton
exits with 1 on a wrong flag, not with the 2 that Unix tools use, and scripts rely on it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from nerite.cli import (
    apply,
    backends,
    check,
    demo,
    examples,
    explain,
    export,
    get,
    infer,
    keys,
    kserve_arguments,
    models,
    serve,
    storage_initializer,
    up,
    version,
    wait,
)
from nerite.errors import ConfigError, NeriteError

app = typer.Typer(
    name="nerite",
    help="Serve models over HTTP and gRPC, batched, from a model repository or a single file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("serve", epilog=examples.of("serve"), help=serve.HELP, no_args_is_help=True)(
    serve.serve
)
app.command("check", epilog=examples.of("check"), no_args_is_help=True)(check.check)
app.command("explain", epilog=examples.of("explain"), no_args_is_help=True)(explain.explain)
app.add_typer(export.app, name="export")
app.command("up", epilog=examples.of("up"))(up.up)
app.command("apply", epilog=examples.of("apply"), no_args_is_help=True)(apply.apply)
app.command("get", epilog=examples.of("get"), no_args_is_help=True)(get.get)
app.command("describe", epilog=examples.of("describe"), no_args_is_help=True)(get.describe)
app.command("wait", epilog=examples.of("wait"), no_args_is_help=True)(wait.wait)
app.command("logs", epilog=examples.of("logs"), no_args_is_help=True)(get.logs)
app.command("delete", epilog=examples.of("delete"), no_args_is_help=True)(apply.delete)
app.command("infer", epilog=examples.of("infer"), no_args_is_help=True)(infer.infer)
app.add_typer(models.app, name="models")
app.command("backends", epilog=examples.of("backends"))(backends.backends)
app.add_typer(keys.keys, name="keys")
app.command("storage-initializer", epilog=examples.of("storage-initializer"), no_args_is_help=True)(
    storage_initializer.storage_initializer
)
app.command("demo")(demo.demo)
app.command("version")(version.version)


def main(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        app(_understood(arguments), prog_name="nerite")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return 1 if code == 2 else code
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 1
    except NeriteError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `nerite models | head`: the reader has seen enough
        sys.stderr.close()
        return 1
    return 0


def _understood(arguments: Sequence[str]) -> list[str]:
    """The arguments; those of KServe's servers as Nerite's, before typer looks at them."""
    command, words = list(arguments[:1]), list(arguments[1:])
    if command != ["serve"] or not kserve_arguments.speaks_kserve(words):
        return [*command, *words]
    translated = kserve_arguments.translate(words)
    for warning in translated.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return [*command, *translated.words]


def run() -> None:
    """What the installed script `nerite` calls."""
    sys.exit(main(sys.argv[1:]))
