# SPDX-License-Identifier: Apache-2.0
"""`nerite serve`: flags -> a server, a start-up screen, and the process's exit code.

The flags are the table in `flags`; their values are read in `options`. What the server does is in
`nerite.server`; this module only shows it. typer's part is in `serve_command`: its import takes
longer than all that a server does until it listens.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nerite.cli import screen
from nerite.cli.access import access_options
from nerite.cli.cache_config import cache_bytes
from nerite.cli.collecting import collect_as_usual, collect_seldom
from nerite.cli.doors import cloud_repository, door_options
from nerite.cli.options import Chosen, Given, backend_settings, choose, metrics_settings
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


def serve(paths: Sequence[str], words: Mapping[str, Given]) -> int:
    """Serves until a signal comes; the exit code. `words` has what was written for each flag."""
    chosen = choose(words)
    for warning in chosen.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return _run(server_options(paths, chosen))


def server_options(paths: Sequence[str], chosen: Chosen) -> ServerOptions:
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
    collect_seldom()
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


def _show(server: Server) -> None:
    """Shows the start-up screen once every load of the start has ended."""
    loaded = server.wait_started() and server.wait_loaded()
    collect_as_usual()
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
