# SPDX-License-Identifier: Apache-2.0
"""`nerite up`: the daemon in the foreground, with a table of what runs.

On a terminal the table is live; otherwise a line is printed for every change. The first SIGINT,
SIGTERM or SIGHUP ends every process and then the command, a second one at once: the children are
tied to this process, so none is left either way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from nerite.cli.manifests import MaybeFilenames, read_manifests
from nerite.cli.screen import is_terminal
from nerite.errors import InternalError, InvalidArgument

if TYPE_CHECKING:
    from nerite.local.daemon import Daemon
    from nerite.local.front import Front
    from nerite.local.overview import Row

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: `timeout` and shells signal a process and then its whole group: that is one wish.
_SAME_WISH_SECS = 0.5
_REFRESH_SECS = 0.2


def up(  # noqa: PLR0917 - typer calls it by names
    files: MaybeFilenames = None,
    claims: Annotated[
        list[str] | None,
        typer.Option("--pvc", help="NAME=FOLDER: what pvc://NAME means here; may be repeated."),
    ] = None,
    builtin: Annotated[
        str, typer.Option(help="KServe's own runtimes to stand beside: 0.20, 0.11 or none.")
    ] = "0.20",
    trust: Annotated[
        bool, typer.Option("--trust", help="Load files that can run code (pickle, joblib).")
    ] = False,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared",
            help="Models share a process where they can; the annotation nerite.dev/shared decides "
            "for one service.",
        ),
    ] = False,
    http_port: Annotated[
        int, typer.Option(help="Where all services answer, by host or path; 0: any free port.")
    ] = 8080,
    grpc_port: Annotated[
        int, typer.Option(help="Another such port, for gRPC by custom; both speak both.")
    ] = 8081,
) -> None:
    """Run KServe resources on this machine, without a cluster, until Ctrl-C.

    What was applied before is started too: `nerite apply`, `get`, `describe`, `logs` and `delete`
    talk to this daemon. Its state lies in ~/.local/state/nerite, or in NERITE_HOME.
    """
    from nerite.kserve.documents import read_documents
    from nerite.local.api import ApiServer
    from nerite.local.daemon import Daemon
    from nerite.local.front import Front
    from nerite.local.settings import Settings, claims_of, socket_path
    from nerite.server.environment import home_folder, inherited

    for flag, port in (("--http-port", http_port), ("--grpc-port", grpc_port)):
        if not 0 <= port <= 65535:
            raise InvalidArgument(f"{flag}: {port} is out of range; 0 (any) to 65535 are ports")
    home = home_folder()
    settings = Settings(home, builtin, trust, claims_of(claims or []), shared)
    manifests = read_manifests(files or [])
    documents = [d for shown, _, text in manifests for d in read_documents(text, shown)]
    path = socket_path(home)
    front = Front(http_port, grpc_port)
    daemon = Daemon(settings, {"PYTHONUNBUFFERED": "1", **inherited()}, gateway=front)
    with _blocked_signals():
        daemon.start()
        try:
            daemon.apply(documents, {shown: path for shown, path, _ in manifests})
            api = ApiServer(daemon, path)
            try:
                _show_until_signal(daemon, front)
            finally:
                api.stop()
        finally:
            _stop(daemon)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Signals wait until `sigtimedwait` takes them, in whichever thread they arrive."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _show_until_signal(daemon: Daemon, front: Front) -> None:
    ports = f"HTTP on 127.0.0.1:{front.http_port}, gRPC on 127.0.0.1:{front.grpc_port}"
    if is_terminal(sys.stdout):
        _show_live(daemon, ports)
    else:
        where = f"state in {daemon.settings.home}"
        typer.echo(f"nerite up: process {os.getpid()}, {ports}, {where}")
        _show_lines(daemon)


def _signalled(seconds: float) -> bool:
    return signal.sigtimedwait(_SIGNALS, seconds) is not None


def _is_over(daemon: Daemon) -> bool:
    """Whether a signal came in a moment; raises if the daemon broke down meanwhile."""
    if daemon.failure is not None:
        raise InternalError(f"the supervisor broke down: {daemon.failure!r}")
    return _signalled(_REFRESH_SECS)


def _rows(daemon: Daemon) -> list[Row]:
    from nerite.local.overview import graph_row, overview

    services = overview(
        (
            (value, daemon.details(value["metadata"]["namespace"], value["metadata"]["name"]))
            for value in daemon.objects("InferenceService")
        ),
        daemon.objects("TrainedModel"),
    )
    return [*services, *(graph_row(value) for value in daemon.objects("InferenceGraph"))]


def _show_lines(daemon: Daemon) -> None:
    before: dict[tuple[str, str], Row] = {}
    while True:
        after: dict[tuple[str, str], Row] = {}
        service = ""
        for row in _rows(daemon):
            service = row.name if row.is_service else service
            after[service, row.name] = row
        for key, row in after.items():
            if before.get(key) != row:
                typer.echo(_line(key[0], row))
        for key in before.keys() - after.keys():
            if key[0] == key[1]:
                typer.echo(f"{key[0]}  deleted")
        sys.stdout.flush()
        before = after
        if _is_over(daemon):
            return


def _line(service: str, row: Row) -> str:
    name = service if row.is_service else f"{service} {row.name.strip()}"
    restarts = f"  restarts {row.restarts}" if row.restarts else ""
    message = f"  {row.message}" if row.message else ""
    return f"{name}  Ready={row.ready}{'  ' + row.url if row.url else ''}{restarts}{message}"


def _show_live(daemon: Daemon, ports: str) -> None:
    from rich.console import Console
    from rich.live import Live

    from nerite.cli.up_table import rendered

    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        shown: object = None
        while True:
            now = _rows(daemon), console.width
            if now != shown:
                live.update(rendered(now[0], ports, now[1]), refresh=True)
                shown = now
            if _is_over(daemon):
                return


def _stop(daemon: Daemon) -> None:
    """Ends everything; a second signal that is meant as one ends it at once."""
    ending = threading.Thread(target=daemon.stop)
    ending.start()
    since = time.monotonic()
    while ending.is_alive():
        if _signalled(_REFRESH_SECS) and time.monotonic() - since > _SAME_WISH_SECS:
            print("stopped at once; the processes are killed", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)
    ending.join()
