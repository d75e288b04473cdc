"""What Triton 2.51 answered for some 300 model folders, replayed.

A case agrees when the model loads with the same completed configuration and metadata, or is
refused with the same text as the first problem. Every case that does not is listed below with its
reason; a listed case that begins to agree fails, so that the lists stay true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.model_folders import write_model

from nerite.config import ModelConfig, Settings
from nerite.config.inspection import join_all
from nerite.config.read import Examined, Request, examine

from .conftest import VECTORS, theme

# Decided by other rooms: the configuration is accepted here, and a backend (or the registry of
# backends) refuses the model later, or completes what only it can know.
IDENTITY = "the identity backend refuses this before the server looks at tensors"
ABSENT = "no such backend: the registry of backends says so"
ONNX = "needs the ONNX file read: replayed where the onnxruntime backend is tested"
PYTHON = "needs model.py run: replayed where the Python backend is tested"
ELSEWHERE = {
    "be_unknown": ABSENT,
    "be_file_tensorrt_plan": ABSENT,
    "be_file_pytorch_libtorch": ABSENT,
    "be_tensorflow_savedmodel": ABSENT,
    "be_tensorflow_graphdef": ABSENT,
    "be_file_openvino": ABSENT,
    "be_suffix_none.nosuch": ABSENT,
    "be_case": ABSENT,
    "be_runtime_missing": ABSENT,
    "be_runtime_escape": ABSENT,
    "be_model_lib": ABSENT,
    "be_platform_onnx": ONNX,
    "be_two_files": ONNX,
    "cn_onnx": ONNX,
    "ig_onnx_default": ONNX,
    "ig_model": IDENTITY,
    "io_no_type": IDENTITY,
    "io_out_no_name": IDENTITY,
    "io_out_no_type": IDENTITY,
    "io_out_dim_zero": IDENTITY,
    "rs_scalar_out_nb": IDENTITY,
    "rs_out_bad_size": IDENTITY,
    "rs_only_in": IDENTITY,
    "fa_py_no_file": PYTHON,
    "wu_failing": PYTHON,
}
# Whole themes of which only some cases can be decided without the backend.
BACKEND_THEMES = {
    "onnx_autocomplete": ONNX,
    "onnx_default_batch": ONNX,
    "onnx_default_batch_1": ONNX,
    "onnx_no_autocomplete": ONNX,
    "python_autocomplete": PYTHON,
    "python_no_autocomplete": PYTHON,
}
# Where we answer something else on purpose.
DIFFERENT = {
    "be_file_pt2": "model.pt2 is known since 2.73",
    "tl_model_metrics_nofamily": "model_metrics is known since 2.73",
    "io_dup_input": "defect: two inputs of one name are refused",
    "io_type_number_unknown": "Triton answers 'attempt to access JSON non-string as string'",
    "io_label_outside": "a label file has to lie in the model folder",
    "fa_version_too_big": "defect: ends Triton's process",
    "fa_config_is_dir": "defect: ends Triton's process",
}
THEMES = sorted(path.stem for path in VECTORS.glob("*.json"))
CASES = [
    pytest.param(name, case, id=case["id"]) for name in THEMES for case in theme(name)["cases"]
]


def request_of(flags: list[str]) -> Request:
    """The server flags of a theme, as far as they concern configurations."""
    values = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
    name, _, count = values.get("rate-limit-resource", "").partition(":")
    return Request(
        auto_complete="disable-auto-complete-config" not in values,
        config_name=values.get("model-config-name"),
        settings=Settings(
            rate_limit=values.get("rate-limit") == "execution_count",
            rate_limit_resources={name: int(count)} if name else {},
        ),
    )


def replay(name: str, case: dict[str, Any], repository: Path) -> Examined:
    """The case's model folder, examined among the models it needs."""
    head = theme(name)
    request = request_of(head["flags"])
    others = {**head.get("helpers", {}), **case.get("needs", {})}
    models = {other: write_model(repository / other, files) for other, files in others.items()}
    models[case["id"]] = write_model(repository / case["id"], case["files"])
    found = {model: examine(folder, request) for model, folder in models.items()}
    join_all(found)
    return found[case["id"]]


def literals(expect: dict[str, Any], repository: Path) -> Iterator[str]:
    """The texts with which Triton refused the model, without what its log adds."""
    reasons = [entry["reason"] for entry in expect.get("index", []) if "reason" in entry]
    log = expect.get("log", {})
    for text in (*reasons, *filter(None, [log.get("poll")]), *log.get("other", [])[:1]):
        plain = text.replace("{repo}", str(repository))
        yield re.sub(r"^failed to load model '[^']*': ", "", plain)


def told(found: Examined) -> str:
    """The first problem, as the reason of an unavailable model."""
    first = found.problems[0]
    label = {"INTERNAL": "Internal", "INVALID_ARG": "Invalid argument"}[first.code]
    return f"{label}: {first.message}"


def is_ready(expect: dict[str, Any]) -> bool:
    return any(entry.get("state") == "READY" for entry in expect.get("index", []))


def disagreement(name: str, case: dict[str, Any], repository: Path) -> str:
    """What differs from the recorded answer; empty when nothing does."""
    expect = case["expect"]
    found = replay(name, case, repository)
    if not is_ready(expect):
        wanted = list(literals(expect, repository))
        if not found.problems:
            return f"accepted; Triton says {wanted}"
        refused = bool(wanted) and all(text in told(found) for text in wanted)
        return "" if refused else f"told {told(found)!r}; Triton says {wanted}"
    if found.problems or found.config is None:
        return f"refused: {found.problems}"
    served = [str(version) for version in found.versions]
    if served != [entry["version"] for entry in expect["index"]]:
        return f"serves {served}"
    if "error" in expect["config"]:  # a name with blanks: an answer of the HTTP server
        return ""
    if json.loads(found.config.to_json()) != expect["config"]:
        return f"completed to {found.config.to_json()}"
    metadata = found.config.to_metadata(found.versions)
    return "" if metadata == expect["metadata"] else f"metadata {metadata}"


def is_backends(name: str, case: dict[str, Any]) -> bool:
    return name in BACKEND_THEMES or ELSEWHERE.get(case["id"]) in (ONNX, PYTHON)


OURS = [case for case in CASES if case.values[0] not in BACKEND_THEMES]
COMPLETED = [
    case
    for case in CASES
    if is_backends(*case.values) and is_ready(case.values[1]["expect"])
]  # fmt: skip
REFUSED = [
    case
    for case in CASES
    if case.values[0] in BACKEND_THEMES and not is_ready(case.values[1]["expect"])
]


@pytest.mark.parametrize(("name", "case"), OURS)
def test_a_folder_is_answered_as_recorded(
    name: str, case: dict[str, Any], repository: Path
) -> None:
    different = disagreement(name, case, repository)
    listed = ELSEWHERE.get(case["id"]) or DIFFERENT.get(case["id"])
    if listed:
        assert different, f"agrees now; take it off the list ({listed})"
    else:
        assert different == ""


@pytest.mark.parametrize(("name", "case"), COMPLETED)
def test_what_a_backend_infers_completes_to_what_was_recorded(
    name: str, case: dict[str, Any], repository: Path
) -> None:
    """Given only tensors, batch size and scheduler by a backend, the rest is the server's work."""
    expected = case["expect"]["config"]
    asked: list[Path] = []

    def infer(config: ModelConfig, version_dir: Path, settings: Settings) -> ModelConfig:
        asked.append(version_dir)
        found = {key: expected[key] for key in ("input", "output", "max_batch_size")}
        if "dynamic_batching" in expected and config.dynamic_batching is None:
            found["dynamic_batching"] = {}
        return config.with_fields(**found)

    folder = write_model(repository / case["id"], case["files"])
    request = replace(request_of(theme(name)["flags"]), inferrer=infer)
    found = examine(folder, request)
    assert found.problems == []
    assert found.config is not None
    assert json.loads(found.config.to_json()) == expected
    assert asked == ([folder / "1"] if request.auto_complete else [])


@pytest.mark.parametrize(("name", "case"), REFUSED)
def test_only_the_backend_refuses_what_only_it_can_know(
    name: str, case: dict[str, Any], repository: Path
) -> None:
    """What Triton found while polling is found here; what the backend found is not guessed at."""
    found = replay(name, case, repository)
    if "log" in case["expect"]:
        assert disagreement(name, case, repository) == ""
    else:
        assert found.problems == []


def test_every_listed_case_is_there() -> None:
    known = {case["id"] for name in THEMES for case in theme(name)["cases"]}
    assert known >= ELSEWHERE.keys() | DIFFERENT.keys()


def test_every_defect_is_listed() -> None:
    marked = {
        case["id"]
        for name in THEMES
        if name not in BACKEND_THEMES
        for case in theme(name)["cases"]
        if "defect" in case
    }
    # Vanishing from the index is the models' room; the refusal itself is right.
    assert marked - {"vp_none", "vp_none_noconfig"} <= ELSEWHERE.keys() | DIFFERENT.keys()
