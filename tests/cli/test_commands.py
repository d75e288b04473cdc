# SPDX-License-Identifier: Apache-2.0
"""The commands as a user types them, against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.serving import FREE_PORTS, served

from nerite.cli.app import main
from nerite.server.server import Server
from nerite.testing import serve

CHECKOUT = Path(__file__).parents[2]
NUMBERS = """backend: "identity" max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
WORDS = NUMBERS.replace("FP32", "STRING")
PIXELS = NUMBERS.replace("[ -1 ]", "[ -1, -1, 3 ]").replace("FP32", "UINT8")
WRONG = 'backend: "identity"\nmax_batch_size: -1\ninput { name: "X" data_typ: TYPE_FP32 }\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("commands")
    for name, text in {"numbers": NUMBERS, "words": WORDS, "pixels": PIXELS}.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(text)
    with serve(root) as running:
        yield running


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    """What a command wrote to standard output and standard error."""
    assert main(words) == code
    told = capsys.readouterr()
    return told.out, told.err


def inferred(capsys: pytest.CaptureFixture[str], server: Server, *words: str) -> list[object]:
    out, _ = said(capsys, "infer", *words, "--url", server.http_url, "--json")
    data: list[object] = json.loads(out)["outputs"][0]["data"]
    return data


def test_infer_takes_json(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert inferred(capsys, server, "numbers", "X=[[1, 2.5], [3, 4]]") == [1.0, 2.5, 3.0, 4.0]


def test_infer_takes_numpy_files(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.array([[5, 6]], np.float32))
    assert inferred(capsys, server, "numbers", f"X=@{tmp_path}/x.npy") == [5.0, 6.0]


def test_infer_takes_text_and_text_files(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert inferred(capsys, server, "words", "X=hello you") == ["hello you"]
    (tmp_path / "x.txt").write_text("from a file")
    assert inferred(capsys, server, "words", f"X=@{tmp_path}/x.txt") == ["from a file"]


def test_infer_takes_images(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.new("RGB", (2, 1), (10, 20, 30)).save(tmp_path / "x.png")
    told = inferred(capsys, server, "pixels", f"X=@{tmp_path}/x.png")
    assert told == [10, 20, 30, 10, 20, 30]


def test_infer_answers_readably(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = said(capsys, "infer", "numbers", "X=[[1, 2]]", "--url", server.http_url)
    assert out == "Y  FP32[1,2]  1, 2\n"
    assert re.match(r"numbers version 1, [\d.]+ ms", err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nosuch", "X=[1]"], "'nosuch'"),
        (["numbers", "Z=[1]"], "'Z'"),
        (["numbers", "X"], "X"),
        (["numbers", "X=@nowhere.npy"], "nowhere.npy"),
    ],
)
def test_infer_says_what_is_wrong(
    server: Server, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    _, err = said(capsys, "infer", *words, "--url", server.http_url, code=1)
    assert told in err
    assert "Traceback" not in err


def test_infer_takes_and_shows_bytes_that_are_no_text_as_base64(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [{"b64": "/wA="}, "text", {"b64": "gA=="}]
    assert inferred(capsys, server, "words", f"X=[{json.dumps(data)}]") == data
    _, err = said(capsys, "infer", "words", 'X=[{"b64": "?"}]', "--url", server.http_url, code=1)
    assert "input 'X': '[{\"b64\": \"?\"}]' is not BYTES data" in err


def test_infer_says_that_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = said(capsys, "infer", "m", "X=[1]", "--url", "http://127.0.0.1:9", code=1)
    assert "http://127.0.0.1:9" in err


def test_models_lists_what_is_served(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, "models", "--url", server.http_url)
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        [name, "1", "READY"] for name in ("numbers", "pixels", "words")
    ]


def test_check_names_file_line_key_and_fix(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "wrong/1").mkdir(parents=True)
    (tmp_path / "wrong/config.pbtxt").write_text(WRONG)
    out, err = said(capsys, "check", str(tmp_path), code=1)
    assert "wrong/config.pbtxt:3:" in out + err
    assert "data_typ" in out + err
    assert "data_type" in out + err


def test_check_is_content_with_what_serves(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "check", str(server.options.repositories[0]))


def test_version_names_the_core(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, "version")
    assert re.match(r"nerite \S+ \(core \S+, Python \d", out)


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("serve", "check", "infer", "models", "demo", "version"):
        out, _ = said(capsys, command, "--help")
        assert "Usage" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/nowhere"], "/nowhere"),
        (["--http-port=99999", "."], "--http-port: 99999"),
        (["--http-port=x", "."], "--http-port: 'x'"),
        (["--nonsense", "."], "--nonsense"),
    ],
)
def test_serve_refuses_what_it_cannot_do(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    _, err = said(capsys, "serve", *words, code=1)
    assert told in err
    assert "Traceback" not in err


@pytest.mark.timeout(60)
def test_the_module_serves_with_tritons_flags_and_ends_at_a_signal(server: Server) -> None:
    repository = server.options.repositories[0]
    words = [sys.executable, "-m", "nerite", "serve", f"--model-repository={repository}"]
    with served([*words, *FREE_PORTS]) as shown:
        assert re.search(r"numbers +1 +READY +X FP32\[-1,-1\] -> Y FP32\[-1,-1\]", shown)


@pytest.mark.timeout(60)
def test_the_demo_shows_real_answers_and_leaves_nothing_running() -> None:
    nerite = Path(sys.executable).with_name("nerite")
    shown = subprocess.run(
        [nerite, "demo"], capture_output=True, text=True, check=True, cwd=CHECKOUT, timeout=50
    ).stdout
    assert re.search(r"\.png +png +\d+%", shown)
    assert re.search(r"speech at 0\.\d", shown)
    assert "no speech" in shown
    assert re.search(r"batch sizes of magika: .*\d+ x 16", shown)
    assert len(re.findall(r"^  \S*nerite (?:serve|infer|check) ", shown, re.MULTILINE)) == 3
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if b"nerite" in Path(f"/proc/{pid}/cmdline").read_bytes()]
