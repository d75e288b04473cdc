# SPDX-License-Identifier: Apache-2.0
"""What a component's processes print: kept in files of bounded size, and followed as it comes."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

LARGEST = 10 * 2**20
KEPT = 2
_FAILED_LOAD = re.compile(r"failed to load '.*")
_TAIL_LINES = 40
_TAIL_BYTES = 2048


class Tail:
    """The last lines of one run, for telling why it ended."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)

    def add(self, line: bytes) -> None:
        """Remembers a line."""
        text = line.decode(errors="replace").rstrip()
        if text:
            self._lines.append(text)

    def reason(self, own_model: bool = True) -> str:
        """Nerite's sentence about its model, or what a cluster would show: the end of the log.

        Where models are put into a process, none of them is why it ends (`own_model` is False).
        """
        for line in reversed(self._lines if own_model else ()):
            found = _FAILED_LOAD.search(line)
            if found:
                return found[0].replace('\\"', '"').removesuffix('"')
        text = "\n".join(self._lines)
        return text[-_TAIL_BYTES:]


class Log:
    """One file of lines, which starts anew when it is large; some older ones are kept."""

    def __init__(self, path: Path, largest: int = LARGEST, kept: int = KEPT) -> None:
        self.path = path
        self._largest = largest
        self._kept = kept
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        self._turned = 0
        self._news = threading.Condition()

    def write(self, line: bytes) -> None:
        """Appends a line, whoever calls."""
        with self._news:
            if self._file.closed:
                return
            if self._size and self._size + len(line) > self._largest:
                self._turn()
            self._file.write(line)
            self._size += len(line)
            self._news.notify_all()

    def _turn(self) -> None:
        self._file.close()
        for number in range(self._kept - 1, 0, -1):
            older = self._named(number)
            if older.exists():
                older.replace(self._named(number + 1))
        self.path.replace(self._named(1))
        self._file = self.path.open("ab", buffering=0)
        self._size, self._turned = 0, self._turned + 1

    def _named(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def close(self) -> None:
        """No more is written; those who follow come to the end."""
        with self._news:
            self._file.close()
            self._news.notify_all()

    def lines(self, tail: int | None = None) -> list[bytes]:
        """The lines that are kept, or only the last ones."""
        files = [self._named(number) for number in range(self._kept, 0, -1)] + [self.path]
        with self._news:
            text = b"".join(file.read_bytes() for file in files if file.exists())
        lines = text.splitlines(keepends=True)
        return lines if tail is None else lines[max(0, len(lines) - tail) :]

    def follow(self, tail: int | None, is_wanted: Callable[[], bool]) -> Iterator[bytes]:
        """The lines that are kept, then every new one until the log closes or nobody listens."""
        with self._news:
            turned, position = self._turned, self._size
            start = self.lines(tail)
        yield from start
        while True:
            with self._news:
                while self._turned == turned and self._size == position:
                    if self._file.closed or not is_wanted():
                        return
                    self._news.wait(0.5)
                parts = self._since(turned, position)
                turned, position = self._turned, self._size
            yield from parts

    def _since(self, turned: int, position: int) -> list[bytes]:
        text = b""
        missed = self._turned - turned
        for number in range(min(missed, self._kept), 0, -1):
            older = self._named(number).read_bytes()
            text += older[position:] if number == missed else older
        current = self.path.read_bytes()
        text += current if missed else current[position:]
        return text.splitlines(keepends=True)
