"""What was applied is kept, whole or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nerite.errors import InternalError, NotFound
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import Document, read_documents
from nerite.kserve.refusals import Refused
from nerite.local.catalog import Catalog
from nerite.local.database import Database, Stored

ISVC = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: %s, labels: {turn: "%s"}}
spec:
  predictor:
    model: {modelFormat: {name: sklearn}, storageUri: "%s"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: abc}
"""


def documents(name: str = "irises", turn: int = 1, uri: str = "/m") -> list[Document]:
    return read_documents(ISVC % (name, turn, uri), "a.yaml")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(tmp_path / "home/state.db")
    yield made  # type: ignore[misc]
    made.close()


def catalog(database: Database) -> Catalog:
    return Catalog(database, builtin_cluster())


def test_objects_come_back_after_a_restart(database: Database, tmp_path: Path) -> None:
    first = catalog(database)
    changes = first.apply(documents(), 1000.0, {"a.yaml": "/home/me/a.yaml"})
    assert [change.shown for change in changes] == [
        "inferenceservice.serving.kserve.io/irises",
        "secret/keys",
    ]
    database.close()
    again = Database(tmp_path / "home/state.db")
    second = catalog(again)
    assert second.objects("InferenceService", None, None) == first.objects(
        "InferenceService", "default", "irises"
    )
    (service,) = second.services()
    assert service.document.file == "/home/me/a.yaml"
    assert second.objects("Secret", "default", "keys")[0]["stringData"] == {"token": "abc"}
    assert (tmp_path / "home/state.db").stat().st_mode & 0o77 == 0
    again.close()


def test_generation_counts_changes_of_the_spec_alone(database: Database) -> None:
    kept = catalog(database)

    def apply(**more: object) -> tuple[str, int, str]:
        (change, _) = kept.apply(documents(**more), 1000.0, {})  # type: ignore[arg-type]
        metadata = kept.services()[0].object["metadata"]
        return change.outcome, metadata["generation"], metadata["resourceVersion"]

    assert apply() == ("created", 1, "1")
    assert apply() == ("unchanged", 1, "1")
    assert apply(turn=2) == ("configured", 1, "2")
    assert apply(turn=2, uri="/other") == ("configured", 2, "3")


def test_a_refused_document_changes_nothing(database: Database) -> None:
    kept = catalog(database)
    with pytest.raises(Refused):
        kept.apply([*documents(), *documents(name="Irises")], 1000.0, {})
    assert kept.services() == []
    assert database.objects() == []


def test_what_is_deleted_is_gone(database: Database) -> None:
    kept = catalog(database)
    kept.apply(documents(), 1000.0, {})
    kept.delete(("InferenceService", "default", "irises"))
    assert kept.services() == []
    assert [stored.kind for stored in database.objects()] == ["Secret"]
    with pytest.raises(NotFound, match=r'inferenceservices\.serving.* "irises" not found'):
        kept.delete(("InferenceService", "default", "irises"))


def test_a_transaction_that_fails_leaves_no_trace(database: Database) -> None:
    stored = Stored("Secret", "default", "a", "", {}, 0.0)

    def fail() -> None:
        with database.transaction():
            database.put(stored)
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert database.objects() == []


def test_revisions_are_numbered_by_change(database: Database) -> None:
    digests = ["a", "a", "b", "a"]
    found = [database.add_revision("default/x", digest, {"turn": digest}) for digest in digests]
    assert [revision.number for revision in found] == [1, 1, 2, 3]
    database.mark_rolled_out("default/x", 2)
    assert [(r.number, r.rolled_out) for r in database.revisions("default/x")] == [
        (3, False), (2, True), (1, False),
    ]  # fmt: skip
    database.put_port("default/x/8080", 41000)
    database.put_port("default/xy/8080", 41001)
    database.forget_components(["default/x"])
    assert database.revisions("default/x") == []
    assert database.ports() == {"default/xy/8080": 41001}


def test_another_format_of_the_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(InternalError, match="its format is 99"):
        Database(path)
