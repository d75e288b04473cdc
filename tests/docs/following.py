# SPDX-License-Identifier: Apache-2.0
"""Somebody who follows a page of the documentation from top to bottom, in an empty folder.

A block with a title is a file of that name. `sh` is run by bash; a block with `nerite serve` starts
a server, in place of the one before. `python` is run. `text` or `json` right after one of these is
what it shows, where `...` stands for anything. Ports are free ones instead of 8000, 8001 and 8002.
A block is left out only behind `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_BLOCK = re.compile(
    r'(?:^<!-- not run: (.+?) -->\n)?^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S
)
_CLIENT = re.compile(r"\bnerite (?:infer|models load|models unload|models)\b")
_PORT = re.compile(r"\b800[012]\b")


@dataclass(frozen=True)
class Block:
    """A block of a page, with the reason if it is not to be run."""

    reason: str
    kind: str
    title: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text())]


def _free_ports() -> dict[str, str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return dict(zip(("8000", "8001", "8002"), ports, strict=True))


@dataclass
class Reader:
    """Does what a page says; what was shown last can be compared."""

    folder: Path
    ports: dict[str, str] = field(default_factory=_free_ports)
    shown: str = ""
    server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def follow(self, block: Block) -> None:
        """One block."""
        text = _PORT.sub(lambda match: self.ports[match[0]], block.text)
        if block.title:
            target = self.folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        elif block.kind in ("text", "json"):
            self.compare(block)
        elif block.kind == "python":
            self.run([sys.executable, "-c", text])
        elif "nerite serve" in text:
            self.serve(text)
        else:
            assert block.kind == "sh", block
            # With the usual ports a reader can leave this flag out.
            text = _CLIENT.sub(rf"\g<0> --url http://localhost:{self.ports['8000']}", text)
            self.run(["bash", "-euo", "pipefail", "-c", text])

    def compare(self, block: Block) -> None:
        """Holds what was shown against what the page says."""
        shown = self.shown
        for usual, port in self.ports.items():
            shown = shown.replace(port, usual)
        if block.kind == "json" and "..." not in block.text:
            assert json.loads(shown) == json.loads(block.text), shown
            return
        wanted = [re.escape(line.rstrip()) for line in block.text.strip().splitlines()]
        pattern = "\n".join(line.replace(r"\.\.\.", r"[\s\S]*?") for line in wanted)
        lines = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        assert re.fullmatch(pattern, lines), f"the page says\n{block.text}\nshown was\n{lines}"

    def run(self, words: list[str]) -> None:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment(), capture_output=True, text=True
        )
        self.shown = done.stdout
        assert done.returncode == 0, f"{words[-1]}\n{done.stdout}\n{done.stderr}\n{self.log()}"

    def serve(self, text: str) -> None:
        """Starts a server, whose screen is what was shown."""
        self.stop()
        text = text.strip()
        for name, usual in (("http", "8000"), ("grpc", "8001"), ("metrics", "8002")):
            if f"--{name}-port" not in text:
                text += f" --{name}-port={self.ports[usual]}"
        with (self.folder / ".server.log").open("w") as log:
            self.server = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self.folder,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.server.stdout is not None
        self.shown = ""
        while "try: curl" not in self.shown:
            line = self.server.stdout.readline()
            assert line, f"{text} ended before it was ready:\n{self.shown}\n{self.log()}"
            self.shown += line
        if "curl http:" in self.shown:
            self.shown += self.server.stdout.readline()  # how to list the models

    def stop(self) -> None:
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(20)
            assert self.server.stdout is not None
            self.server.stdout.close()
            self.server = None

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def log(self) -> str:
        log = self.folder / ".server.log"
        return log.read_text() if log.is_file() else ""
