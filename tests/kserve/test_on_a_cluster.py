"""What we write, held against an API server with KServe's schemas, wherever one can be reached.

Nothing is created: every request is `--dry-run=server`. Without `kubectl`, a cluster or KServe's
kinds in it the tests are skipped and say which of these is missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples/kserve"
#: Those that the tests apply.
KINDS = (
    "clusterservingruntimes",
    "servingruntimes",
    "inferenceservices",
    "inferencegraphs",
    "trainedmodels",
)


def kubectl(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "--request-timeout=10s", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True)


@cache
def missing() -> str:
    """Why no cluster can be asked; empty if one can."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed"
    crds = [f"customresourcedefinition/{kind}.serving.kserve.io" for kind in KINDS]
    ran = kubectl("get", *crds, "-o", "name")
    return ran.stderr.strip().splitlines()[-1] if ran.returncode else ""


def has_webhook() -> bool:
    """Whether KServe runs there, and not only its kinds are known."""
    name = "mutatingwebhookconfiguration/inferenceservice.serving.kserve.io"
    return kubectl("get", name, "-o", "name").returncode == 0


@pytest.fixture(autouse=True)
def cluster() -> None:
    if why := missing():
        pytest.skip(why)


@pytest.mark.parametrize("kind", ["ClusterServingRuntime", "ServingRuntime"])
def test_the_runtimes_that_export_writes_are_taken(kind: str, nerite: Any) -> None:
    words = ["--namespace=default"] if kind == "ServingRuntime" else []
    written = nerite("export", "runtime", "--image=registry.example.com/nerite:1", *words)
    assert written.code == 0, written.err
    assert f"kind: {kind}" in written.out
    ran = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=written.out)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("(server dry run)") == written.out.count(f"kind: {kind}")


@pytest.mark.parametrize(
    "folder", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
)
def test_the_examples_are_taken(folder: str) -> None:
    """They are KServe's language and nothing else."""
    texts = [path.read_text() for path in sorted((EXAMPLES / folder).rglob("*.yaml"))]
    # A dry run makes no namespace, so all go to one that every cluster has.
    text = re.sub(r"(?m)^  namespace: .*$", "  namespace: default", "\n---\n".join(texts))
    ran = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    if "model.name: Required value" in ran.stderr and not has_webhook():
        pytest.skip("KServe itself, whose webhook fills in names, does not run there")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("(server dry run)") == len(re.findall(r"(?m)^kind: ", text))
