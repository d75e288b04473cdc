"""A data plane without sockets in the place of `nerite._core`."""

from __future__ import annotations

import json
import queue
import sys
import types
from collections.abc import Mapping
from typing import Any

import pytest

from nerite.errors import Unavailable


class FakeVersion:
    """Instances of it wait until it is closed."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.version = name, number
        self._closed: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(self, instance: str, execute: Any) -> None:
        self._closed.get()
        self._closed.put(None)

    def retire(self, timeout_secs: float) -> bool:
        self.close()
        return True

    def set_memory_usage(self, held: Any) -> None:
        self.held = held

    def set_load_seconds(self, seconds: float) -> None:
        assert seconds >= 0

    def close(self) -> None:
        self._closed.put(None)


class FakeCall:
    """A control call and what became of it."""

    def __init__(self, verb: str, payload: bytes = b"") -> None:
        self.verb, self.payload = verb, payload
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def reply(self, body: bytes) -> None:
        self.answers.put(json.loads(body))

    def fail(self, error: BaseException) -> None:
        self.answers.put(error)


class FakeEngine:
    """Keeps what it is told, in order."""

    last: FakeEngine

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options, self.told = dict(options), []  # type: tuple[dict[str, Any], list[Any]]
        self.ready = False
        self.drains = True
        self._calls: queue.SimpleQueue[FakeCall | None] = queue.SimpleQueue()
        FakeEngine.last = self

    def listen(self, protocol: str, address: str, port: int, **_: Any) -> int:
        if port == 1:
            raise Unavailable(f"cannot bind {address}:1: permission denied")
        self.told.append(("listen", protocol))
        return port or 40000 + len(self.told)

    def add_version(self, text: str, proto: bytes, version: int, labels: Any) -> FakeVersion:
        return FakeVersion(json.loads(text)["name"], version)

    def publish(self, name: str, ready: list[FakeVersion], unready: list[int]) -> None:
        self.told.append(("publish", name, len(ready)))

    def forget(self, name: str) -> None:
        self.told.append(("forget", name))

    def set_ready(self, ready: bool) -> None:
        self.ready = ready
        self.told.append(("ready", ready))

    def set_keys(self, keys: str) -> None:
        self.told.append(("keys", len(json.loads(keys))))

    def next_control_call(self) -> FakeCall | None:
        return self._calls.get()

    def ask(self, verb: str, payload: bytes = b"") -> Any:
        """What the server answers to a control call."""
        call = FakeCall(verb, payload)
        self._calls.put(call)
        return call.answers.get(timeout=5)

    def traces_left(self) -> dict[str, int]:
        return {}

    def drain(self, timeout_secs: float) -> bool:
        self.told.append("drain")
        return self.drains

    def stop(self) -> None:
        self.told.append("stop")
        self._calls.put(None)


class FakeMetric:
    """A gauge that nobody reads."""

    def __init__(self, *_: str) -> None:
        self.current = 0.0

    def metric(self, labels: Mapping[str, str]) -> FakeMetric:
        return self

    def set(self, value: float) -> None:
        self.current = value


@pytest.fixture
def fake_core(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    module = types.ModuleType("nerite._core")
    module.Engine = FakeEngine  # type: ignore[attr-defined]
    module.MetricFamily = FakeMetric  # type: ignore[attr-defined]
    module.__version__ = "0.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nerite._core", module)
    import nerite

    monkeypatch.setattr(nerite, "_core", module, raising=False)
    return FakeEngine
