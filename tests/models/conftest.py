"""A data plane without sockets: it keeps what it is told and hands batches to instances."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.model_folders import write_model

from nerite.errors import Unavailable


class FakeVersion:
    """A queue that instances take batches from, as `nerite._core.Version` is."""

    def __init__(self, name: str, version: int, config_json: str, labels: Any) -> None:
        self.name, self.version, self.config_json, self.labels = name, version, config_json, labels
        self.running: list[str] = []
        self.closed = False
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def run(self, instance: str, execute: Callable[[Any], Any]) -> None:
        with self._lock:
            self.running.append(instance)
        while (item := self._queue.get()) is not None:
            batch, answers = item
            try:
                answers.put(execute(batch))
            except BaseException as why:
                answers.put(why)
        self._queue.put(None)  # for the other instances
        with self._lock:
            self.running.remove(instance)

    def execute(self, batch: Any) -> Any:
        """Hands a batch to an instance and returns what it answered; raises what it raised."""
        if self.closed:
            raise Unavailable("closed")
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._queue.put((batch, answers))
        answer = answers.get(timeout=10)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def retire(self, timeout_secs: float) -> bool:
        self.close()
        return True

    def set_memory_usage(self, held: Any) -> None:
        self.held = held

    def set_load_seconds(self, seconds: float) -> None:
        assert seconds >= 0

    def close(self) -> None:
        self.closed = True
        self._queue.put(None)


class FakeEngine:
    """Keeps what was added and published."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, int], FakeVersion] = {}
        self.published: dict[str, tuple[list[int], list[int]]] = {}

    def add_version(
        self, config_json: str, config_proto: bytes, version: int, labels: Mapping[str, list[str]]
    ) -> FakeVersion:
        import json

        assert config_proto
        name = json.loads(config_json)["name"]
        made = FakeVersion(name, version, config_json, labels)
        self.versions[name, version] = made
        return made

    def publish(self, name: str, ready: list[FakeVersion], unready: list[int]) -> None:
        self.published[name] = ([version.version for version in ready], list(unready))

    def forget(self, name: str) -> None:
        self.published.pop(name, None)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    for version in engine.versions.values():
        version.close()


@pytest.fixture
def write() -> Callable[[Path, Mapping[str, Any]], Path]:
    return write_model
