# SPDX-License-Identifier: Apache-2.0
"""`nerite serve` of a URI: fetched first, gone with the process."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.downloads.web import web
from tests.serving import FREE_PORTS, served

from nerite.cli.kserve_arguments import translate
from nerite.cli.remote_models import local_path
from nerite.errors import InvalidArgument, NotFound

COMMAND = [sys.executable, "-m", "nerite", "serve"]


def test_paths_stay_as_they_are() -> None:
    assert local_path("models/iris") == "models/iris"
    assert local_path("file:///models/iris") == "/models/iris"
    with pytest.raises(InvalidArgument, match="name the folder where it is mounted"):
        local_path("pvc://claim/iris")


@pytest.mark.parametrize("kserve", [False, True])
def test_a_model_at_a_url_is_served_and_leaves_nothing_behind(
    kserve: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, classes = load_iris(return_X_y=True)
    skops.io.dump(LogisticRegression(max_iter=500).fit(rows, classes), tmp_path / "model.skops")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    with web() as server:
        server.files["/v1/iris.skops"] = (tmp_path / "model.skops").read_bytes()
        url = f"{server.url}/v1/iris.skops"
        words = [f"--model_dir={url}", "--drain-delay=0"] if kserve else [url]
        with served([*COMMAND, *words, *FREE_PORTS]) as shown:
            name = "model" if kserve else "iris"
            assert re.search(rf"^{name} +1 +READY", shown, re.M)
    assert not list((tmp_path / "tmp").iterdir())


def test_what_cannot_be_fetched_is_told_with_its_flag() -> None:
    with web() as server, pytest.raises(NotFound, match=r"--model_dir: 'http.*' is not there: the"):
        translate([f"--model_dir={server.url}/iris.skops"])
