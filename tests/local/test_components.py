"""What an InferenceService needs running here: commands, folders, ports, and what cannot run."""

from __future__ import annotations

from typing import Any

import pytest

from nerite.kserve.admission import Cluster, admit_all
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import read_documents
from nerite.kserve.rendering import render_service
from nerite.local.components import Component, desired_components
from nerite.local.containers import Placement, expand, place
from nerite.local.stand_ins import Machine

PROGRAMS = {"python3": "/usr/bin/python3", "serve-it": "/opt/serve-it"}
MACHINE = Machine(PROGRAMS.get, "/venv/python")


def cluster_of(text: str) -> Cluster:
    return admit_all(read_documents(text, "isvc.yaml"), builtin_cluster())


def components_of(text: str, machine: Machine = MACHINE) -> list[Component]:
    cluster = cluster_of(text)
    service = cluster.of_kind("InferenceService")[0]
    rendering = render_service(service, cluster)
    found = desired_components(rendering, cluster, machine)
    # A decision is kept and asked again, so nothing of it may be used up.
    assert desired_components(rendering, cluster, machine) == found
    return found


def service(spec: str, **metadata: Any) -> str:
    head = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
    return f"{head}metadata: {{name: irises, namespace: lab, **: 0}}\nspec:\n{spec}".replace(
        "**: 0", ", ".join(f"{key}: {value}" for key, value in metadata.items()) or "labels: {}"
    )


MODEL = """
  predictor:
    model:
      modelFormat: {name: %s}
      protocolVersion: %s
      storageUri: /models/irises
      %s
"""


@pytest.mark.parametrize(
    ("format_name", "protocol", "more"),
    [
        ("sklearn", "v1", ""),
        ("sklearn", "v2", ""),
        ("xgboost", "v1", ""),
        ("lightgbm", "v2", ""),
        ("onnx", "v2", ""),
        ("triton", "grpc-v2", ""),
    ],
)
def test_nerite_stands_in_where_it_has_the_backend(
    format_name: str, protocol: str, more: str
) -> None:
    (component,) = components_of(service(MODEL % (format_name, protocol, more)))
    container = component.serving
    assert component.obstacle == ""
    assert container.argv[:5] == ("/venv/python", "-m", "nerite", "serve", "/mnt/models")
    assert container.model_name == "irises"
    assert [source.uri for source in component.sources] == ["/models/irises"]
    assert container.probe.path == "/v2/health/ready"


def test_ports_and_folders_are_put_in_at_the_start() -> None:
    (component,) = components_of(service(MODEL % ("sklearn", "v2", "")))
    placement = Placement({8080: 41001, 9000: 41002, 8002: 41003}, {"/mnt/models": "/run/m"})
    placed = place(component.serving, placement)
    assert "--http-port=41001" in placed.argv
    assert "--grpc-port=41002" in placed.argv
    assert placed.argv[4] == "/run/m"
    assert placed.environment["MLSERVER_MODEL_URI"] == "/run/m"
    assert placed.environment["PORT"] == "41001"


def test_arguments_of_the_service_reach_nerite_or_are_told() -> None:
    (triton,) = components_of(service(MODEL % ("onnx", "v2", "args: [--log-verbose=1]")))
    assert "--log-verbose=1" in triton.serving.argv
    assert triton.warnings == ()
    (sklearn,) = components_of(service(MODEL % ("sklearn", "v1", "args: [--funny, high]")))
    assert sklearn.warnings == (
        "the argument --funny=high of kserve-container has no effect on Nerite",
    )


def test_the_last_model_name_wins_and_trust_is_the_operators() -> None:
    text = service(MODEL % ("sklearn", "v1", "args: [--model_name, flowers]"))
    (component,) = components_of(text, Machine(PROGRAMS.get, "python", trust=True))
    assert component.serving.model_name == "flowers"
    assert "--trust" in component.serving.argv
    assert "--trust" not in components_of(text)[0].serving.argv


CUSTOM = """
  predictor:
    containers:
    - image: registry.example.com/counter:3
      command: [%s]
      args: ["--port=%s", "--models=/mnt/models/words"]
      env: [{name: STORAGE_URI, value: "pvc://words/3"}, {name: LEVEL, value: "$(STORAGE_URI)!"}]
"""


def test_a_program_of_this_machine_runs_as_it_is() -> None:
    (component,) = components_of(service(CUSTOM % ("serve-it", 8080)))
    placed = place(component.serving, Placement({8080: 5001}, {"/mnt/models": "/x"}))
    assert placed.argv == ("/opt/serve-it", "--port=5001", "--models=/x/words")
    assert placed.environment["STORAGE_URI"] == "/x"
    assert placed.environment["LEVEL"] == "/x!"
    assert placed.environment["INFERENCE_SERVICE_NAME"] == "irises"
    assert component.serving.fixed_ports == frozenset()
    assert component.serving.probe.kind == "tcp"


def test_a_port_that_no_argument_names_cannot_be_moved() -> None:
    (component,) = components_of(service(CUSTOM % ("serve-it", 7000)))
    assert component.serving.fixed_ports == {8080}
    assert component.warnings == ()


def test_copies_that_need_one_port_are_one_and_said_to_be() -> None:
    three = CUSTOM.replace("predictor:", "predictor:\n    minReplicas: 3")
    (moved,) = components_of(service(three % ("serve-it", 8080)))
    assert (moved.replicas, moved.warnings) == (3, ())
    (lone,) = components_of(service(three % ("serve-it", 7000)))
    assert lone.warnings == (
        "one copy runs instead of 3: container kserve-container listens on port 8080 wherever it "
        "runs; let its arguments or variables name the port, and each copy is given its own",
    )


def test_a_program_that_is_not_here_is_an_obstacle_that_says_so() -> None:
    (component,) = components_of(service(CUSTOM % ("word-counter", 8080)))
    assert component.obstacle == (
        "container kserve-container of irises-predictor runs the program 'word-counter', which is "
        "not on this machine (it is in the image registry.example.com/counter:3); install it, or "
        "give 'command' a program that is here"
    )
    assert component.containers == ()


@pytest.mark.parametrize(
    ("format_name", "protocol", "told"),
    [
        ("pmml", "v1", "or the annotation serving.kserve.io/server-type"),
        ("pytorch", "v1", "the program 'torchserve', which is not on this machine"),
        ("mlflow", "v2", "in the place of mlserver Nerite serves lightgbm, sklearn, xgboost"),
        ("tensorflow", "v1", "the program '/usr/bin/tensorflow_model_server'"),
    ],
)
def test_what_would_be_needed_is_said(format_name: str, protocol: str, told: str) -> None:
    (component,) = components_of(service(MODEL % (format_name, protocol, "")))
    assert told in component.obstacle


def test_a_model_in_an_image_needs_what_is_not_here() -> None:
    text = service(MODEL % ("sklearn", "v1", "")).replace("/models/irises", "oci://house/irises")
    assert "needs a container engine" in components_of(text)[0].obstacle


WITH_TRANSFORMER = (
    (MODEL % ("sklearn", "v1", ""))
    + """
  transformer:
    containers:
    - command: [serve-it]
"""
)


def test_a_transformer_is_told_where_its_predictor_is() -> None:
    _, transformer = components_of(service(WITH_TRANSFORMER))
    assert (transformer.role, transformer.needs) == ("transformer", "irises-predictor")
    hosts = {"irises-predictor.lab": "127.0.0.1:5001"}
    placed = place(transformer.serving, Placement({8080: 5002}, {}, hosts))
    assert placed.argv == (
        "/opt/serve-it", "--model_name", "irises", "--predictor_host", "127.0.0.1:5001",
        "--http_port", "5002",
    )  # fmt: skip


def test_canaries_share_what_is_left_by_the_stable_predictor() -> None:
    text = service(
        (MODEL % ("sklearn", "v1", ""))
        + """
  canary:
  - trafficPercent: 30
    predictor:
      name: next
      model: {modelFormat: {name: sklearn}, storageUri: /models/next}
"""
    )
    stable, canary = components_of(text)
    assert (stable.name, stable.percent) == ("irises-predictor", 70)
    assert (canary.name, canary.canary, canary.percent) == ("irises-next-predictor", "next", 30)
    assert stable.digest != canary.digest


def test_a_stopped_service_needs_nothing() -> None:
    text = service(
        MODEL % ("sklearn", "v1", ""),
        annotations='{"serving.kserve.io/stop": "true"}',
    )
    assert components_of(text) == []


def test_the_digest_changes_with_the_model_and_not_with_the_share() -> None:
    one = components_of(service(MODEL % ("sklearn", "v1", "")))[0]
    other = components_of(service((MODEL % ("sklearn", "v1", "")).replace("irises", "roses")))[0]
    again = components_of(service(MODEL % ("sklearn", "v1", "")))[0]
    assert one.digest == again.digest != other.digest


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)/$(B)", "1/$(B)"),
        ("$$(A)", "$(A)"),
        ("$A ${A}", "$A ${A}"),
    ],
)
def test_references_are_expanded_as_the_kubelet_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


@pytest.mark.parametrize(
    ("text", "placed"),
    [
        ("http://irises-predictor.lab.svc.cluster.local/v1", "http://127.0.0.1:5001/v1"),
        ("irises-predictor.lab:80", "127.0.0.1:5001"),
        ("my-irises-predictor.lab", "my-irises-predictor.lab"),
        ("0.0.0.0:8080", "0.0.0.0:5002"),
        ("18080", "18080"),
        ("/mnt/models-old/x", "/mnt/models-old/x"),
        ("--dir=/mnt/models", "--dir=/here"),
    ],
)
def test_only_whole_names_are_replaced(text: str, placed: str) -> None:
    hosts = {"irises-predictor.lab": "127.0.0.1:5001"}
    placement = Placement({8080: 5002}, {"/mnt/models": "/here"}, hosts)
    assert placement.text(text) == placed


SHARING = Machine(PROGRAMS.get, "/venv/python", shared=True)


def test_sharing_is_the_flags_unless_the_annotation_decides() -> None:
    text = MODEL % ("sklearn", "v2", "")
    found = {}
    for told in (None, "true", "false"):
        annotations = {} if told is None else {"annotations": f'{{nerite.dev/shared: "{told}"}}'}
        for machine in (MACHINE, SHARING):
            (component,) = components_of(service(text, **annotations), machine)
            found[told, machine.shared] = (component.lives_in, component.model)
    mine = ("shared", "irises")
    assert found == {
        (None, False): ("", ""), (None, True): mine,
        ("true", False): mine, ("true", True): mine,
        ("false", False): ("", ""), ("false", True): ("", ""),
    }  # fmt: skip
    odd = service(text, annotations='{nerite.dev/shared: "yes"}')
    (component,) = components_of(odd)
    assert component.lives_in == ""
    told = 'the annotation nerite.dev/shared is "yes"; known: "true", "false"'
    assert component.warnings == (told,)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("args: [--model_name=../../x]", "its model's name ('../../x') cannot be a folder's"),
        ("args: [--log-verbose=1]", "its arguments (--log-verbose=1) would be all models'"),
        ("env: [{name: OMP_NUM_THREADS, value: '4'}]", "its environment (OMP_NUM_THREADS) would"),
        ("livenessProbe: {tcpSocket: {port: 8080}}", "its livenessProbe would end all models'"),
    ],
)
def test_what_needs_a_process_of_its_own_says_why(more: str, why: str) -> None:
    (component,) = components_of(service(MODEL % ("onnx", "v2", more)), SHARING)
    assert component.lives_in == ""
    (told,) = component.warnings
    assert told.startswith(f"it has a process of its own: {why}")


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("minReplicas: 2", "minReplicas is 2"),
        ("containerConcurrency: 1", "containerConcurrency is 1"),
        ("containers: [{name: helper, command: [serve-it]}]", "its pod has 2 containers that"),
    ],
)
def test_so_does_what_the_predictor_asks_for(field: str, why: str) -> None:
    text = (MODEL % ("onnx", "v2", "")).replace("    model:", f"    {field}\n    model:")
    (component,) = components_of(service(text), SHARING)
    assert component.lives_in == ""
    assert any(f"it has a process of its own: {why}" in told for told in component.warnings)


def test_a_program_of_ones_own_never_shares() -> None:
    (component,) = components_of(service(CUSTOM % ("serve-it", 8080)), SHARING)
    assert component.lives_in == ""
    assert component.warnings == ("it has a process of its own: Nerite does not stand in for it",)


@pytest.mark.parametrize("format_name", ["sklearn", "onnx"])
def test_a_service_without_a_model_is_a_server_for_models(format_name: str) -> None:
    text = MODEL % (format_name, "v2", "")
    text = "".join(line for line in text.splitlines(True) if "storageUri" not in line)
    (component,) = components_of(service(text), SHARING)
    assert component.obstacle == ""
    assert component.hosts_models
    assert (component.lives_in, component.sources) == ("", ())
    words = component.serving.argv
    assert words.count("--model-control-mode=explicit") == 1
    assert "--strict-readiness=false" in words
    assert component.serving.model_name == ""


def test_a_program_that_says_so_is_one_too() -> None:
    text = (CUSTOM % ("serve-it", 8080)).replace(
        "env: [", "env: [{name: MULTI_MODEL_SERVER, value: 'true'}, "
    )
    (component,) = components_of(service(text))
    assert component.hosts_models
