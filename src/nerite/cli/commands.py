# SPDX-License-Identifier: Apache-2.0
"""All sub-commands of `nerite`, in the order in which the help lists them."""

from __future__ import annotations

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
    models,
    serve,
    storage_initializer,
    up,
    version,
    wait,
)

app = serve.new_app()
serve.add_to(app)
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
