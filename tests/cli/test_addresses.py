# SPDX-License-Identifier: Apache-2.0
"""Where `nerite infer` and `nerite models` find a server besides `http://`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.model_folders import write_model
from tests.server.test_tls import CONFIG, Pems

from nerite.cli.app import main
from nerite.testing import serve


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path / "models/echo", {"config.pbtxt": CONFIG, "1/": None})
    return tmp_path / "models"


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(words) == code
    told = capsys.readouterr()
    return told.out, told.err


def asks(capsys: pytest.CaptureFixture[str], *where: str) -> None:
    """An inference, the list, and a load are answered there."""
    out, _ = said(capsys, "infer", "echo", "X=[1, 2.5]", "--json", *where)
    assert json.loads(out)["outputs"][0]["data"] == [1.0, 2.5]
    ready = {"name": "echo", "version": "1", "state": "READY"}
    out, _ = said(capsys, "models", "--json", *where)
    assert [entry | ready for entry in json.loads(out)] == [json.loads(out)[0]]
    out, _ = said(capsys, "models", *where, "load", "echo")
    assert "READY" in out
    out, _ = said(capsys, "models", "load", "echo", *where)
    assert "READY" in out


def test_a_socket_in_the_file_system(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nerite.sock"
    options = {"http_address": f"unix:{path}", "metrics_address": "127.0.0.1"}
    with serve(repository, model_control_mode="explicit", load_models=("echo",), **options):
        asks(capsys, "--url", f"unix:{path}")
        asks(capsys, "--url", f"unix://{path}")
    _, err = said(capsys, "models", "--url", f"unix:{path}", code=1)
    assert f"no answer from unix:{path}: " in err
    assert "Traceback" not in err


def test_https_with_an_authority_of_its_own(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pems = Pems(tmp_path)
    with serve(
        repository,
        model_control_mode="explicit",
        load_models=("echo",),
        **pems.options("http"),
    ) as server:
        url = f"https://localhost:{server.ports['http'][1]}"
        asks(capsys, "--url", url, "--ca-file", str(pems.roots))
        asks(capsys, "--url", url, "--insecure")
        _, err = said(capsys, "models", "--url", url, code=1)
        assert f"no answer from {url}: " in err
        assert "--ca-file names the authorities to believe" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--url", "ftp://x"], "'ftp://x' is not an address like http://localhost:8000 or unix:/"),
        (["--url", "http://x:port"], "'http://x:port' is not an address like"),
        (["--url", "http://x", "--ca-file", "f"], "--ca-file is for addresses with https://"),
        (["--url", "unix:/x", "--insecure"], "--insecure is for addresses with https://, not for"),
        (["--url", "https://x", "--ca-file", "/nowhere"], "--ca-file: '/nowhere' holds no certif"),
    ],
)
def test_what_leads_nowhere_is_told(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    for command in (["models"], ["infer", "m", "X=[1]"], ["models", "unload", "m"]):
        _, err = said(capsys, *command, *words, code=1)
        assert told in err
