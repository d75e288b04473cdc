"""Processes, probes and a clock that do what a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from nerite.kserve.storage_paths import Source
from nerite.local.components import Component
from nerite.local.containers import Container, Placed, Probe
from nerite.local.lifeline import Patience
from nerite.local.logs import Log
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
        tools = Tools(
            spawner=self,
            prober=self,
            storage=LocalStorage(folder / "volumes"),
            ports=Ports(free=lambda port: True, find=lambda: next(self.next_port)),
            log=self.log,
            folder=folder / "run",
            background=lambda work: work(),
            patience=Patience(),
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
