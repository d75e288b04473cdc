# SPDX-License-Identifier: Apache-2.0
"""Each story of `examples/kserve` ends as its comments say, told by `nerite explain` itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/kserve"
NONE_FOUND = "no runtime found to support predictor with model type: "
# Folder, generation of built-in runtimes, and for each service: name, runtime, error, a text that
# stands in its containers or candidates.
STORIES = [
    ("sklearn", "0.20", [("irises", "kserve-sklearnserver", None, "--model_name=irises")]),
    ("sklearn-v2", "0.20", [("irises-v2", "kserve-mlserver", None, "priority 1 against 2")]),
    ("xgboost", "0.20",
     [("house-prices", None, NONE_FOUND + "{xgboost 1}", "versions are compared as text")]),
    ("xgboost", "0.11", [("house-prices", "kserve-xgbserver", None, "--model_name=house-prices")]),
    ("lightgbm", "0.20", [("delivery-times", "kserve-lgbserver", None, '"memory": "4Gi"')]),
    ("onnx", "0.20", [
        ("digits", "kserve-tritonserver", None, "--model-store=/mnt/models"),
        ("digits-as-model", None, NONE_FOUND + "{onnx <nil>}", "set protocolVersion: v2")]),
    ("triton", "0.20", [("street-scenes", "kserve-tritonserver", None, ":24.10-py3")]),
    ("transformer", "0.20", [("doubled", "kserve-tritonserver", None, "--grpc-port=9000")]),
    ("speech", "0.20", [("speech", "kserve-tritonserver", None, "--http-port=8080")]),
    ("graph", "0.20", [("file-kinds", "kserve-tritonserver", None, "--http-port=8080")]),
    ("explainer", "0.20", [("explained", "kserve-sklearnserver", None, "--model_name=explained")]),
    ("canary", "0.20", [("ripening", "kserve-sklearnserver", None, "--model_name=ripening")]),
    ("sidecars", "0.20", [("joined", "kserve-sklearnserver", None, "--model_name=joined")]),
    ("shared", "0.20", [
        ("setosa", "kserve-sklearnserver", None, "--model_name=setosa"),
        ("virginica", "kserve-mlserver", None, "MLSERVER_MODEL_NAME")]),
    ("trained-models", "0.20", [("garden", "kserve-sklearnserver", None, "--model_dir")]),
    ("custom-container", "0.20", [("word-counter", None, None, "kserve-container")]),
    ("own-runtime", "0.20", [("churn", "house-sklearn", None, "--team=retention")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "builtin", "services"), STORIES, ids=[f"{s[0]} {s[1]}" for s in STORIES]
)
def test_the_story_ends_as_it_says(
    folder: str, builtin: str, services: list[tuple[str, str | None, str | None, str]], nerite: Any
) -> None:
    paths = [EXAMPLES / folder, *(EXAMPLES / folder).glob("*/")]
    words = [word for path in paths for word in ("-f", path)]
    ran = nerite("explain", *words, "--builtin", builtin, "--json")
    found = json.loads(ran.out)
    assert [(f["name"], f["chosen"], f["error"]) for f in found] == [s[:3] for s in services]
    for explained, (_, _, _, text) in zip(found, services, strict=True):
        assert text in json.dumps([explained["containers"], explained["candidates"]])
    assert ran.code == int(any(error for _, _, error, _ in services))


def test_every_folder_is_a_story_and_stands_in_the_readme() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    readme = (EXAMPLES / "README.md").read_text()
    assert folders == {story[0] for story in STORIES}
    assert folders == set(re.findall(r"^\| `([\w-]+)` \|", readme, re.MULTILINE))


def test_the_commands_of_the_readme_run(nerite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parents[1])
    readme = (EXAMPLES / "README.md").read_text()
    lines = re.findall(r"^nerite (.+)$", readme, re.MULTILINE)
    assert len(lines) == 3
    assert [nerite(*line.split()).code for line in lines] == [0, 0, 0]
