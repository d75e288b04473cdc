# SPDX-License-Identifier: Apache-2.0
"""`nerite serve`: flags -> a server, a start-up screen, and the process's exit code.

The flags are the table in `flags`; their values are read in `options`. What the server does is in
`nerite.server`; this module only shows it.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerite.cli import examples, screen
from nerite.cli.access import access_options
from nerite.cli.cache_config import cache_bytes
from nerite.cli.doors import cloud_repository, door_options
from nerite.cli.flags import FLAGS, Flag
from nerite.cli.options import Chosen, backend_settings, choose, metrics_settings
from nerite.cli.placement import host_policies, resources
from nerite.cli.remote_models import local_path
from nerite.cli.trace_config import older_words, trace_options
from nerite.errors import InvalidArgument, NeriteError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nerite.models.states import Entry
    from nerite.server.graphs import OwnGraph
    from nerite.server.options import ServerOptions
    from nerite.server.server import Server

HELP = (
    "Serve models: model repositories in Triton's layout, a model folder, or a single model file. "
    "Triton's own flags are taken as they are (--model-repository=..., --http-port=...)."
)


#: The garbage collector's thresholds, as they were.
_COLLECTED = gc.get_threshold()


def new_app() -> typer.Typer:
    """The command `nerite` without sub-commands."""
    return typer.Typer(
        name="nerite",
        help="Serve models over HTTP and gRPC, batched, from a model repository or a single file.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def add_to(app: typer.Typer) -> None:
    """Adds `serve`."""
    app.command("serve", epilog=examples.of("serve"), help=HELP, no_args_is_help=True)(serve)


def only_serve() -> typer.Typer:
    """The command with nothing but `serve`."""
    app = new_app()
    app.callback()(lambda: None)  # else typer would take the only sub-command for the command
    add_to(app)
    return app


def serve(**given: Any) -> None:
    """Serves until a signal comes; leaves with the server's exit code."""
    paths = list(given.pop("repository") or ())
    words = {
        flag.name: value
        for flag in FLAGS
        if (value := given.get(flag.variable)) not in (None, False, [], ())
    }
    chosen = choose(words)
    for warning in chosen.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    options = server_options(paths, chosen)
    raise typer.Exit(_run(options))


def server_options(paths: list[str], chosen: Chosen) -> ServerOptions:
    """The options of the server that was asked for.

    Raises:
        InvalidArgument: No model is named, or a value is not acceptable.
    """
    from nerite.server.environment import variables
    from nerite.server.options import ServerOptions

    values = dict(chosen.values)
    given = (*paths, *values.pop("repositories", ())) or cloud_repository(variables())
    repositories = tuple(map(local_path, given))
    if not repositories:
        raise InvalidArgument(
            "no models: name a model repository, a model folder or a model file, "
            "or give --model-repository"
        )
    values["load_models"] = tuple(values.pop("load_models", ()))
    values["backend_config"] = backend_settings(values.pop("backend_config", ()))
    values["rate_limit_resources"] = resources(values.pop("rate_limit_resources", ()))
    values["host_policies"] = host_policies(values.pop("host_policies", ()))
    values |= metrics_settings(values.pop("metrics_config", ()))
    words = [*older_words(values), *values.pop("trace_config", ())]
    if words:
        values["tracing"] = trace_options(words)
    values["graphs"] = _graphs(values.pop("graphs", ()), variables())
    values["cache_bytes"] = cache_bytes(values)
    values["access"] = access_options(values)
    values["doors"] = door_options(values, variables())
    if values.pop("strict_model_config", False):
        values["disable_auto_complete"] = True
    return ServerOptions(repositories=repositories, **values)


def _graphs(files: Sequence[str], variables: Mapping[str, str]) -> tuple[OwnGraph, ...]:
    """The graphs of these files; which headers go to steps is told as KServe's router is."""
    if not files:
        return ()
    from nerite.kserve.graphs import own_graphs

    return own_graphs(files, variables.get("PROPAGATE_HEADERS", "").split(","))


def _run(options: ServerOptions) -> int:
    _collect_less()
    from nerite.server.process import serve_forever
    from nerite.server.server import Server

    server = Server(options)
    threading.Thread(target=_show, args=(server,), name="nerite-screen", daemon=True).start()
    code = serve_forever(server)
    if code:
        # Threads of a server that ran out of time may still be at work: do not wait for them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _collect_less() -> None:
    """Has the garbage collector look rarely until the models are loaded.

    Imports make a hundred thousand objects that stay; looking through them again and again was
    an eighth of the time that scikit-learn's take.
    """
    gc.set_threshold(100_000, *_COLLECTED[1:])


def _show(server: Server) -> None:
    """Shows the start-up screen once every load of the start has ended."""
    loaded = server.wait_started() and server.wait_loaded()
    gc.set_threshold(*_COLLECTED)
    if not loaded:
        return
    try:
        text = start_screen(server, screen.Paint.for_stdout())
    except NeriteError:  # stopped meanwhile
        return
    print(text, flush=True)


def start_screen(server: Server, paint: screen.Paint) -> str:
    """What loaded, with which inputs and outputs, and what to try."""
    entries = server.states.index()
    if not entries:
        where = f" --url {server.http_url}" if server.options.allow_http else ""
        return f"no model is loaded; to load one: nerite models load NAME{where}"
    rows = [_row(server, entry) for entry in entries]
    lines = [screen.table(["MODEL", "VERSION", "STATE", "INPUTS -> OUTPUTS"], rows, paint)]
    if graphs := server.options.graphs:
        at = [[f"{g.namespace}/{g.name}", f"{server.http_url}{g.path}"] for g in graphs]
        lines += ["", screen.table(["GRAPH", "ANSWERS AT"], at, paint)]
    ready = [entry for entry in entries if str(entry.state) == "READY"]
    if ready and server.options.allow_http:
        lines += ["", f"try: curl {_curl(server)}/v2/models/{ready[0].name}"]
        if server.http_url.startswith("http://"):
            lines.append(f"     nerite models --url {server.http_url}")
    return "\n".join(lines)


def _curl(server: Server) -> str:
    """What curl needs to reach the HTTP port."""
    address, _ = server.ports["http"]
    if address.startswith("unix:"):
        return f"--unix-socket {address.removeprefix('unix:')} http://localhost"
    return server.http_url


def _row(server: Server, entry: Entry) -> list[str]:
    version = "" if entry.version is None else str(entry.version)
    told = entry.reason
    if not told and str(entry.state) == "READY":
        told = server.signature(entry.name)
    return [entry.name, version, str(entry.state), told]


def _parameter(flag: Flag) -> inspect.Parameter:
    kinds: dict[str, Any] = {"list": list[str] | None, "switch": bool}
    shown = flag.default or None
    option = typer.Option(
        flag.name, help=flag.help, rich_help_panel=flag.group, show_default=shown or False
    )
    return inspect.Parameter(
        flag.variable,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if flag.kind == "switch" else None,
        annotation=Annotated[kinds.get(flag.kind, str | None), option],
    )


def _signature() -> inspect.Signature:
    told = "Model repositories, model folders or model files; URIs are fetched first."
    argument = typer.Argument(help=told)
    paths = inspect.Parameter(
        "repository",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[list[str] | None, argument],
    )
    return inspect.Signature([paths, *map(_parameter, FLAGS)])


# The command line is the table of flags: typer reads the signature, so it is made from the table.
serve.__signature__ = _signature()  # type: ignore[attr-defined]
serve.__annotations__ = {
    name: parameter.annotation for name, parameter in _signature().parameters.items()
}
