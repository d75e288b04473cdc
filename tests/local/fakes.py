"""Processes, probes and a clock that do what a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from nerite.errors import Unavailable
from nerite.kserve.defaulting import MODEL_MOUNT
from nerite.kserve.storage_paths import Source
from nerite.local.components import SHARED, Component
from nerite.local.containers import Container, Placed, Probe
from nerite.local.hosts import NAMESPACE as SHARED_NAMESPACE
from nerite.local.lifeline import Patience
from nerite.local.logs import Log
from nerite.local.model_control import LoadFailed
from nerite.local.ports import Ports
from nerite.local.storage import LocalStorage
from nerite.local.supervisor import Supervisor
from nerite.local.tools import Tools


@dataclass
class FakeChild:
    pid: int
    placed: Placed
    on_output: Callable[[bytes], None]
    on_exit: Callable[[int], None]
    signals: list[str] = field(default_factory=list)
    stubborn: bool = False
    alive: bool = True

    def terminate(self) -> None:
        self.signals.append("TERM")
        if not self.stubborn:
            self.end(143)

    def kill(self) -> None:
        self.signals.append("KILL")
        self.end(137)

    def end(self, code: int) -> None:
        assert self.alive
        self.alive = False
        self.on_exit(code)


class World:
    """A supervisor whose children, probes and time are the test's."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.children: list[FakeChild] = []
        self.ready_ports: set[int] = set()
        self.pids = count(100)
        self.next_port = count(40000)
        self.logs: dict[str, Log] = {}
        self.folder = folder
        self.changes = 0
        self.loaded: dict[int, dict[str, str]] = {}
        """By process what it holds: the model's name, and what its file says."""
        self.calls: list[str] = []
        self.broken: dict[str, str] = {}
        """Why models with such a text cannot be loaded."""
        self.background: list[Callable[[], None]] | None = None
        """What is to be done elsewhere, where a test wants to say when."""
        tools = Tools(
            spawner=self,
            prober=self,
            storage=LocalStorage(folder / "volumes"),
            ports=Ports(free=lambda port: True, find=lambda: next(self.next_port)),
            log=self.log,
            folder=folder / "run",
            background=self.work,
            patience=Patience(),
            shared=lambda number: host(f"shared-{number}", SHARED_NAMESPACE),
            models=self,
        )
        self.supervisor = Supervisor(tools, self.changed)

    def changed(self) -> None:
        self.changes += 1

    def log(self, component: Component, container: str) -> Log:
        name = f"{component.name}-{container}"
        if name not in self.logs:
            self.logs[name] = Log(self.folder / f"{name}.log")
        return self.logs[name]

    def spawn(
        self, placed: Placed, on_output: Callable[[bytes], None], on_exit: Callable[[int], None]
    ) -> FakeChild:
        child = FakeChild(next(self.pids), placed, on_output, on_exit)
        self.children.append(child)
        return child

    def work(self, work: Callable[[], None]) -> None:
        if self.background is None:
            work()
        else:
            self.background.append(work)

    def child_at(self, address: str) -> FakeChild:
        port = int(address.rpartition(":")[2])
        found = [child for child in self.alive if self.port(child) == port]
        if not found:
            raise Unavailable(f"nobody listens at {address}")
        return found[0]

    def load(self, address: str, name: str) -> None:
        child = self.child_at(address)
        folder = Path(child.placed.argv[-1]) / name
        (file,) = (folder / "1").glob("model.*")
        text = file.read_text()
        self.calls.append(f"load {name} {child.pid}")
        if text in self.broken:
            raise LoadFailed(self.broken[text])
        self.loaded.setdefault(child.pid, {})[name] = text

    def unload(self, address: str, name: str) -> None:
        child = self.child_at(address)
        self.calls.append(f"unload {name} {child.pid}")
        self.loaded.get(child.pid, {}).pop(name, None)

    def models(self) -> list[dict[str, str]]:
        """What the processes that run hold."""
        return [self.loaded.get(child.pid, {}) for child in self.alive]

    def probe(self, probe: Probe, port: int, done: Callable[[bool], None]) -> None:
        done(port in self.ready_ports)

    def step(self, seconds: float = 0.0) -> None:
        """Lets time pass as the daemon's loop would: from one due moment to the next."""
        end = self.now + seconds
        while True:
            due = self.supervisor.step(self.now)
            if due > end:
                break
            self.now = max(self.now, due)
        self.now = end
        self.supervisor.step(end)

    @property
    def alive(self) -> list[FakeChild]:
        return [child for child in self.children if child.alive]

    def port(self, child: FakeChild) -> int:
        return int(child.placed.environment["PORT"])

    def make_ready(self, *children: FakeChild) -> None:
        self.ready_ports |= {self.port(child) for child in children}
        self.step(2.0)


def component(
    folder: Path, version: str = "1", name: str = "irises-predictor", **more: object
) -> Component:
    container = Container(
        "kserve-container",
        ("serve", f"--version={version}", "--port=8080", *more.pop("words", ())),  # type: ignore[misc]
        Probe(8080, "/ready", 10.0, "http"),
        ports=(8080,),
        fixed_ports=more.pop("fixed_ports", frozenset()),  # type: ignore[arg-type]
    )
    sources = more.pop("sources", (Source(str(folder)),))
    return Component(
        "default",
        "irises",
        more.pop("role", "predictor"),
        name,
        (container,),
        sources,
        **more,  # type: ignore[arg-type]
    )


def host(name: str, namespace: str = "default", **more: object) -> Component:
    """A process that models of others are put into."""
    container = Container(
        "kserve-container",
        ("serve", "--port=8080", MODEL_MOUNT),
        Probe(8080, "/ready", 10.0, "http"),
        environment=tuple(more.pop("environment", ())),  # type: ignore[arg-type,call-overload]
        ports=(8080,),
    )
    return Component(
        namespace,
        name,
        "predictor",
        name,
        (container,),
        hosts_models=True,
        **more,  # type: ignore[arg-type]
    )


def model_file(folder: Path, text: str = "one") -> Path:
    """A model; a fake process knows it by its text."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.joblib"
    file.write_text(text)
    return file


def lodger(file: Path, name: str, lives_in: str = SHARED, namespace: str = "default") -> Component:
    """A model that lives in another component's process."""
    return Component(
        namespace,
        name,
        "predictor",
        f"{name}-predictor" if lives_in == SHARED else f"{name}.trainedmodel",
        sources=(Source(str(file)),),
        lives_in=lives_in,
        model=name,
    )
