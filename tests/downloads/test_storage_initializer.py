# SPDX-License-Identifier: Apache-2.0
"""The process that KServe runs before a server: arguments, log, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.downloads.conftest import Bucket
from tests.downloads.web import web

from nerite.cli.app import main as nerite
from nerite.storage_initializer import main


def test_it_runs_as_a_process_with_kserves_arguments_and_variables(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put(iris__1__model=b"weights")
    # Not what the machine of the test would say about other buckets.
    own = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "S3_", "STORAGE_"))}
    with web() as server:
        server.files["/labels.txt"] = b"setosa"
        words = [f"s3://{bucket.name}/iris", "models", f"{server.url}/labels.txt", "more"]
        done = subprocess.run(
            [sys.executable, "-m", "nerite.storage_initializer", *words],
            cwd=tmp_path,
            env={**own, **bucket.variables},
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        f"Initializing, args: src_uri [{words[0]}] dest_path [models]",
        f"Successfully copied {words[0]} to models: 1",
        f"Initializing, args: src_uri [{words[2]}] dest_path [more]",
        f"Successfully copied {words[2]} to more: labels.txt",
    ]
    assert (tmp_path / "models/1/model").read_bytes() == b"weights"
    assert (tmp_path / "more/labels.txt").read_bytes() == b"setosa"


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "c"]])
def test_arguments_that_are_no_pairs_end_it_with_1(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert "pairs are expected: SRC_URI DEST_PATH [SRC_URI" in capsys.readouterr().err


def test_a_failure_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "to")]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: '")
    assert last.endswith(f"there is nothing at '{tmp_path}/nowhere'")
    assert main(["https://[x/m", "to"]) == 1
    assert "error: this is no URL" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file"), str(tmp_path / "file/to")]) == 1
    assert "cannot be written to" in capsys.readouterr().err


def test_the_command_takes_claims(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk/iris").mkdir(parents=True)
    (tmp_path / "disk/iris/model.onnx").write_bytes(b"weights")
    words = ["pvc://c/iris", str(tmp_path / "to"), "--claim", f"c={tmp_path / 'disk'}"]
    assert nerite(["storage-initializer", *words]) == 0
    assert (tmp_path / "to/model.onnx").read_bytes() == b"weights"
    assert nerite(["storage-initializer", "a", "b", "--claim", "c"]) == 1
    assert "--claim: 'c' is not NAME=FOLDER" in capsys.readouterr().err
