# SPDX-License-Identifier: Apache-2.0
"""Every block of the pages on coming from elsewhere is run as it stands, but for the ports."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.test_flags import OTHER_DEFAULTS
from tests.serving import FREE_PORTS, served

from nerite.cli import demo_models
from nerite.cli.flags import BY_NAME
from nerite.models.unsupported import REFUSALS
from nerite.server.server import Server
from nerite.testing import serve

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/coming-from/triton.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
NERITE = ".venv/bin/nerite"
pytestmark = pytest.mark.timeout(90)


def of_kind(kind: str) -> list[str]:
    return [block for found, block in BLOCKS if found == kind]


def words_of(line: str) -> list[str]:
    return [sys.executable, "-m", "nerite", *shlex.split(line)[1:]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """What the page's server serves, in this process, whose ports are known."""
    repository = CHECKOUT / "build/demo-models"
    demo_models.prepare(CHECKOUT / "examples", repository)
    with serve(repository) as running:
        yield running


def test_the_flags_of_the_page_serve(server: Server) -> None:
    (line,) = (line for line in LINES if line.startswith(f"{NERITE} serve"))
    words = [word for word in words_of(line) if "-port=" not in word]
    with served([*words, *FREE_PORTS], CHECKOUT) as shown:
        assert "READY" in shown
        assert "UNAVAILABLE" not in shown


def test_the_check_is_content(server: Server) -> None:
    (line,) = (line for line in LINES if line.startswith(f"{NERITE} check"))
    subprocess.run(words_of(line), cwd=CHECKOUT, check=True, capture_output=True)


def test_the_mistakes_are_told_as_the_page_says() -> None:
    (config,), (told,) = of_kind("pbtxt"), of_kind("text")
    folder = CHECKOUT / "build/mistaken/m"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(config)
    command = [sys.executable, "-m", "nerite", "check", "build/mistaken"]
    shown = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert shown.returncode == 1
    assert shown.stdout == told


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("curl ")])
def test_curl_lines_are_answered(line: str, server: Server) -> None:
    words = shlex.split(line.replace("localhost:8000", server.http_url))
    subprocess.run([*words, "--http1.1", "--silent", "--fail"], check=True, capture_output=True)


@pytest.mark.parametrize("block", of_kind("python"))
def test_python_blocks_run(block: str, server: Server) -> None:
    block = block.replace("localhost:8001", server.grpc_url)
    shown = subprocess.run(
        [sys.executable, "-c", block], check=True, capture_output=True, text=True, cwd=CHECKOUT
    )
    assert shown.stdout.strip()


def test_no_block_is_left_out() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "pbtxt", "text"}
    assert all(line.startswith((f"{NERITE} check", f"{NERITE} serve", "curl ")) for line in LINES)


def test_other_defaults_and_refusals_are_told() -> None:
    """What the page says of flags and fields is what the tables say."""
    for name in OTHER_DEFAULTS:
        assert f"`{name}=" in PAGE
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--help"}
    assert named <= BY_NAME.keys()
    for refusal in REFUSALS:
        assert " ".join(refusal.what.split()[:2]) in PAGE
