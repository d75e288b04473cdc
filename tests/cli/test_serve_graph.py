"""`nerite serve --graph`: graphs of a file, whose services are models of the server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.server.graphs import rows, write_identity, write_python
from tests.serving import FREE_PORTS, started

from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import ConfigError, InvalidArgument
from nerite.kserve.graphs import own_graphs

HEAD = """apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: %s}
spec:
  nodes:
    root:
      routerType: Sequence
      steps:
"""
CHAIN = (
    HEAD % "chain"
    + """      - {serviceName: plus, name: first}
      - {serviceName: later, name: second, data: $response, mapPredictionsToInstances: true}
"""
)
RAW = (
    HEAD % "raw, namespace: team"
    + """      - {serviceUrl: /v2/models/first/infer}
      - {serviceUrl: "http://elsewhere:1/x", condition: never}
"""
)
V2_SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: plus}
spec: {predictor: {model: {modelFormat: {name: onnx}, protocolVersion: v2, storageUri: "gs://a"}}}
"""


def post(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or "null")
    except urllib.error.HTTPError as why:
        with why:
            return why.code, json.load(why)


def test_graphs_answer_and_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_python(models, "plus", "x + 1")
    write_identity(models, "first")
    (tmp_path / "graphs.yaml").write_text(f"{CHAIN}---\n{RAW}")
    words = [sys.executable, "-m", "nerite", "serve", str(models), "--graph", "graphs.yaml"]
    words += ["--model-control-mode=explicit", "--load-model=*"]
    with started([*words, *FREE_PORTS], tmp_path, subprocess.STDOUT) as (_, shown):
        missing = "graph 'default/chain', node 'root', step 'second': no model repository has the"
        assert f"{missing} model 'later'" in shown
        assert shown.count("no model repository has") == 1
        # The log and the table both tell where.
        urls = dict(re.findall(r"^(default/chain|team/raw) +(http://\S+)$", shown, re.MULTILINE))
        assert urls.keys() == {"default/chain", "team/raw"}
        assert all(f"graph '{name}' at {url}" in shown for name, url in urls.items())
        status, told = post(urls["default/chain"], rows(1))
        assert (status, told) == (404, {"error": "Model with name later does not exist."})
        write_python(models, "later", "x * 10")
        server = urls["default/chain"].partition("/graphs/")[0]
        assert post(f"{server}/v2/repository/models/later/load", {})[0] == 200
        assert post(urls["default/chain"], rows(1)) == (200, {"predictions": [[20.0]]})
        tensor = {"name": "A", "datatype": "FP32", "shape": [1, 1], "data": [5]}
        status, told = post(urls["team/raw"], {"inputs": [tensor]})
        assert (status, told["outputs"][0]["data"]) == (200, [5.0])


def test_services_of_the_file_say_by_which_protocol_models_are_asked(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(f"{CHAIN}---\n{V2_SERVICE}")
    (graph,) = own_graphs([file])
    steps = json.loads(graph.definition)["nodes"]["root"]["steps"]
    assert [step["serviceUrl"] for step in steps] == [
        "/v2/models/plus/infer",
        "/v1/models/later:predict",
    ]
    assert graph.asked == (("root", "first", "plus"), ("root", "second", "later"))


def test_headers_are_told_as_kserves_router_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "graph.yaml").write_text(CHAIN)
    monkeypatch.setenv("PROPAGATE_HEADERS", "^X-Team$,Authorization")
    chosen = choose({"--graph": [str(tmp_path / "graph.yaml")]})
    (graph,) = server_options(["models"], chosen).graphs
    assert json.loads(graph.definition)["propagateHeaders"] == ["^X-Team$", "Authorization"]


def test_mistakes_are_told_with_file_line_and_path(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(RAW.replace("/v2/models/first/infer", "/v2/models/first"))
    with pytest.raises(ConfigError) as told:
        own_graphs([file])
    text = str(told.value.problems[0])
    assert f"{file}:9" in text
    assert "spec.nodes.root.steps[0].serviceUrl" in text
    assert "no path of a model or graph here" in text
    assert "/v2/models/NAME/infer" in text
    file.write_text(V2_SERVICE)
    with pytest.raises(InvalidArgument, match=r"graph\.yaml has no InferenceGraph"):
        own_graphs([file])
    with pytest.raises(ConfigError, match="cannot be read: file name too long"):
        own_graphs(["x" * 5000])
    with pytest.raises(ConfigError, match="no such file"):
        own_graphs([tmp_path / "none.yaml"])
    file.write_text(CHAIN)
    chosen = choose({"--graph": [str(file)], "--allow-http": "false"})
    with pytest.raises(InvalidArgument, match="needs the HTTP port"):
        server_options(["models"], chosen)
