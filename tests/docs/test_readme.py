# SPDX-License-Identifier: Apache-2.0
"""Every block of the README is run as it stands, but for the ports."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from tests.local.daemons import Up, up
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
def daemon(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """What the README's `nerite up` runs, on free ports."""
    (line,) = [line for line in LINES if line.startswith(f"{NERITE} up")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CHECKOUT)
        with up(tmp_path_factory.mktemp("readme"), *shlex.split(line)[2:]) as running:
            for name in ("speech", "file-kinds"):
                running.ready(name)
            yield running


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


VERBS = [line for line in LINES if line.startswith((f"{NERITE} wait", f"{NERITE} get"))]


@pytest.mark.parametrize("line", VERBS)
def test_verbs_work_beside_the_daemon(line: str, daemon: Up) -> None:
    shown = daemon.run(*shlex.split(line)[1:])
    assert shown.returncode == 0
    assert "speech" in shown.stdout


def test_the_graph_of_the_readme_chooses(daemon: Up) -> None:
    url = f"http://{daemon.http}/serving/default/triage"
    zeros = np.zeros((1, 576), np.float32).tolist()
    state = np.zeros((1, 1, 128), np.float32).tolist()
    sound = [("input", [1, 576], zeros), ("h", [1, 1, 128], state), ("c", [1, 1, 128], state)]
    tensors = [
        {"name": name, "shape": shape, "datatype": "FP32", "data": data}
        for name, shape, data in sound
    ]
    with urlopen(url, json.dumps({"inputs": tensors}).encode(), timeout=10) as answer:
        assert json.load(answer)["model_name"] == "speech"


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in LINES
        if line.startswith(NERITE) and line.split()[1] not in ("serve", "up", "wait", "get")
    ],
)
def test_client_lines_work_beside_the_server(line: str, server: Server) -> None:
    words = words_of(line)
    if words[3] in ("models", "infer"):
        words += ["--url", server.http_url]
    subprocess.run(words, cwd=CHECKOUT, check=True, capture_output=True)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("curl ")])
def test_curl_lines_name_endpoints(line: str, server: Server, daemon: Up) -> None:
    line = line.replace("localhost:8000", server.http_url)
    line = line.replace(":8080", f":{daemon.http.rpartition(':')[2]}")
    words = [*shlex.split(line), "--http1.1", "--silent", "--fail"]
    subprocess.run(words, check=True, capture_output=True)


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
    text = (CHECKOUT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.partition("## KServe")[0].splitlines()) <= 70
