# SPDX-License-Identifier: Apache-2.0
"""Every block of the README is run as it stands, but for the ports."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from tests.serving import FREE_PORTS, served

from nerite.cli import demo_models
from nerite.server.server import Server
from nerite.testing import serve

CHECKOUT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (CHECKOUT / "README.md").read_text(), re.M | re.S)
LINES = [
    line.partition("#")[0].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.strip()
]
NERITE = ".venv/bin/nerite"
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """What `nerite serve build/demo-models` serves, after `make demo` has put it there."""
    repository = CHECKOUT / "build/demo-models"
    demo_models.prepare(CHECKOUT / "examples", repository)
    with serve(repository, model_control_mode="explicit", load_models=("*",)) as running:
        yield running


def words_of(line: str) -> list[str]:
    words = shlex.split(line)
    if words[0] == NERITE:
        words[0:1] = [sys.executable, "-m", "nerite"]
    return words


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    subprocess.run([*shlex.split(line), "-n"], cwd=CHECKOUT, check=True, capture_output=True)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith(f"{NERITE} serve")])
def test_serve_lines_serve(line: str, server: Server) -> None:
    words = [word for word in words_of(line) if "-port=" not in word]
    with served([*words, *FREE_PORTS], CHECKOUT) as shown:
        assert "READY" in shown
        assert "UNAVAILABLE" not in shown
        url = re.search(r"http://\S+", shown)
        assert url is not None
        with urlopen(url[0], timeout=10) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "line",
    [line for line in LINES if line.startswith(NERITE) and f"{NERITE} serve" not in line],
)
def test_client_lines_work_beside_the_server(line: str, server: Server) -> None:
    words = words_of(line)
    if words[3] in ("models", "infer"):
        words += ["--url", server.http_url]
    subprocess.run(words, cwd=CHECKOUT, check=True, capture_output=True)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("curl ")])
def test_curl_lines_name_endpoints(line: str, server: Server) -> None:
    url = line.removeprefix("curl ").replace("localhost:8000", server.http_url)
    with urlopen(url, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
def test_python_blocks_run(block: str, server: Server) -> None:
    address = server.http_url.removeprefix("http://")
    program = block.replace("localhost:8000", address)
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=CHECKOUT
    )
    assert shown.stdout.strip()


def test_no_line_is_left_out() -> None:
    starts = ("make ", "curl ", NERITE)
    assert all(line.startswith(starts) for line in LINES), LINES
    assert {kind for kind, _ in BLOCKS} <= {"sh", "python"}


def test_it_stays_one_screen_to_success() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 150
