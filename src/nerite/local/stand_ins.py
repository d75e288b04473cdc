# SPDX-License-Identifier: Apache-2.0
"""Nerite in the place of a server's image: for which servers and formats, and with which command.

The key is the runtime's server type. What the server's own arguments ask for is kept where Nerite
has the same flag; arguments about addresses and folders are replaced; the rest is told, not
silently dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from nerite.kserve.defaulting import MODEL_MOUNT
from nerite.kserve.documents import Object
from nerite.kserve.resources import Resource
from nerite.kserve.server_types import server_type_of
from nerite.local.containers import Container, Probe

HTTP_PORT: Final = 8080
GRPC_PORT: Final = 9000
METRICS_PORT: Final = 8002
_TABULAR = frozenset({"sklearn", "xgboost", "lightgbm"})

#: Server type -> the model formats for which Nerite stands in.
FORMATS: Final[Mapping[str, frozenset[str]]] = {
    "sklearnserver": frozenset({"sklearn"}),
    "xgbserver": frozenset({"xgboost"}),
    "lgbserver": frozenset({"lightgbm"}),
    "predictiveserver": _TABULAR,
    "mlserver": _TABULAR,
    "tritonserver": frozenset({"onnx", "triton"}),
    "nerite": _TABULAR | {"onnx", "triton"},
}
# Flags about where the server listens and what it serves: those are Nerite's own business here.
_OURS = frozenset({
    "model_name", "model_dir", "model_repository", "model_store", "http_port", "grpc_port",
    "metrics_port", "port", "rest_port", "http_address", "grpc_address", "metrics_address",
    "allow_grpc", "allow_http", "allow_metrics", "exit_on_error", "framework", "trust",
})  # fmt: skip
# One instance of each model runs with Nerite's own threads, whatever KServe's server is told.
_MEANINGLESS = frozenset({"nthread", "workers", "max_threads", "max_asyncio_workers"})


@dataclass(frozen=True, slots=True)
class Machine:
    """What of this machine decides what can run."""

    which: Callable[[str], str | None]
    """Where a program is, or None."""
    python: str
    trust: bool = False
    """Whether files that can run code may be loaded; only the operator says so."""
    shared: bool = False
    """Whether services whose annotation says nothing share processes where they can."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """Nerite's process for a container, and which of its arguments have no effect."""

    container: Container
    ignored: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    """The arguments that Nerite gets too."""


def server_type(runtime: Resource) -> str:
    """The server type, or what the name of an older runtime says."""
    return server_type_of(runtime) or runtime.name.removeprefix("kserve-")


def is_stood_in(server: str, format_name: str) -> bool:
    """Whether Nerite runs models of a format in the place of a server."""
    return format_name in FORMATS.get(server, frozenset())


def stand_in(
    container: Object,
    server: str,
    service_name: str,
    environment: Mapping[str, str],
    machine: Machine,
) -> StandIn:
    """`nerite serve` for the model that the container would serve."""
    arguments = _pairs(container.get("args", []))
    named = [value for key, value in arguments if key == "model_name" and value]
    name = environment.get("MLSERVER_MODEL_NAME") or (named or [service_name])[-1]
    passed = _passed(arguments) if server in ("tritonserver", "nerite") else []
    told = {flag.partition("=")[0].lstrip("-").replace("-", "_") for flag in passed}
    ignored = tuple(
        f"--{key}" + (f"={value}" if value else "")
        for key, value in arguments
        if key not in _OURS and key not in told and key not in _MEANINGLESS
    )
    return StandIn(
        nerite_container(
            str(container["name"]),
            machine,
            ("--exit-on-error=true",),
            passed,
            environment=tuple(sorted(environment.items())),
            model_name=name,
        ),
        ignored,
        tuple(passed),
    )


def model_host(
    name: str,
    machine: Machine,
    passed: Iterable[str] = (),
    environment: tuple[tuple[str, str], ...] = (),
) -> Container:
    """Nerite with an empty repository: ready at once, and models come and go."""
    words = ("--exit-on-error=false", "--strict-readiness=false", "--model-control-mode=explicit")
    own = {word.partition("=")[0] for word in words}
    passed = [word for word in passed if word.partition("=")[0] not in own]
    return nerite_container(name, machine, words, passed, environment=environment)


def nerite_container(
    name: str,
    machine: Machine,
    words: Iterable[str],
    passed: Iterable[str] = (),
    *,
    environment: tuple[tuple[str, str], ...] = (),
    model_name: str = "",
) -> Container:
    """`nerite serve`; `passed` are the arguments that the container has for it."""
    argv = (
        machine.python, "-m", "nerite", "serve", MODEL_MOUNT,
        "--http-address=127.0.0.1", f"--http-port={HTTP_PORT}",
        "--grpc-address=127.0.0.1", f"--grpc-port={GRPC_PORT}",
        f"--metrics-port={METRICS_PORT}", *words,
        *(["--trust"] if machine.trust else []),
        *passed,
    )  # fmt: skip
    return Container(
        name,
        argv,
        Probe(HTTP_PORT, "/v2/health/ready", 10.0, "http"),
        environment,
        (HTTP_PORT, GRPC_PORT, METRICS_PORT),
        model_name=model_name,
        grpc_port=GRPC_PORT,
        # As the exported runtimes have it. It answers while models are loaded, but not while
        # a busy machine starts it.
        liveness=Probe(HTTP_PORT, "/v2/health/live", 10.0, "http", timeout=5.0, once_ready=True),
    )


def _pairs(arguments: Iterable[str]) -> list[tuple[str, str]]:
    """Flags with their values, in either form; words that are no flags are left out."""
    found: list[tuple[str, str]] = []
    waiting = False
    for word in arguments:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            found.append((key.replace("-", "_"), value))
            waiting = not equals
        elif waiting:
            found[-1] = (found[-1][0], word)
            waiting = False
    return found


def _passed(arguments: Iterable[tuple[str, str]]) -> list[str]:
    # Those that this Nerite does not know end the process with a sentence that names them.
    return [
        f"--{key.replace('_', '-')}" + (f"={value}" if value else "")
        for key, value in arguments
        if key not in _OURS and key not in _MEANINGLESS
    ]
