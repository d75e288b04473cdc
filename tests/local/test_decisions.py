"""A decision is made anew where it may come out differently, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.local.manifests import isvc

from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import read_documents
from nerite.local import decisions
from nerite.local.catalog import Catalog
from nerite.local.database import Database
from nerite.local.decisions import Decisions

RUNTIME = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ServingRuntime",
    "metadata": {"name": "ours", "namespace": "default"},
    "spec": {
        "supportedModelFormats": [{"name": "sklearn", "autoSelect": True}],
        "protocolVersions": ["v2"],
        "containers": [{"name": "kserve-container", "command": ["serve-it"]}],
    },
}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    database = Database(tmp_path / "state.db")
    yield Catalog(database, builtin_cluster())
    database.close()


def apply(catalog: Catalog, *values: dict[str, Any]) -> None:
    catalog.apply(read_documents(yaml.safe_dump_all(values), "x.yaml"), 1.0, {})


def test_only_what_may_come_out_differently_is_decided(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[str] = []
    real = decisions.render_service

    def render(service: Any, cluster: Any) -> Any:
        decided.append(service.name)
        return real(service, cluster)

    monkeypatch.setattr(decisions, "render_service", render)
    kept = Decisions()

    def look() -> tuple[list[str], dict[str, str]]:
        decided.clear()
        found = kept.about(catalog.services(), catalog.cluster)
        chosen = {
            name: rendering.selection.chosen.name
            for (_, name), rendering in found.items()
            if rendering.selection and rendering.selection.chosen
        }
        return sorted(decided), chosen

    apply(catalog, isvc("one", "sklearn", "/a"), isvc("two", "sklearn", "/b"))
    both = {"one": "kserve-mlserver", "two": "kserve-mlserver"}
    assert look() == (["one", "two"], both)
    assert look() == ([], both)
    apply(catalog, isvc("two", "sklearn", "/c"))
    assert look() == (["two"], both)
    # A graph beside them decides nothing, a runtime everything.
    step = {"routerType": "Sequence", "steps": [{"serviceName": "one"}]}
    graph = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": {"name": "g"},
        "spec": {"nodes": {"root": step}},
    }
    apply(catalog, graph)
    assert look() == ([], both)
    apply(catalog, RUNTIME)
    assert look() == (["one", "two"], {"one": "ours", "two": "ours"})
    catalog.delete(("InferenceService", "default", "one"))
    assert look() == ([], {"two": "ours"})
    catalog.delete(("ServingRuntime", "default", "ours"))
    assert look() == (["two"], {"two": "kserve-mlserver"})
