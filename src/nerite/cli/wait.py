# SPDX-License-Identifier: Apache-2.0
"""`nerite wait`: until a service has a condition, or is gone, as `kubectl wait` does."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from nerite.cli.daemons import daemon_client, namespace_of
from nerite.cli.manifests import Namespace
from nerite.cli.resource_names import named
from nerite.errors import InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from nerite.kserve.documents import Object

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def wait(
    words: Annotated[list[str], typer.Argument(help="KIND NAME, or KIND/NAME.")],
    wanted: Annotated[
        str, typer.Option("--for", help="condition=TYPE[=STATUS], or delete.")
    ] = "condition=Ready",
    timeout: Annotated[str, typer.Option(help="How long at most: 30s, 5m, 1h.")] = "30s",
    namespace: Namespace = "default",
) -> None:
    """Wait until resources have a condition; exits with 1 if they do not get it in time."""
    from nerite.local.catalog import Change

    kind, status = _condition(wanted)
    seconds = _seconds(timeout)
    wanted_objects = named(words)
    if not all(entry.names for entry in wanted_objects):
        raise InvalidArgument("resource(s) were provided, but no name was specified")
    for entry in wanted_objects:
        for name in entry.names:
            where = namespace_of(entry.kind, namespace)
            shown = Change(entry.kind, where, name, "").shown
            if not _arrives(entry.kind, where, name, (kind, status), seconds):
                typer.echo(f"error: timed out waiting for the condition on {shown}", err=True)
                raise typer.Exit(1)
            typer.echo(f"{shown} condition met")


def _condition(wanted: str) -> tuple[str, str]:
    """Type and status; the type is empty where the deletion is waited for."""
    if wanted == "delete":
        return "", ""
    match = re.fullmatch(r"condition=([A-Za-z]+)(?:=([A-Za-z]+))?", wanted)
    if match is None:
        raise InvalidArgument(
            f"--for '{wanted}' is not condition=TYPE, condition=TYPE=STATUS or delete"
        )
    return match[1], match[2] or "True"


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise InvalidArgument(f"--timeout '{text}' is not a duration such as 30s, 5m or 1h")
    return float(match[1]) * _UNITS[match[2]]


def _arrives(kind: str, namespace: str, name: str, wanted: tuple[str, str], seconds: float) -> bool:
    """Whether the condition comes in time; a thread reads the changes, for there may be none."""
    met = threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            for change in daemon_client().watch(kind, namespace, name):
                gone = change["type"] == "DELETED"
                if gone if not wanted[0] else not gone and _has(change["object"], wanted):
                    met.set()
                    return
            failed.append(Unavailable("the daemon stopped while it was asked"))
        except NotFound as error:
            # What is not there is as good as deleted.
            failed.extend([error] if wanted[0] else [])
        except Exception as error:
            failed.append(error)
        met.set()

    threading.Thread(target=read, daemon=True).start()
    arrived = met.wait(seconds)
    if failed:
        raise failed[0]
    return arrived


def _has(value: Object, wanted: tuple[str, str]) -> bool:
    conditions = value.get("status", {}).get("conditions", [])
    return any(
        (c["type"].lower(), c["status"]) == (wanted[0].lower(), wanted[1]) for c in conditions
    )
