# SPDX-License-Identifier: Apache-2.0
"""`nerite serve` with the arguments that KServe gives its own servers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.serving import served

from nerite.cli.app import main
from nerite.cli.kserve_arguments import speaks_kserve, translate
from nerite.errors import InvalidArgument, NotFound
from nerite.testing import serve

ROWS, CLASSES = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a storage initializer leaves at /mnt/models."""
    folder = tmp_path_factory.mktemp("mnt") / "models"
    folder.mkdir()
    skops.io.dump(LogisticRegression(max_iter=500).fit(ROWS, CLASSES), folder / "model.skops")
    return folder


def words(models: Path, *more: str) -> list[str]:
    return ["--model_name=iris", f"--model_dir={models}", "--http_port=8080", *more]


def test_only_flags_of_kserves_begin_the_mode() -> None:
    assert speaks_kserve(["--model_name", "x"])
    assert speaks_kserve(["--workers=1"])
    assert not speaks_kserve(["--model-name=x", "--http-port=1", "models"])
    assert not speaks_kserve(["--protocol=v2", "models"])
    assert not speaks_kserve(["--model_name=x", "--help"])


def test_kserves_defaults_hold_where_nothing_is_said(models: Path) -> None:
    made = translate([f"--model_dir={models}"])
    assert set(made.words[:4]) == {
        "--http-port=8080",
        "--grpc-port=8081",
        "--drain-delay=5",
        "--exit-timeout-secs=20",
    }
    assert made.words[-2:] == (str(models), "--model-name=model")
    assert not made.warnings


def test_the_arguments_of_a_shipped_runtime_are_understood_without_a_warning(models: Path) -> None:
    made = translate(words(models, "--nthread=1", "--workers", "1", "--enable_grpc", "Yes"))
    assert "--allow-grpc=true" in made.words
    assert not made.warnings


def test_the_last_of_two_equal_flags_counts(models: Path) -> None:
    made = translate(words(models, "--http_port", "9000", "--model_name", "other"))
    assert made.words.index("--http-port=9000") > made.words.index("--http-port=8080")
    assert made.words.count("--http-port=8080") == 1
    assert made.words[-1] == "--model-name=other"


def test_what_is_unknown_or_idle_is_told_and_harmless(models: Path) -> None:
    made = translate(words(models, "--gpu_share", "0.5", "--fast", "--workers=4", "stray"))
    assert made.warnings == (
        "--gpu_share 0.5 has no effect: there is no such flag",
        "--fast has no effect: there is no such flag",
        "--workers has no effect: one process serves all requests with as many threads as there "
        "are cores; count instances of a model with instance_group",
        "'stray' has no effect: --model_dir counts",
    )
    assert made.words[-2:] == (str(models), "--model-name=iris")


def test_nerites_own_flags_may_stand_among_them(models: Path) -> None:
    made = translate(words(models, "--trust", "--metrics-port", "9100", "--exit-timeout-secs=3"))
    assert {"--trust", "--metrics-port=9100"} <= set(made.words)
    assert made.words.index("--exit-timeout-secs=3") > made.words.index("--exit-timeout-secs=20")
    made = translate(["--http_port=1", "--model-repository", "a", "--model-repository", "b"])
    assert made.words[-2:] == ("--model-repository=a", "--model-repository=b")


def test_a_path_may_stand_for_the_model_dir(models: Path) -> None:
    made = translate(["old", str(models), "--model_name=iris"])
    assert made.words[-2:] == (str(models), "--model-name=iris")
    assert made.warnings == ("'old' has no effect: the last path counts",)


def test_a_repository_keeps_its_names_unless_one_is_given(models: Path, tmp_path: Path) -> None:
    (tmp_path / "iris_v1/1").mkdir(parents=True)
    (tmp_path / "iris_v1/1/model.skops").write_bytes((models / "model.skops").read_bytes())
    assert translate([f"--model_dir={tmp_path}"]).words[-1] == str(tmp_path)
    assert translate(words(tmp_path)).words[-1] == "--model-name=iris"
    (tmp_path / "more/1").mkdir(parents=True)
    (warning,) = translate(words(tmp_path)).warnings
    assert warning.startswith("--model_name has no effect: ")
    assert "(iris_v1, more); none is 'iris'" in warning


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--http_port=many"], "--http_port: 'many' is not a whole number"),
        (["--grpc_port=70000"], "--grpc_port: 70000 is out of range"),
        (["--enable_grpc=perhaps"], "--enable_grpc: 'perhaps' is not a boolean"),
        (["--http_port"], "--http_port needs a value: write --http_port=VALUE"),
        (["--model_name", "--trust"], "--model_name needs a value"),
        (["--predictor_host=iris-predictor"], "--predictor_host is refused: a server does not"),
        (["--ssl_certfile=/tls/crt"], "--ssl_certfile is refused: TLS is not offered yet"),
        (["--framework=xgboost"], "--framework: 'xgboost' was asked for, but '"),
    ],
)
def test_what_cannot_be_is_told_with_the_flag_as_it_was_written(
    more: list[str], text: str, models: Path
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        translate(words(models, *more))
    assert text in str(caught.value)


def test_a_model_dir_without_a_model_is_told_with_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.h5").touch()
    assert main(["serve", *words(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: --model_dir: '{tmp_path}' holds no model (found: model.h5); a")
    with pytest.raises(NotFound, match="--model_dir: there is nothing at"):
        translate(words(tmp_path / "nowhere"))
    with pytest.raises(InvalidArgument, match="--model_dir is missing"):
        translate(["--model_name=iris"])


def test_a_server_started_as_kserve_starts_one_answers_under_the_given_name(models: Path) -> None:
    command = [sys.executable, "-m", "nerite", "serve", *words(models, "--http_port=0")]
    more = ["--grpc_port=0", "--metrics-port=0", "--http-address=127.0.0.1", "--unknown=1"]
    more.append("--drain-delay=0")
    with served([*command, *more]) as shown:
        url = shown.partition("try: curl ")[2].split()[0]
        assert url.endswith("/v2/models/iris")
        tensor = {
            "name": "input-0",
            "shape": [2, 4],
            "datatype": "FP32",
            "data": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]],
        }
        body = json.dumps({"inputs": [tensor], "outputs": [{"name": "output-0"}]}).encode()
        with urlopen(Request(f"{url}/infer", body), timeout=10) as reply:
            answer = json.load(reply)
    assert answer["model_name"] == "iris"
    assert answer["outputs"][0]["data"] == [1, 1]


def test_a_model_folder_answers_under_the_name_though_its_configuration_says_another(
    tmp_path: Path,
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "config.pbtxt").write_text(
        'name: "densenet" backend: "identity" max_batch_size: 4\n'
        'input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }\n'
        'output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }\n'
    )
    with serve(tmp_path, model_name="image-classes") as server:
        with urlopen(f"{server.http_url}/v2/models/image-classes/config", timeout=10) as reply:
            assert json.load(reply)["name"] == "image-classes"
        assert [entry.name for entry in server.states.index()] == ["image-classes"]
    with pytest.raises(InvalidArgument, match="'model_name' is 'x', but 2 repositories are given"):
        serve(tmp_path, tmp_path, model_name="x").__enter__()
