# SPDX-License-Identifier: Apache-2.0
"""Which runtime is chosen, in what order the others stand, and what each lacked."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from nerite.kserve.admission import Cluster, admit
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import read_documents
from nerite.kserve.resources import Resource
from nerite.kserve.selection import Selection, select_runtime

# The table of kserve.md 1.4; columns: protocol unset, v2, grpc-v1, grpc-v2. An eligible runtime
# follows the chosen one.
TABLE_0_20 = {
    "sklearn": ("sklearnserver", "mlserver sklearnserver", "", ""),
    "xgboost": ("xgbserver", "mlserver xgbserver", "", ""),
    "lightgbm": ("lgbserver", "mlserver lgbserver", "", ""),
    "mlflow": ("", "mlserver", "", ""),
    "tensorflow": ("tensorflow-serving", "tritonserver", "tensorflow-serving", "tritonserver"),
    "pytorch": ("torchserve", "torchserve", "", "torchserve"),
    "onnx": ("", "tritonserver", "", "tritonserver"),
    "tensorrt": ("", "tritonserver", "", "tritonserver"),
    "triton": ("tritonserver", "tritonserver", "", "tritonserver"),
    "pmml": ("pmmlserver", "pmmlserver", "", ""),
    "paddle": ("paddleserver", "paddleserver", "", ""),
    "huggingface": ("huggingfaceserver", "huggingfaceserver", "", ""),
    "vLLM": ("vllmserver", "vllmserver", "vllmserver", "vllmserver"),
    "autogluon": ("autogluonserver", "autogluonserver", "", ""),
}
TABLE_0_11 = {
    **{k: v for k, v in TABLE_0_20.items() if k not in ("huggingface", "vLLM", "autogluon")},
    "pytorch": ("torchserve", "torchserve", "torchserve", ""),
    "huggingface": ("", "", "", ""),
    "vLLM": ("", "", "", ""),
    "autogluon": ("", "", "", ""),
}
PROTOCOLS = (None, "v2", "grpc-v1", "grpc-v2")
# KServe's openvino runtime, which exists but is not installed.
OPENVINO = """
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata: {name: kserve-openvino}
spec:
  supportedModelFormats:
  - {name: openvino, version: "10", autoSelect: true, priority: 1}
  - {name: onnx, version: "1", autoSelect: true, priority: 2}
  - {name: tensorflow, version: "1", autoSelect: true, priority: 3}
  - {name: huggingface, autoSelect: true}
  protocolVersions: [v1, v2, grpc-v2]
  containers: [{name: kserve-container, image: openvino/model_server}]
"""


def with_text(cluster: Cluster, text: str, created: float = 0) -> Cluster:
    for document in read_documents(text):
        cluster = cluster.with_resource(admit(document, cluster), created)
    return cluster


def runtime(name: str, *formats: dict[str, Any], namespace: str = "", **spec: Any) -> str:
    entries = [{"autoSelect": True, **f} for f in formats] or [{"name": "f", "autoSelect": True}]
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    body = {"protocolVersions": ["v1", "v2"], **spec, "supportedModelFormats": entries}
    return yaml.safe_dump({
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime" if namespace else "ClusterServingRuntime",
        "metadata": metadata,
        "spec": {**body, "containers": [{"name": "kserve-container", "image": "a"}]},
    })  # fmt: skip


def select(cluster: Cluster, format_name: str, worker: bool = False, **model: Any) -> Selection:
    version = model.pop("version", None)
    wanted = {"name": format_name} | ({} if version is None else {"version": version})
    predictor: dict[str, Any] = {"model": {"modelFormat": wanted, **model}}
    if worker:
        predictor["workerSpec"] = {}
    return select_runtime(predictor, "default", cluster)


def service(text: str, cluster: Cluster) -> Resource:
    (document,) = read_documents(text)
    return admit(document, cluster)


def names(selection: Selection) -> str:
    """The chosen runtime, then the eligible ones, without KServe's prefix."""
    usable = [c for c in selection.candidates if c.outcome != "rejected"]
    assert [c.outcome for c in usable[:1]] == (["chosen"] if selection.chosen else [])
    return " ".join(c.runtime.name.removeprefix("kserve-") for c in usable)


def reason(selection: Selection, name: str) -> str:
    return next(c.reason for c in selection.candidates if c.runtime.name == name)


@pytest.mark.parametrize("generation", ["0.20", "0.11"])
def test_the_shipped_runtimes_are_chosen_as_in_kserves_table(generation: str) -> None:
    table = TABLE_0_20 if generation == "0.20" else TABLE_0_11
    cluster = builtin_cluster(generation)
    for format_name, row in table.items():
        for protocol, expected in zip(PROTOCOLS, row, strict=True):
            line = f"\n      protocolVersion: {protocol}" if protocol else ""
            text = (
                "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
                "metadata: {name: m}\nspec:\n  predictor:\n    model:\n"
                f"      modelFormat: {{name: {format_name}}}{line}\n"
            )
            predictor = service(text, cluster).spec["predictor"]
            found = select_runtime(predictor, "default", cluster)
            assert names(found) == expected, (format_name, protocol)


@pytest.mark.parametrize(
    ("format_name", "protocol", "first"),
    [
        ("tensorflow", "v1", "openvino tensorflow-serving"),
        ("tensorflow", "v2", "openvino tritonserver"),
        ("tensorflow", "grpc-v2", "openvino tritonserver"),
        ("onnx", "v1", "openvino"),
        ("onnx", "v2", "openvino tritonserver"),
        ("onnx", "grpc-v2", "openvino tritonserver"),
        ("huggingface", "v2", "huggingfaceserver openvino"),
    ],
)
def test_openvino_takes_its_formats_where_it_is_installed(
    format_name: str, protocol: str, first: str
) -> None:
    cluster = with_text(builtin_cluster(), OPENVINO)
    assert names(select(cluster, format_name, protocolVersion=protocol)) == first


@pytest.mark.parametrize(
    ("asked", "entry", "chosen"),
    [
        (None, "1.3", True),
        ("1.3", "1.3", True),
        ("1", "1.3", False),
        ("1.30", "1.3", False),
        ("1", None, False),
        (None, None, True),
        ("", None, False),
        ("", "1", False),
    ],
)
def test_versions_are_compared_as_text(asked: str | None, entry: str | None, chosen: bool) -> None:
    format_entry = {"name": "f"} | ({} if entry is None else {"version": entry})
    cluster = with_text(Cluster(), runtime("rt", format_entry))
    assert (select(cluster, "f", version=asked).chosen is not None) == chosen


def test_a_name_with_a_colon_reads_as_name_and_version() -> None:
    cluster = with_text(Cluster(), runtime("rt", {"name": "f", "version": "2"}))
    assert names(select(cluster, "f:2")) == "rt"


ORDERS = [
    ("a larger priority wins", "b a", [
        (runtime("a", {"name": "f", "priority": 1}), 0),
        (runtime("b", {"name": "f", "priority": 2}), 0)]),
    ("any priority beats none", "b a", [
        (runtime("a"), 0), (runtime("b", {"name": "f", "priority": 1}), 0)]),
    ("of equal priority, the lowest protocol", "b a", [
        (runtime("a", protocolVersions=["v2", "grpc-v1"]), 5),
        (runtime("b", protocolVersions=["v2", "v1"]), 0)]),
    ("then no protocol list comes last", "b a", [
        (runtime("a", protocolVersions=[]), 5), (runtime("b"), 0)]),
    ("then the newest", "b a", [(runtime("a"), 1), (runtime("b"), 2)]),
    ("then the name", "a b", [(runtime("b"), 1), (runtime("a"), 1)]),
    ("a namespaced one before all of the cluster", "b a", [
        (runtime("a", {"name": "f", "priority": 9}), 0), (runtime("b", namespace="default"), 0)]),
    ("the priority of the first entry of the name counts", "b a", [
        (runtime("a", {"name": "f", "version": "1"}, {"name": "f", "version": "2", "priority": 9}),
         0),
        (runtime("b", {"name": "f", "priority": 1}), 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "expected", "runtimes"), ORDERS, ids=[o[0] for o in ORDERS])
def test_candidates_stand_in_kserves_order(
    rule: str, expected: str, runtimes: list[tuple[str, float]]
) -> None:
    for order in (runtimes, runtimes[::-1]):
        cluster = Cluster()
        for text, created in order:
            cluster = with_text(cluster, text, created)
        assert names(select(cluster, "f", protocolVersion="v2")) == expected, rule


REJECTIONS = [
    ("disabled", runtime("rt", disabled=True), {}, "it is disabled"),
    ("multi-model", runtime("rt", multiModel=True), {},
     'multi-model runtime (multiModel: true); hint: multi-model runtimes are never chosen'),
    ("another format", runtime("rt", {"name": "g"}), {}, 'does not support the format "f"'),
    ("another case", runtime("rt", {"name": "F"}), {}, 'hint: format names are compared by case: '
     'write "F"'),
    ("no autoSelect", runtime("rt", {"name": "f", "autoSelect": False}), {},
     'without autoSelect; hint: add autoSelect: true to that entry of rt'),
    ("another version", runtime("rt", {"name": "f", "version": "1.3"}), {"version": "1"},
     'does not support version "1" of "f"; hint: versions are compared as text, and it has "1.3"'),
    ("an entry without version", runtime("rt"), {"version": "1"},
     "hint: its entry has no version"),
    ("only v2, protocol unset", runtime("rt", protocolVersions=["v2", "grpc-v2"]), {},
     "(v2, grpc-v2); hint: set protocolVersion: v2 on the model"),
    ("another protocol", runtime("rt"), {"protocolVersion": "grpc-v1"},
     "it does not speak grpc-v1 (v1, v2)"),
    ("one node, several asked", runtime("rt"), {"worker": True}, "it is for one node"),
    ("several nodes, one asked",
     runtime("rt", workerSpec={"containers": [{"name": "worker-container", "image": "w"}]}), {},
     "hint: add workerSpec: {}"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("trap", "text", "asked", "said"), REJECTIONS, ids=[r[0] for r in REJECTIONS]
)
def test_each_trap_is_named_with_a_hint(
    trap: str, text: str, asked: dict[str, Any], said: str
) -> None:
    found = select(with_text(Cluster(), text), "f", **asked)
    assert found.chosen is None, trap
    assert said in reason(found, "rt")
    assert found.failure is not None
    assert found.failure.reason == "NoSupportingRuntime"
    version = asked.get("version", "<nil>")
    text = f"no runtime found to support predictor with model type: {{f {version}}}"
    assert found.failure.error == text


NAMED = [
    ("there is none", "other", runtime("rt"), {}, "RuntimeNotRecognized",
     "No ServingRuntimes or ClusterServingRuntimes with the name: other"),
    ("the empty name", "", runtime("rt"), {}, "RuntimeNotRecognized",
     "No ServingRuntimes or ClusterServingRuntimes with the name: "),
    ("disabled", "rt", runtime("rt", disabled=True), {}, "RuntimeDisabled",
     "specified runtime rt is disabled"),
    ("another protocol", "rt", runtime("rt"), {"protocolVersion": "grpc-v1"},
     "NoSupportingRuntime",
     "specified runtime rt does not support specified protocol version"),
    ("another format", "rt", runtime("rt", {"name": "g"}), {}, "NoSupportingRuntime",
     "specified runtime rt does not support specified framework/version"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "name", "text", "asked", "why", "error"), NAMED, ids=[n[0] for n in NAMED]
)
def test_a_named_runtime_is_refused_in_kserves_words(
    case: str, name: str, text: str, asked: dict[str, Any], why: str, error: str
) -> None:
    found = select(with_text(Cluster(), text), "f", runtime=name, **asked)
    assert found.failure is not None, case
    assert (found.failure.reason, found.failure.error) == (why, error)


@pytest.mark.parametrize(
    "text",
    [
        runtime("rt", multiModel=True),
        runtime("rt", protocolVersions=["v2"]),
        runtime("rt", {"name": "f", "autoSelect": False}),
        runtime("rt", workerSpec={"containers": [{"name": "worker-container", "image": "w"}]}),
    ],
    ids=["multi-model", "v2 only", "no autoSelect", "several nodes"],
)
def test_a_named_runtime_needs_only_format_and_protocol(text: str) -> None:
    assert names(select(with_text(Cluster(), text), "f", runtime="rt")) == "rt"


def test_of_one_name_the_namespaced_runtime_is_meant_even_if_disabled() -> None:
    text = runtime("rt") + "---\n" + runtime("rt", namespace="default", disabled=True)
    found = select(with_text(Cluster(), text), "f", runtime="rt")
    assert found.failure is not None
    assert found.failure.reason == "RuntimeDisabled"
    assert [(c.scope, c.outcome) for c in found.candidates] == [
        ("namespace", "rejected"),
        ("cluster", "rejected"),
    ]


def test_a_runtime_of_another_namespace_is_not_seen() -> None:
    found = select(with_text(Cluster(), runtime("rt", namespace="other")), "f")
    assert found.candidates == ()
    assert found.failure is not None
