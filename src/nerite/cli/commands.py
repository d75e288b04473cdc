# SPDX-License-Identifier: Apache-2.0
"""All sub-commands of `nerite`, in the order in which the help lists them."""

from __future__ import annotations

from nerite.cli import (
    apply,
    backends,
    check,
    demo,
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
app.command("check", no_args_is_help=True)(check.check)
app.command("explain", no_args_is_help=True)(explain.explain)
app.add_typer(export.app, name="export")
app.command("up")(up.up)
app.command("apply", no_args_is_help=True)(apply.apply)
app.command("get", no_args_is_help=True)(get.get)
app.command("describe", no_args_is_help=True)(get.describe)
app.command("wait", no_args_is_help=True)(wait.wait)
app.command("logs", no_args_is_help=True)(get.logs)
app.command("delete", no_args_is_help=True)(apply.delete)
app.command("infer", no_args_is_help=True)(infer.infer)
app.add_typer(models.app, name="models")
app.command("backends")(backends.backends)
app.add_typer(keys.keys, name="keys")
app.command("storage-initializer", no_args_is_help=True)(storage_initializer.storage_initializer)
app.command("demo")(demo.demo)
app.command("version")(version.version)
