# SPDX-License-Identifier: Apache-2.0
"""Refusals say where and what to do; admitted objects are completed; updates are checked."""

from __future__ import annotations

import pytest

from nerite.errors import ConfigError
from nerite.kserve.admission import Cluster, admit, admit_all
from nerite.kserve.documents import dotted, read_documents, read_files
from nerite.kserve.quantities import canonical_quantity, parse_quantity
from nerite.kserve.refusals import Refused
from nerite.kserve.resources import KINDS

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: iris
spec:
  predictor:
    model:
      modelFormat:
        name: sklearn
"""


def refusal(text: str, cluster: Cluster | None = None) -> Refused:
    (document,) = read_documents(text, "iris.yaml")
    with pytest.raises(Refused) as refused:
        admit(document, cluster or Cluster())
    return refused.value


PLACES = [
    ("a misspelt field", SERVICE + "      storageURI: s3://b\n", 10,
     "spec.predictor.model.storageURI", 'did you mean "storageUri"?'),
    ("a field one level too high", SERVICE + "    runtimeVersion: v1\n", 10,
     "spec.predictor.runtimeVersion", '"runtimeVersion" belongs under'),
    ("a field of nothing", SERVICE + "zzz: 1\n", 10, "zzz", "known here: spec"),
    ("a wrong type", SERVICE + "    minReplicas: one\n", 10, "spec.predictor.minReplicas", ""),
    ("inside a list", SERVICE + "      env:\n      - name: A\n        value: 1\n", 12,
     "spec.predictor.model.env[0].value", ""),
    ("a rule of the webhook", SERVICE + "    minReplicas: -1\n", 10,
     "spec.predictor.minReplicas", ""),
    ("an unknown kind", SERVICE.replace("InferenceService", "InferenceServise"), 2, "kind",
     "known: ClusterServingRuntime"),
    ("another version", SERVICE.replace("v1beta1", "v1alpha1"), 1, "apiVersion",
     "apiVersion: serving.kserve.io/v1beta1"),
    ("no name", SERVICE.replace("name: iris", "labels: {}"), 3, "metadata.name", ""),
]  # fmt: skip


@pytest.mark.parametrize(("case", "text", "line", "key", "fix"), PLACES, ids=[p[0] for p in PLACES])
def test_a_refusal_names_file_line_path_and_remedy(
    case: str, text: str, line: int, key: str, fix: str
) -> None:
    problem = refusal(text).problems[0]
    assert (problem.file, problem.line, problem.key) == ("iris.yaml", line, key), case
    assert fix in problem.fix


def test_all_unknown_fields_are_told_at_once() -> None:
    refused = refusal(SERVICE + "      ver: 1\n    foo: 2\n")
    assert [problem.key for problem in refused.problems] == [
        "spec.predictor.model.ver",
        "spec.predictor.foo",
    ]
    assert refused.status == 400
    assert refused.text.count("unknown field") == 2


BROKEN = [
    ("a: [1", "not YAML"),
    ("- a\n", "a Kubernetes document must be a mapping"),
    ("a: 1\nb: 2\na: 3\n", "the key 'a' stands here twice"),
    ("a: &x [*x]\n", "an anchor contains itself"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_text_that_is_no_document_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_documents(text, "x.yaml")
    assert message in str(refused.value)
    assert refused.value.problems[0].file == "x.yaml"


def test_a_merge_key_may_be_overridden() -> None:
    (document,) = read_documents("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\n")
    assert document.value["d"] == {"b": 3, "c": 2}


def test_documents_keep_dates_as_text_and_know_their_lines() -> None:
    one, two = read_documents("a: 2026-01-01\n---\n\nb:\n- c: 1\n")
    assert one.value == {"a": "2026-01-01"}
    assert two.position(("b", 0, "c")).line == 5
    assert two.position(("b", 0, "missing")).line == 5
    assert dotted(("b", 0, "c")) == "b[0].c"


def test_folders_are_read_in_the_order_of_their_names(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name in ("b.yaml", "a.yml", "c.txt"):
        (tmp_path / name).write_text(f"from: {name}\n")
    assert [d.value["from"] for d in read_files([tmp_path])] == ["a.yml", "b.yaml"]
    with pytest.raises(ConfigError, match="no such file"):
        read_files([tmp_path / "none"])


def test_every_kind_admits_its_smallest_object() -> None:
    specs = {
        "InferenceService": "predictor: {model: {modelFormat: {name: f}}}",
        "ServingRuntime": "containers: [{name: kserve-container}]",
        "ClusterServingRuntime": "containers: [{name: kserve-container}]",
        "InferenceGraph": "nodes: {root: {routerType: Sequence, steps: [{serviceName: a}]}}",
        "TrainedModel": "inferenceService: a, "
        "model: {storageUri: s3://b, framework: f, memory: 1Gi}",
        "ClusterStorageContainer": "container: {name: c}, supportedUriFormats: [{prefix: x}]",
    }
    assert set(specs) == set(KINDS)
    for name, spec in specs.items():
        version = KINDS[name].version
        text = f"apiVersion: serving.kserve.io/{version}\nkind: {name}\nmetadata: {{name: n}}\n"
        (document,) = read_documents(f"{text}spec: {{{spec}}}\n")
        resource = admit(document, Cluster())
        assert resource.namespace == ("default" if KINDS[name].namespaced else "")


def test_what_kubectl_prints_can_be_read_back() -> None:
    text = SERVICE.replace(
        "  name: iris\n",
        "  name: iris\n  uid: u\n  generation: 1\n  resourceVersion: '3'\n"
        "  creationTimestamp: 2026-01-01T00:00:00Z\n",
    )
    (document,) = read_documents(text + "status: {url: http://x}\n")
    assert admit(document, Cluster()).name == "iris"


def test_an_update_keeps_the_age_of_what_it_replaces() -> None:
    (document,) = read_documents(SERVICE)
    resource = admit(document, Cluster())
    cluster = Cluster().with_resource(resource, 5).with_resource(resource, 9)
    assert list(cluster.created.values()) == [5]


def test_credentials_may_stand_among_the_documents() -> None:
    text = SERVICE + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n"
    cluster = admit_all(read_documents(text), Cluster())
    assert ("Secret", "default", "s") in cluster.others


GRAPHS = [
    ("an unknown node", "{root: {routerType: Sequence, steps: [{nodeName: other}]}}",
     "names the node"),
    ("a cycle of two", "{root: {routerType: Sequence, steps: [{nodeName: a}]}, "
     "a: {routerType: Ensemble, steps: [{nodeName: root}]}}", "never ends: root -> a -> root"),
    ("weights", "{root: {routerType: Splitter, steps: [{serviceName: a, weight: 60}]}}",
     "should be 100"),
    ("names", "{root: {routerType: Ensemble, steps: [{name: x, serviceName: a}, "
     "{name: x, serviceName: b}]}}", 'more than one step with name "x"'),
]  # fmt: skip


@pytest.mark.parametrize(("case", "nodes", "said"), GRAPHS, ids=[g[0] for g in GRAPHS])
def test_a_graph_that_cannot_work_is_refused(case: str, nodes: str, said: str) -> None:
    head = "apiVersion: serving.kserve.io/v1alpha1\nkind: InferenceGraph\nmetadata: {name: g}\n"
    assert said in refusal(f"{head}spec: {{nodes: {nodes}}}\n").text, case


def test_a_node_that_two_steps_share_is_no_cycle() -> None:
    text = (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: InferenceGraph\nmetadata: {name: g}\nspec:\n"
        "  nodes:\n    root: {routerType: Ensemble, steps: [{nodeName: a}, {nodeName: a}]}\n"
        "    a: {routerType: Sequence, steps: [{serviceName: s}]}\n"
    )
    assert admit(read_documents(text)[0], Cluster()).name == "g"


QUANTITIES = [
    ("1", "1", 1), ("0.5", "500m", 0.5), ("1000m", "1", 1), ("2Gi", "2Gi", 2**31),
    ("1024Mi", "1Gi", 2**30), ("1.5Gi", "1536Mi", 3 * 2**29), ("1e3", "1e3", 1000),
    ("1000", "1k", 1000), ("1500M", "1500M", 1.5e9), (2, "2", 2), ("0", "0", 0), ("+1", "1", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "canonical", "value"), QUANTITIES)
def test_quantities_are_read_and_written_as_kubernetes_does(
    text: str | int, canonical: str, value: float
) -> None:
    assert canonical_quantity(text) == canonical
    assert float(parse_quantity(text)) == value
    assert parse_quantity(canonical) == parse_quantity(text)


@pytest.mark.parametrize("text", ["", "lots", "1GB", "1 Gi", "1ki", "--1", "1e", "0x1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        parse_quantity(text)
