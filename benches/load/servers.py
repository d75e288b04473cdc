# SPDX-License-Identifier: Apache-2.0
"""The servers that can be measured: how each is started, known to be ready, and stopped.

A `Server` is a description; `running` starts it pinned to one core and yields its process. What
it is asked is in `answers`, what it needs to be installed is in `prepare`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from benches.load import nginx, repository
from benches.load.answers import LOOPBACK, get
from benches.load.cases import Protocol
from benches.load.prepare import CHECKOUT, Missing, Progress, TritonInstallation, program

READY_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a server listens, on the loopback interface."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server in a folder of its own."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server(ABC):
    """A peer in the comparison, serving one identity model."""

    name: str  # as `--servers` takes it; the part before the first `-` names its family
    title: str  # as the table prints it
    identity: repository.Identity

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Install what can be installed; raise Missing if it cannot run here."""

    @abstractmethod
    def launch(self, folder: Path, ports: Ports) -> Launch:
        """Write the files it needs into the folder and say how to start it."""

    def model(self, protocol: Protocol) -> str:
        """The model to ask."""
        return self.identity.name

    def ready_path(self) -> str:
        """An HTTP path that answers 200 once requests can be sent."""
        return f"/v2/models/{self.identity.name}/ready"

    def live_path(self) -> str:
        """An HTTP path that answers 200 once the server lives; empty if that is not asked."""
        return ""

    def version(self, ports: Ports) -> str:
        """The version that is running."""
        found = re.search(rb'"version"\s*:\s*"([^"]+)"', get(ports.http, "/v2")[1])
        return found[1].decode() if found else "unknown"


@dataclass(frozen=True, slots=True)
class Nerite(Server):
    """`nerite serve` from the Python that runs the bench."""

    def prepare(self, progress: Progress) -> None:
        """Nerite is built by `make setup`; only see that it is there."""
        for module in ("nerite", "nerite._core"):
            if importlib.util.find_spec(module) is None:
                raise Missing(f"{module} is not installed in this Python; try `make setup`")

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """A repository with the one model."""
        models = repository.write([self.identity], folder / "repository")
        return Launch(nerite_command(models, ports))


@dataclass(frozen=True, slots=True)
class Triton(Server):
    """The C++ server of the nvidia-pytriton wheel, with the one backend that the wheel has."""

    def prepare(self, progress: Progress) -> None:
        """Install it under `.tools`."""
        TritonInstallation().ensure(progress)

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """The same configuration and model.py as Nerite gets."""
        installation = TritonInstallation()
        models = repository.write([self.identity], folder / "repository")
        command = [
            str(installation.binary),
            f"--model-repository={models}",
            f"--backend-directory={installation.backends}",
            f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-port={ports.metrics}",
        ]
        return Launch(command, installation.environment())


@dataclass(frozen=True, slots=True)
class Nginx(Server):
    """The floor: it has no models, only answers."""

    def prepare(self, progress: Progress) -> None:
        """See that nginx is there."""
        program("nginx")

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """In the foreground, so that stopping it is like stopping the others."""
        config = nginx.write_config(folder, ports.http, ports.grpc)
        errors = ["-e", str(folder / "error.log")]
        switches = ["-g", "daemon off;", "-p", str(folder), "-c", str(config)]
        return Launch([program("nginx"), *errors, *switches])

    def model(self, protocol: Protocol) -> str:
        """The name that leads to the fixed answer in the right form."""
        return nginx.MODELS[protocol]

    def ready_path(self) -> str:
        """Any path answers."""
        return "/"

    def version(self, ports: Ports) -> str:
        """As `nginx -v` has it."""
        said = subprocess.run(
            [program("nginx"), "-v"], capture_output=True, text=True, check=False
        ).stderr
        return said.strip().rpartition("/")[2]


ALL_SERVERS: tuple[Server, ...] = (
    Nerite("nerite-identity", "Nerite, identity backend", repository.NATIVE),
    Nerite("nerite-class", "Nerite, batch class", repository.CLASS),
    Nerite("nerite-python", "Nerite, model.py", repository.PYTHON),
    Triton("triton-python", "Triton, model.py", repository.PYTHON),
    Nginx("nginx", "nginx, fixed answer", repository.NATIVE),
)


def select(words: list[str]) -> tuple[Server, ...]:
    """The servers that the words name, each by its own name or by its family's."""
    for word in words or [""]:
        if not any(word in (server.name, family(server)) for server in ALL_SERVERS):
            names = ", ".join(server.name for server in ALL_SERVERS)
            raise ValueError(f"no server is called '{word}'; there are {names}, nerite and triton")
    return tuple(s for s in ALL_SERVERS if s.name in words or family(s) in words)


def family(server: Server) -> str:
    """The product: nerite, triton or nginx."""
    return server.name.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    ports: Ports
    ready_seconds: float
    live_seconds: float = 0.0
    """Until it said that it lives, where that was asked."""


class NotReady(Exception):
    """The server ended, or did not become ready in time; the text ends with its last words."""


@contextmanager
def running(server: Server, folder: Path, core: int | None) -> Iterator[Running]:
    """The server, pinned to the core if one is given, from ready until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = Ports(*free_ports(3))
    launch = server.launch(folder, ports)
    pin = [program("taskset"), "-c", str(core)] if core is not None else []
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        started = time.monotonic()
        process = _start(pin + launch.command, launch.environment, log)
        try:
            live = 0.0
            if path := server.live_path():
                _wait_until_ready(process, ports.http, path, log_path)
                live = time.monotonic() - started
            _wait_until_ready(process, ports.http, server.ready_path(), log_path)
            yield Running(process, ports, time.monotonic() - started, live)
        finally:
            stop(process)


def nerite_command(models: Path, ports: Ports) -> list[str]:
    """Serve a repository on these ports."""
    return [
        *(sys.executable, "-m", "nerite", "serve", str(models)),
        *("--http-port", str(ports.http)),
        *("--grpc-port", str(ports.grpc)),
        *("--metrics-port", str(ports.metrics)),
    ]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and insist after a while; its children go with it."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):  # nothing is left of the group that it leads, see _start
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _start(
    command: list[str], environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, path: str, log_path: Path
) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if process.poll() is not None:
            raise NotReady(f"ended with status {process.returncode}: {_last_words(log_path)}")
        try:
            if get(port, path)[0] == 200:
                return
        except OSError:
            pass  # not listening yet
        if time.monotonic() > deadline:
            raise NotReady(f"not ready after {READY_SECONDS:.0f} s: {_last_words(log_path)}")
        time.sleep(0.005)


def _last_words(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").strip().splitlines()
    return " / ".join(lines[-3:])[-400:] or "it printed nothing"
