"""Which files and versions of a model folder count, and that no folder can end the server."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.model_folders import write_model

from nerite.config import (
    ModelConfig,
    Request,
    Settings,
    VersionPolicy,
    check_path,
    choose_versions,
    find_versions,
    read_model,
)
from nerite.errors import ConfigError, InternalError

PBTXT = "backend: 'identity'\nmax_batch_size: 4\n"


def refused(folder: Path, **arguments: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_model(folder, **arguments)
    return caught.value


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (VersionPolicy(), (9,)),
        (VersionPolicy("latest", 2), (3, 9)),
        (VersionPolicy("latest", 7), (1, 3, 9)),
        (VersionPolicy("latest", 0), ()),
        (VersionPolicy("all", 0), (1, 3, 9)),
        (VersionPolicy("specific", 0, (9, 1, 9)), (1, 9)),
        (VersionPolicy("specific", 0, (4,)), ()),
        (VersionPolicy("specific", 0, ()), ()),
    ],
)
def test_the_policy_chooses_versions(policy: VersionPolicy, chosen: tuple[int, ...]) -> None:
    assert choose_versions((9, 1, 3), policy, "m")[0] == chosen


def test_a_missing_specific_version_is_a_warning(repository: Path) -> None:
    text = PBTXT + "version_policy { specific { versions: [ 1, 8 ] } }"
    loaded = read_model(write_model(repository / "m", {"config.pbtxt": text, "1/": None}))
    assert loaded.versions == (1,)
    assert loaded.warnings == (
        "version 8 is specified for model 'm', but the version directory is not present",
    )


def test_only_whole_numbers_are_versions(repository: Path) -> None:
    names = ["1", "0", "01", "1abc", "-1", "latest", "²", "9223372036854775808", "9" * 5000]
    kept = ["warmup", "configs", "initial_state", ".git", "__pycache__"]
    names = [name for name in names if len(name) < 255]
    folder = write_model(repository / "m", {f"{name}/": None for name in names + kept})
    (folder / "7").write_text("a file")
    found = find_versions(folder)
    assert sorted(found.folders) == [0, 1]
    ignored = {warning.split("'")[1] for warning in found.warnings}
    assert ignored == set(names) - {"0", "1"}


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            {"config.pbtxt": PBTXT, "9223372036854775808/": None},
            "at least one version must be available under the version policy of model 'm'",
        ),
        (
            {"config.pbtxt/": None, "1/": None},
            "failed to open text file for read {folder}/config.pbtxt: Is a directory",
        ),
        (
            {"config.pbtxt": PBTXT + "model_repository_agents { }", "1/": None},
            "model_repository_agents must specify at least one agent for m",
        ),
        (
            {"config.pbtxt": PBTXT + 'default_model_filename: "../../n/1/x"', "1/": None},
            "default_model_filename '../../n/1/x' of model 'm' leads out of its version folder",
        ),
        ({"config.pbtxt": {"b64": "YQD/"}, "1/": None}, "not UTF-8 text"),
        ({"config.pbtxt": "{" * 100_000, "1/": None}, "failed to read text proto from"),
        ({"config.json": "[" * 100_000, "1/": None}, "failed to read JSON from"),
        ({"config.yaml": "[" * 20_000, "1/": None}, "failed to read YAML from"),
        ({"config.json": "[]", "1/": None}, "expected a mapping"),
        ({"config.yaml": "- a", "1/": None}, "expected a mapping"),
    ],
    ids=["version too big", "config is a folder", "agents", "model file", "binary", "deep",
         "deep JSON", "deep YAML", "a list", "a YAML list"],
)  # fmt: skip
def test_a_broken_folder_is_a_clear_error(
    files: dict[str, Any], text: str, repository: Path
) -> None:
    error = refused(write_model(repository / "m", files))
    assert text.replace("{folder}", str(repository / "m")) in error.message


def test_a_file_that_cannot_be_read_is_a_clear_error(repository: Path) -> None:
    folder = write_model(repository / "m", {"1/": None})
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # socket paths are short
        try:
            listener.bind("config.pbtxt")
        finally:
            os.chdir(here)
        assert refused(folder).problems[0].code == "INTERNAL"


def test_aliases_of_aliases_are_refused(repository: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    folder = write_model(repository / "m", {"config.yaml": "\n".join(lines), "1/": None})
    assert "more than 200000 values" in refused(folder).message


def test_a_folder_that_is_not_there_is_a_clear_error(repository: Path) -> None:
    error = refused(repository / "nowhere")
    assert "failed to read model directory" in error.message


@pytest.mark.parametrize("form", ["config.yaml", "config.yml", "config.json"])
def test_other_forms_say_the_same(form: str, repository: Path) -> None:
    plain = {"backend": "identity", "max_batch_size": 4, "parameters": {"a": {"string_value": "1"}}}
    expected = read_model(
        write_model(
            repository / "one" / "m",
            {
                "config.pbtxt": PBTXT + 'parameters { key: "a" value { string_value: "1" } }',
                "1/": None,
            },
        )
    )
    files = {form: json.dumps(plain), "1/": None}
    assert read_model(write_model(repository / "m", files)).config == expected.config


def test_a_plain_yaml_word_needs_no_quotes_where_a_string_is_wanted(repository: Path) -> None:
    text = (
        "backend: python\nparameters:\n  threads: {string_value: 04}\n  on: {string_value: yes}\n"
    )
    config = read_model(write_model(repository / "m", {"config.yaml": text, "1/": None})).config
    assert dict(config.parameters) == {"threads": "04", "on": "yes"}


def test_config_pbtxt_counts_and_the_others_are_mentioned(repository: Path) -> None:
    files = {"config.pbtxt": PBTXT, "config.yaml": "max_batch_size: 8", "1/": None}
    loaded = read_model(write_model(repository / "m", files))
    assert loaded.config.max_batch_size == 4
    assert loaded.file == repository / "m/config.pbtxt"
    assert loaded.warnings == (f"ignoring {repository / 'm/config.yaml'}: config.pbtxt counts",)


def test_a_named_configuration_comes_first(repository: Path) -> None:
    files = {"config.pbtxt": PBTXT, "configs/h100.json": '{"backend": "python"}', "1/": None}
    folder = write_model(repository / "m", files)
    assert read_model(folder, config_name="h100").config.backend == "python"
    assert read_model(folder, config_name="other").config.backend == "identity"


def test_an_override_replaces_the_file(repository: Path) -> None:
    folder = write_model(repository / "m", {"config.pbtxt": "broken", "1/": None})
    text = '{"backend": "identity", "maxBatchSize": 2}'
    assert read_model(folder, override_json=text).config.max_batch_size == 2
    problem = refused(folder, override_json='{"backend": "identity",\n "max": 2}').problems[0]
    assert (problem.file, problem.line, problem.key) == ("<config override>", 2, "max")


def test_a_name_that_is_given_counts_instead_of_the_folders(repository: Path) -> None:
    folder = write_model(repository / "m", {"config.pbtxt": PBTXT, "1/": None})
    assert read_model(folder, name="other").config.name == "other"
    folder = write_model(repository / "n", {"config.pbtxt": PBTXT + "name: 'n'", "1/": None})
    assert refused(folder, name="other").message == (
        "unexpected directory name 'other' for model 'n', directory name must equal model name"
    )


def test_the_inferrer_is_asked_once_with_the_highest_version(repository: Path) -> None:
    asked: list[tuple[str, str, str]] = []

    def infer(config: ModelConfig, version_dir: Path, settings: Settings) -> ModelConfig:
        size = settings.for_backend(config.backend)["default-max-batch-size"]
        asked.append((config.backend, version_dir.name, size))
        return config.with_fields(max_batch_size=int(size), dynamic_batching={})

    files = {"2/model.onnx": "", "10/model.onnx": ""}
    folder = write_model(repository / "m", files)
    settings = Settings(backend_config={"onnxruntime": {"default-max-batch-size": "16"}})
    loaded = read_model(folder, inferrer=infer, settings=settings)
    assert asked == [("onnxruntime", "10", "16")]
    assert loaded.config.dynamic_batching is not None
    assert loaded.config.dynamic_batching.preferred_sizes == (16,)
    with pytest.raises(ConfigError):
        read_model(folder, inferrer=infer, auto_complete=False)
    assert len(asked) == 1


def test_the_inferrer_is_not_asked_about_what_is_known_to_be_wrong(repository: Path) -> None:
    def infer(config: ModelConfig, version_dir: Path, settings: Settings) -> ModelConfig:
        raise InternalError("asked")

    text = "backend: 'identity'\nmax_batch_size: -1"
    folder = write_model(repository / "m", {"config.pbtxt": text, "1/": None})
    assert "non-negative" in refused(folder, inferrer=infer).message
    folder = write_model(repository / "n", {"config.pbtxt": PBTXT, "1/": None})
    with pytest.raises(InternalError, match="asked"):
        read_model(folder, inferrer=infer)
    assert [p.code for p in check_path(folder, Request(inferrer=infer))] == ["INTERNAL"]


def test_check_looks_at_repositories_folders_and_files(repository: Path) -> None:
    write_model(repository / "good", {"config.pbtxt": PBTXT, "1/": None})
    write_model(repository / "bad", {"config.pbtxt": "backed: 'x'", "1/": None})
    write_model(repository / "worse", {"config.pbtxt": PBTXT + "what", "1/": None})
    (repository / ".hidden").mkdir()
    (repository / "README").write_text("not a model")
    files = [Path(problem.file) for problem in check_path(repository)]
    assert files == [repository / "bad/config.pbtxt", repository / "worse/config.pbtxt"]
    assert check_path(repository / "good") == []
    assert check_path(repository / "good/config.pbtxt") == []
    assert [p.line for p in check_path(repository / "bad/config.pbtxt")] == [1]


def test_check_takes_a_file_that_is_in_no_model_folder_yet(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(PBTXT + "name: 'later'")
    assert check_path(path) == []
    path.write_text(PBTXT + "dynamic_batching { preferred_batch_size: 9 }")
    assert [problem.line for problem in check_path(path)] == [3]
    other = tmp_path / "draft.yaml"
    other.write_text("max_batch: 4")
    assert [problem.line for problem in check_path(other)] == [1]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_check_says_when_there_is_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(check_path(tmp_path / name)) == 1


def test_check_joins_the_ensembles_of_a_repository(repository: Path) -> None:
    ensemble = (
        "platform: 'ensemble'\nmax_batch_size: 8\n"
        "input { name: 'A' data_type: TYPE_FP32 dims: 4 }\n"
        "output { name: 'B' data_type: TYPE_FP32 dims: 4 }\n"
        "ensemble_scheduling { step { model_name: 'm' model_version: -1\n"
        "  input_map { key: 'IN' value: 'A' }\n"
        "  output_map { key: 'OUT' value: 'B' } } }\n"
    )
    model = PBTXT + (
        "input { name: 'IN' data_type: TYPE_FP32 dims: 4 }\n"
        "output { name: 'OUT' data_type: TYPE_INT32 dims: 4 }\n"
    )
    write_model(repository / "e", {"config.pbtxt": ensemble, "1/": None})
    write_model(repository / "m", {"config.pbtxt": model, "1/": None})
    found = [(problem.line, problem.key) for problem in check_path(repository)]
    assert found == [
        (2, "max_batch_size"),
        (7, "ensemble_scheduling.step[0].output_map[OUT]"),
    ]
