"""Clients that ask several things all the time, each over a connection that it keeps."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.local.daemons import PATIENCE_SECS


@dataclass(frozen=True)
class Question:
    """A request, and what its answer comes down to."""

    path: str
    body: Mapping[str, Any]
    summary: Callable[[Any], Any]


def v2(path: str, name: str, rows: list[list[float]]) -> Question:
    """One tensor; the first number of each output, by the step that gave it where there are any."""
    tensor = {"name": name, "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": rows}
    return Question(path, {"inputs": [tensor]}, _first_numbers)


def v1(path: str, rows: list[list[float]]) -> Question:
    """Rows; the first prediction."""
    return Question(path, {"instances": rows}, lambda answer: answer["predictions"][0])


def _first_numbers(answer: Any) -> Any:
    if "outputs" in answer:
        return answer["outputs"][0]["data"][0]
    return {step: _first_numbers(part) for step, part in answer.items()}


@dataclass
class Load:
    """What became of all requests so far."""

    answers: dict[str, Counter[Any]] = field(default_factory=dict)
    """By question: answers of status 200."""
    failures: dict[str, Counter[int]] = field(default_factory=dict)
    """By question: other statuses."""
    broken: list[str] = field(default_factory=list)
    """Connections to the gateway that did not live; there should be none."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, status: int, answer: Any) -> None:
        with self._lock:
            if status == 200:
                key = json.dumps(answer) if isinstance(answer, dict) else answer
                self.answers[name][key] += 1
            else:
                self.failures[name][status] += 1

    def begin_again(self) -> None:
        """Forgets what was counted."""
        with self._lock:
            for counters in (self.answers, self.failures):
                for counter in counters.values():
                    counter.clear()

    def until(self, wanted: Callable[[Load], bool]) -> None:
        """Returns when enough happened."""
        ends = time.monotonic() + PATIENCE_SECS
        while not wanted(self):
            assert time.monotonic() < ends, (self.answers, self.failures, self.broken)
            time.sleep(0.02)

    def until_each_was_answered(self, times: int) -> None:
        """Returns when each question has so many answers."""
        self.until(lambda load: all(c.total() >= times for c in load.answers.values()))


@contextmanager
def load(address: str, questions: Mapping[str, Question], clients: int = 2) -> Iterator[Load]:
    """So many clients for each question, until the block ends."""
    made = Load({name: Counter() for name in questions}, {name: Counter() for name in questions})
    over = threading.Event()

    def ask(name: str, question: Question) -> None:
        body = json.dumps(question.body)
        connection = http.client.HTTPConnection(address, timeout=PATIENCE_SECS)
        while not over.is_set():
            try:
                connection.request("POST", question.path, body)
                response = connection.getresponse()
                text = response.read()
            except (OSError, http.client.HTTPException) as error:
                made.broken.append(f"{name}: {error!r}")
                connection.close()
                continue
            found = question.summary(json.loads(text)) if response.status == 200 else None
            made.note(name, response.status, found)
        connection.close()

    threads = [
        threading.Thread(target=ask, args=item)
        for item in questions.items()
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        over.set()
        for thread in threads:
            thread.join()
