"""`nerite models`, which lists, loads and unloads, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.keyed import make_key, refusal, write_models
from tests.model_folders import write_model
from tests.server.test_repository_control import AS_ONNX, IDENTITY, ONNX_FILE
from tests.serving import FREE_PORTS

from nerite.cli.app import main
from nerite.server.access_options import AccessOptions
from nerite.server.server import Server
from nerite.testing import serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    write_model(tmp_path / "models/m", {"config.pbtxt": IDENTITY, "1/": None})
    with serve(tmp_path / "models", model_control_mode="explicit") as server:
        yield server


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(words) == code
    told = capsys.readouterr()
    return told.out, told.err


def test_a_model_is_loaded_and_unloaded(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    url = ("--url", server.http_url)
    out, _ = said(capsys, "models", "load", "m", *url)
    assert out.splitlines()[1].split() == ["m", "1", "READY"]
    out, _ = said(capsys, "models", *url, "unload", "m", "--json")
    expected = {"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    assert json.loads(out) == [expected]
    out, _ = said(capsys, "models", "--json", *url)
    assert json.loads(out) == [expected]


def test_a_configuration_is_taken_as_json_and_from_a_file(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nerite.cli.client import Client

    url = ("--url", server.http_url)
    file = tmp_path / "other.pbtxt"
    file.write_text(IDENTITY.replace("4", "9", 1))
    for given, size in ((str(file), 9), ('{"backend":"identity","max_batch_size":3}', 3)):
        if size == 3:
            given = json.dumps(
                {
                    **json.loads(given),
                    "input": [{"name": "I", "data_type": "TYPE_FP32", "dims": [1]}],
                    "output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1]}],
                }
            )
        said(capsys, "models", "load", "m", "--config", given, *url)
        with Client(server.http_url) as client:
            assert client.get("/v2/models/m/config")["max_batch_size"] == size


def test_files_can_be_sent(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.onnx").write_bytes(ONNX_FILE)
    sent = ("--file", f"2/model.onnx={tmp_path}/net.onnx", "--config", AS_ONNX)
    out, _ = said(capsys, "models", "load", "sent", *sent, "--url", server.http_url)
    assert out.splitlines()[1].split() == ["sent", "2", "READY"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("load", "nosuch"), "no model repository has a model 'nosuch'"),
        (("unload", "nosuch"), "there is no model of that name"),
        (("load", "m", "--config", "nofile"), "--config: there is no file 'nofile'"),
        (("load", "m", "--file", "x"), "--file: 'x' is not VERSION/NAME=FILE"),
        (("load", "m", "--file", "1/x=/no/file"), "'/no/file' cannot be read: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    server: Server, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    _, err = said(capsys, "models", *words, "--url", server.http_url, code=1)
    assert err.startswith("error: ")
    assert text in err
    assert err.count("\n") == 1


def test_loading_needs_a_key_that_manages_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tritonclient import grpc as triton

    keys = tmp_path / "keys.txt"
    looks, own = make_key(keys, "looks", "infer"), make_key(keys, "own", "manage", "own-*")
    access = AccessOptions(api_keys=keys)
    models = write_models(tmp_path / "models")
    with serve(models, model_control_mode="explicit", access=access) as server:
        at = ("models", "--url", server.http_url)
        for verb in ("load", "unload"):
            assert "an API key is needed" in said(capsys, *at, verb, "own-a", code=1)[1]
            assert "manage" in said(capsys, *at, "--api-key", looks, verb, "own-a", code=1)[1]
            _, err = said(capsys, *at, verb, "other", "--api-key", own, code=1)
            assert "'other'" in err
        assert "READY" in said(capsys, *at, "load", "own-a", "--api-key", own)[0]
        monkeypatch.setenv("NERITE_API_KEY", own)
        listed = json.loads(said(capsys, *at, "--json")[0])
        assert {entry["name"] for entry in listed} == {"own-a", "own-b"}
        assert "unloaded" in said(capsys, *at, "unload", "own-a")[0]
        with triton.InferenceServerClient(server.grpc_url) as client:
            for call in (client.load_model, client.unload_model):
                told = [
                    refusal(lambda call=call, key=key, name=name: call(name, headers=key))
                    for name in ("own-b", "other")
                    for key in ({}, {"authorization": f"Bearer {own}"})
                ]
                expected = ["UNAUTHENTICATED", "", "UNAUTHENTICATED", "PERMISSION_DENIED"]
                assert told == [status and f"StatusCode.{status}" for status in expected]


def test_a_server_without_models_says_how_to_load_one(tmp_path: Path) -> None:
    write_model(tmp_path / "m", {"config.pbtxt": IDENTITY, "1/": None})
    words = [sys.executable, "-m", "nerite", "serve", str(tmp_path)]
    words += ["--model-control-mode=explicit", *FREE_PORTS]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        shown = process.stdout.readline().decode()
        process.terminate()
        assert process.wait(20) == 0
    assert shown.startswith("no model is loaded; to load one: nerite models load NAME --url http:")
