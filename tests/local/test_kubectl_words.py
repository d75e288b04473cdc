"""What people type who know kubectl: selectors, several kinds, forms, files; and the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.local.daemons import Up
from tests.local.manifests import isvc, write

from nerite.errors import InvalidArgument
from nerite.local.labels import selector

pytestmark = pytest.mark.timeout(120)
SERVICE = "inferenceservice.serving.kserve.io"
GRAPH = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "InferenceGraph",
    "metadata": {"name": "flow", "labels": {"team": "a"}},
    "spec": {"nodes": {"root": {"routerType": "Sequence", "steps": [{"serviceName": "one"}]}}},
}


def stopped(name: str, **labels: str) -> dict[str, Any]:
    """A service that starts nothing, for only its object matters here."""
    value = isvc(name, "onnx", "/nowhere")
    value["metadata"]["annotations"] = {"serving.kserve.io/stop": "true"}
    value["metadata"]["labels"] = labels
    return value


@pytest.fixture
def full(daemon: Up, tmp_path: Path) -> Up:
    services = stopped("one", team="a", tier="gold"), stopped("two", team="b")
    assert daemon.run("apply", "-f", write(tmp_path / "a.yaml", *services, GRAPH)).returncode == 0
    return daemon


def names(daemon: Up, *words: object) -> list[str]:
    said = daemon.run("get", *words, "-o", "name")
    assert said.returncode == 0, said
    return said.stdout.split()


def test_labels_choose(full: Up) -> None:
    one, two = f"{SERVICE}/one", f"{SERVICE}/two"
    assert names(full, "isvc", "-l", "team=a") == [one]
    assert names(full, "isvc", "-l", "team!=a") == [two]
    assert names(full, "isvc", "-l", "tier") == [one]
    assert names(full, "isvc", "-l", "!tier") == [two]
    assert names(full, "isvc", "-l", "team in (a, b)") == [one, two]
    assert names(full, "isvc", "-l", "team notin (a),team=b") == [two]
    none = full.run("get", "isvc", "-l", "team=c")
    assert (none.returncode, none.stderr) == (0, "No resources found in default namespace.\n")
    named = full.run("get", "isvc", "one", "-l", "team=a")
    assert "name cannot be provided when a selector is specified" in named.stderr


def test_several_kinds_say_of_which_kind_each_name_is(full: Up) -> None:
    for words in ("isvc,graph", "all"):
        said = full.run("get", words, "--no-headers").stdout
        first = [line.split()[0] for line in said.splitlines() if line]
        graph = "inferencegraph.serving.kserve.io/flow"
        assert first == [f"{SERVICE}/one", f"{SERVICE}/two", graph]
    everywhere = full.run("get", "all", "-A", "-l", "team=a").stdout.splitlines()
    assert everywhere[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert everywhere[1].split()[:2] == ["default", f"{SERVICE}/one"]


def test_forms_for_scripts(full: Up) -> None:
    every = "jsonpath={range .items[*]}{.metadata.name}{'\\n'}{end}"
    assert full.run("get", "isvc", "-o", every).stdout == "one\ntwo\n"
    columns = "custom-columns=NAME:.metadata.name,TIER:.metadata.labels.tier"
    rows = full.run("get", "isvc", "-o", columns).stdout.splitlines()
    assert [row.split() for row in rows] == [["NAME", "TIER"], ["one", "gold"], ["two", "<none>"]]
    shown = full.run("get", "isvc", "one", "--show-labels").stdout.splitlines()
    assert shown[0].endswith("AGE   LABELS")
    assert shown[1].endswith("team=a,tier=gold")
    wrong = full.run("get", "isvc", "-o", "xml")
    assert (wrong.returncode, "custom-columns=HEAD:.a.b" in wrong.stderr) == (1, True)
    assert full.run("get", "isvc", "three", "--ignore-not-found").returncode == 0


def test_what_get_wrote_may_be_applied_and_named_again(full: Up, tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text(full.run("get", "isvc", "-o", "json").stdout)
    assert json.loads(file.read_text())["kind"] == "List"
    full.run("apply", "-f", file)
    assert full.service("one")["metadata"]["generation"] == 1
    again = full.run("apply", "-f", file).stdout
    assert again == f"{SERVICE}/one unchanged\n{SERVICE}/two unchanged\n"
    assert names(full, "-f", file) == [f"{SERVICE}/one", f"{SERVICE}/two"]
    described = full.run("describe", "-f", file).stdout
    assert [f"Name:         {name}" in described for name in ("one", "two")] == [True, True]
    both = full.run("get", "isvc", "-f", file)
    assert (both.returncode, "one of them" in both.stderr) == (1, True)


def test_everything_of_a_kind_or_a_label_is_deleted(full: Up) -> None:
    refused = full.run("delete", "isvc")
    assert "no name was specified; --all means all of them" in refused.stderr
    assert full.run("delete", "isvc", "-l", "tier=gold").stdout == f'{SERVICE} "one" deleted\n'
    assert names(full, "isvc") == [f"{SERVICE}/two"]
    gone = full.run("delete", "all", "--all").stdout
    assert gone == f'{SERVICE} "two" deleted\ninferencegraph.serving.kserve.io "flow" deleted\n'
    # KServe's own runtimes were not created here, and cannot be deleted.
    assert full.run("delete", "clusterservingruntimes", "--all").stdout == ""


def test_what_says_nothing_is_no_success(full: Up, tmp_path: Path) -> None:
    """`apply` of an empty file and `wait` for no name did nothing, and exited with 0."""
    (tmp_path / "empty.yaml").write_text("# later\n")
    for words, said in (
        (("apply", "-f", tmp_path / "empty.yaml"), "no objects passed to apply"),
        (("wait", "isvc"), "no name was specified"),
        (("logs", "one"), "no log of any process of one: nothing was started"),
        (("logs", "one", "--component", "transformer"), "no log of component 'transformer' of one"),
        (("up", "--http-port", "70000"), "--http-port: 70000 is out of range"),
    ):
        ran = full.run(*words)
        assert (ran.returncode, said in ran.stderr) == (1, True), ran


@pytest.mark.parametrize("text", ["=", "a=b=c", "a in b", "!a=b", "a,,b", "a notin"])
def test_what_is_no_selector_is_told(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not understood at"):
        selector(text)
