# SPDX-License-Identifier: Apache-2.0
"""`nerite export runtime`: a cluster admits it, chooses it, and what it would run serves models."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import lightgbm
import numpy as np
import onnx
import pytest
import skops.io
import xgboost
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.serving import served

from nerite.cli.app import main
from nerite.cli.kserve_arguments import translate
from nerite.errors import InvalidArgument
from nerite.kserve.admission import admit_all
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import Document, read_documents
from nerite.kserve.explain import Explanation, explain
from nerite.kserve.export import FORMATS, Runtimes, as_json, as_yaml, manifests
from nerite.kserve.refusals import Refused

CHECKOUT = Path(__file__).parents[2]
ROWS, CLASSES = load_iris(return_X_y=True)
WANTED = Runtimes("registry.example/nerite:1")


def service(model_format: str, version: str = "", **model: Any) -> list[Document]:
    named = {"name": model_format, **({"version": version} if version else {})}
    spec = {"modelFormat": named, "protocolVersion": "v2", "storageUri": "s3://b/m", **model}
    if spec["protocolVersion"] is None:
        del spec["protocolVersion"]
    value = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "flowers"},
        "spec": {"predictor": {"model": spec}},
    }
    return read_documents(yaml.safe_dump(value))


def explained(
    documents: list[Document], wanted: Runtimes = WANTED, generation: str = "0.20"
) -> Explanation:
    runtimes = read_documents(as_yaml(manifests(wanted)))
    (found,) = explain([*runtimes, *documents], builtin_cluster(generation))
    return found


PREFERRED = Runtimes("registry.example/nerite:1", priority=4)


def every_service(generation: str) -> Iterator[tuple[list[Document], str | None]]:
    """Whatever a service can say of a format that Nerite serves, and what it gets without it."""
    for name, versions in FORMATS.items():
        for version, protocol in product(("", *versions), (None, "v1", "v2", "grpc-v2")):
            documents = service(name, version, protocolVersion=protocol)
            (alone,) = explain(documents, builtin_cluster(generation))
            yield documents, alone.chosen


@pytest.mark.parametrize("generation", ["0.20", "0.11"])
def test_services_keep_the_runtime_that_they_have_and_the_others_get_one(generation: str) -> None:
    taken = Counter[bool]()
    for documents, alone in every_service(generation):
        format_name = documents[0].value["spec"]["predictor"]["model"]["modelFormat"]["name"]
        found = explained(documents, generation=generation)
        assert (found.error, found.chosen) == (None, alone or f"nerite-{format_name}")
        taken[alone is None] += 1
    assert min(taken[True], taken[False]) > 5


@pytest.mark.parametrize("generation", ["0.20", "0.11"])
def test_with_a_priority_above_kserves_own_all_services_are_taken_over(generation: str) -> None:
    for documents, _ in every_service(generation):
        format_name = documents[0].value["spec"]["predictor"]["model"]["modelFormat"]["name"]
        found = explained(documents, PREFERRED, generation)
        assert (found.error, found.chosen) == (None, f"nerite-{format_name}")


def test_one_of_a_namespace_takes_over_whatever_its_priority() -> None:
    for protocol in (None, "v2"):
        documents = service("sklearn", protocolVersion=protocol)
        found = explained(documents, Runtimes("x", namespace="default"))
        assert found.chosen == "nerite-sklearn"


def test_two_nerites_are_admitted_side_by_side_without_priorities() -> None:
    first, second = (read_documents(as_yaml(manifests(Runtimes("x", n)))) for n in ("a", "b"))
    admit_all([*first, *second], builtin_cluster("0.20"))


def test_without_auto_selection_it_must_be_named() -> None:
    quiet = Runtimes("x", auto_select=False, priority=4)
    assert explained(service("onnx"), quiet).chosen == "kserve-tritonserver"
    assert explained(service("onnx", runtime="nerite-onnx"), quiet).chosen == "nerite-onnx"


def test_one_of_a_namespace_is_for_it_alone() -> None:
    found = explained(service("onnx"), Runtimes("x", namespace="default"))
    assert (found.chosen, found.candidates[0].scope) == ("nerite-onnx", "namespace")
    assert explained(service("onnx"), Runtimes("x", namespace="other")).chosen is not None
    other = explained(service("onnx"), Runtimes("x", namespace="other"))
    assert other.chosen == "kserve-tritonserver"


def test_a_priority_that_another_runtime_has_is_refused_by_the_cluster() -> None:
    same = read_documents(as_yaml(manifests(Runtimes("x", priority=2))))
    with pytest.raises(Refused, match="same priority assigned for the model format sklearn"):
        admit_all(same, builtin_cluster("0.20"))


def test_the_container_keeps_to_what_kserve_asks_of_an_image() -> None:
    args = ["--http_port=8080", "--workers=2", "--new"]
    found = explained(service("sklearn", args=args), PREFERRED)
    (container,) = found.containers
    assert container["ports"][0]["containerPort"] == 8080
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": 8080}
    assert "--model_name=flowers" in container["args"]
    assert container["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {"name": "nerite-tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert "PYTHONPATH" not in [variable["name"] for variable in container["env"]]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    delays = dict(re.findall(r"--(drain-delay|exit-timeout-secs)=(\d+)", str(container["args"])))
    assert sum(map(int, delays.values())) < 30


def test_knative_gets_one_port() -> None:
    for serverless, count in ((True, 1), (False, 2)):
        (first, *_) = manifests(Runtimes("x", serverless=serverless))
        assert len(first["spec"]["containers"][0]["ports"]) == count


def test_yaml_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "runtime", "--image", "r/n:1", "--name", "fast"]
    assert main([*words]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert main([*words, "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["kind"], listed["items"]) == ("List", documents)
    assert [d["metadata"]["name"] for d in documents] == [f"fast-{name}" for name in FORMATS]
    assert main([*words, "--format", "onnx", "-o", "json", "--trust"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["kind"] == "ClusterServingRuntime"
    assert one["spec"]["containers"][0]["image"] == "r/n:1"
    assert "--trust" in one["spec"]["containers"][0]["args"]
    assert json.loads(as_json(manifests(Runtimes("r/n:1", "fast", ("onnx",), trust=True)))) == one


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--format", "keras"], "--format: 'keras' is not served; triton, onnx, sklearn, xgboost"),
        (["--priority", "0"], "--priority: 0 is out of range"),
        (["-o", "toml"], "'toml'"),
    ],
)
def test_what_cannot_be_exported_is_told(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "runtime", *words]) == 1
    assert text in capsys.readouterr().err


def put_model(model_format: str, folder: Path) -> str:
    """What a storage initializer would leave at /mnt/models; the name that clients ask for."""
    if model_format == "sklearn":
        skops.io.dump(LogisticRegression(max_iter=500).fit(ROWS, CLASSES), folder / "model.skops")
    elif model_format == "xgboost":
        booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(ROWS, CLASSES), 2)
        booster.save_model(folder / "model.ubj")
    elif model_format == "lightgbm":
        options = {"verbosity": -1, "num_threads": 1}
        trained = lightgbm.train(options, lightgbm.Dataset(ROWS, CLASSES), 2)
        trained.save_model(folder / "model.txt")
    elif model_format == "onnx":
        onnx.save(doubling(), folder / "model.onnx")
    else:
        (folder / "doubling/1").mkdir(parents=True)
        onnx.save(doubling(), folder / "doubling/1/model.onnx")
        return "doubling"
    return "flowers"


def doubling() -> onnx.ModelProto:
    made = onnx.helper
    sides = [
        made.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4])
        for name in ("input-0", "output-0")
    ]
    node = made.make_node("Add", ["input-0", "input-0"], ["output-0"])
    graph = made.make_graph([node], "doubling", sides[:1], sides[1:])
    return made.make_model(graph, opset_imports=[made.make_opsetid("", 17)], ir_version=8)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("model_format", FORMATS)
def test_what_the_cluster_would_run_serves_the_model(model_format: str, tmp_path: Path) -> None:
    name = put_model(model_format, tmp_path)
    asked = service(model_format, args=["--http_port=0"])
    (container,) = explained(asked, PREFERRED).containers
    words = [*container["command"], *container["args"]]
    local = [word.replace("/mnt/models", str(tmp_path)) for word in words]
    assert local[0] == "nerite"
    free = ["--grpc_port=0", "--metrics-port=0", "--http-address=127.0.0.1", "--drain-delay=0"]
    with served([sys.executable, "-m", *local, *free]) as shown:
        url = shown.partition("try: curl ")[2].split("/v2")[0]
        with urlopen(f"{url}{container['readinessProbe']['httpGet']['path']}", timeout=10) as reply:
            assert reply.status == 200
        tensor = {"name": "input-0", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        body = json.dumps({"inputs": [tensor]}).encode()
        with urlopen(Request(f"{url}/v2/models/{name}/infer", body), timeout=10) as reply:
            answer = json.load(reply)
        body = json.dumps({"instances": [[1, 2, 3, 4]]}).encode()
        with urlopen(Request(f"{url}/v1/models/{name}:predict", body), timeout=10) as reply:
            over_v1 = json.load(reply)
    assert np.ravel(over_v1["predictions"]).tolist() == answer["outputs"][0]["data"]
    assert answer["model_name"] == name
    assert np.isfinite(answer["outputs"][0]["data"]).all()


def test_the_arguments_are_all_known(tmp_path: Path) -> None:
    for model_format in FORMATS:
        folder = tmp_path / model_format
        folder.mkdir()
        put_model(model_format, folder)
        (runtime,) = manifests(Runtimes("x", formats=(model_format,), trust=True))
        args = runtime["spec"]["containers"][0]["args"]
        made = translate([word.replace("/mnt/models", str(folder)) for word in args])
        assert not made.warnings


def test_the_image_has_what_the_runtimes_need_and_is_not_root() -> None:
    recipe = (CHECKOUT / "deploy/Dockerfile").read_text()
    extras = re.search(r"^ARG EXTRAS=(.+)$", recipe, re.M)
    assert extras is not None
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    assert {"onnx", "sklearn", "xgboost", "lightgbm"} <= set(extras[1].split(","))
    assert re.search(r"^USER 1000:1000$", recipe, re.M)
    assert 'ENTRYPOINT ["nerite"]' in recipe


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        Runtimes("x", formats=("keras",))
