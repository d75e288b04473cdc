# SPDX-License-Identifier: Apache-2.0
"""`nerite explain`: the whole decision for some files, as data and as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nerite.errors import InvalidArgument
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import read_documents
from nerite.kserve.explain import as_json, as_text, explain, explain_files
from nerite.kserve.refusals import Refused

HEAD = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: %s}\n"
IRIS = HEAD % "iris" + (
    "spec: {predictor: {model: {modelFormat: {name: sklearn}, protocolVersion: v2, "
    "storageUri: s3://b/iris}}}\n"
)
FLOW = HEAD % "flow" + "spec: {predictor: {mlflow: {}}}\n"
MLFLOW = HEAD % "flow" + "spec: {predictor: {model: {modelFormat: {name: mlflow}}}}\n"
CUSTOM = HEAD % "own" + "spec: {predictor: {containers: [{image: 'a:1', command: [serve]}]}}\n"


def test_json_has_the_documented_keys_and_only_plain_values() -> None:
    found = as_json(explain(read_documents(IRIS), builtin_cluster()))
    assert json.loads(json.dumps(found)) == found
    (iris,) = found
    assert list(iris) == [
        "name", "namespace", "chosen", "error", "candidates", "defaulted", "containers",
    ]  # fmt: skip
    assert (iris["name"], iris["namespace"]) == ("iris", "default")
    assert (iris["chosen"], iris["error"]) == ("kserve-mlserver", None)
    assert iris["defaulted"]["metadata"]["annotations"]["modelFormat"] == "sklearn"
    assert iris["containers"][0]["env"][0] == {"name": "MLSERVER_MODEL_NAME", "value": "iris"}
    outcomes = {c["runtime"]: c["outcome"] for c in iris["candidates"]}
    assert len(outcomes) == 14
    assert outcomes["kserve-mlserver"] == "chosen"
    assert outcomes["kserve-sklearnserver"] == "eligible"
    assert outcomes["kserve-tritonserver"] == "rejected"
    assert set(iris["candidates"][0]) == {"runtime", "scope", "outcome", "reason"}


def test_a_service_without_a_runtime_carries_kserves_error() -> None:
    (flow,) = as_json(explain(read_documents(MLFLOW), builtin_cluster()))
    error = "no runtime found to support predictor with model type: {mlflow <nil>}"
    assert (flow["chosen"], flow["error"], flow["containers"]) == (None, error, [])


def test_a_custom_predictor_needs_no_runtime() -> None:
    (own,) = as_json(explain(read_documents(CUSTOM), builtin_cluster()))
    assert (own["chosen"], own["error"], own["candidates"]) == (None, None, [])
    assert own["containers"][0]["name"] == "kserve-container"


def test_runtimes_may_stand_after_the_service_and_files_in_any_order(tmp_path: Path) -> None:
    runtime = (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: ServingRuntime\nmetadata: {name: mine}\n"
        "spec: {supportedModelFormats: [{name: sklearn, autoSelect: true}], "
        "containers: [{name: kserve-container, image: 'me:1'}]}\n"
    )
    (tmp_path / "b.yaml").write_text(runtime)
    (tmp_path / "a.yaml").write_text(IRIS + "---\n" + MLFLOW)
    iris, flow = explain_files([tmp_path])
    assert (iris.chosen, flow.chosen) == ("mine", None)
    assert [e.chosen for e in explain_files([tmp_path / "a.yaml"], "none")] == [None, None]


def test_the_generation_of_built_in_runtimes_decides() -> None:
    text = HEAD % "x" + "spec: {predictor: {xgboost: {storageUri: s3://b}}}\n"
    versioned = text.replace("xgboost: {", "model: {modelFormat: {name: xgboost, version: '1'}, ")
    chosen = {
        generation: explain(read_documents(versioned), builtin_cluster(generation))[0].chosen
        for generation in ("0.20", "0.11")
    }
    assert chosen == {"0.20": None, "0.11": "kserve-xgbserver"}
    with pytest.raises(InvalidArgument, match=r"known: 0\.20, 0\.11, none"):
        builtin_cluster("0.19")


def test_text_shows_verdict_reasons_hints_and_command() -> None:
    text = as_text(explain(read_documents(f"{IRIS}---\n{MLFLOW}---\n{CUSTOM}"), builtin_cluster()))
    for line in (
        "default/iris: runs on kserve-mlserver",
        "after kserve-mlserver: priority 1 against 2",
        "  runs kserve-container: docker.io/seldonio/mlserver:1.7.1",
        "default/flow: cannot run: no runtime found",
        "hint: set protocolVersion: v2 on the model",
        "default/own: runs its own container; no runtime is selected",
        "    serve",
    ):
        assert line in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_text_left_alone_by_the_template_language_is_warned_of() -> None:
    text = IRIS.replace("protocolVersion: v2", "args: ['{{ messages }}']")
    (iris,) = explain(read_documents(text), builtin_cluster())
    assert iris.containers[0]["args"][-1] == "{{ messages }}"
    assert "warning: left as it is" in as_text([iris])


def test_a_file_a_cluster_would_refuse_is_refused() -> None:
    with pytest.raises(Refused, match='unknown field "mlflow"'):
        explain(read_documents(FLOW), builtin_cluster())
