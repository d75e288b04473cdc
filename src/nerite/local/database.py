# SPDX-License-Identifier: Apache-2.0
"""What was applied, kept in SQLite: objects, revisions of predictors, and the ports they had.

Every change is one transaction, so that neither a second `apply` nor a killed daemon leaves half
of one. The file is the operator's alone: it holds the Secrets that were applied.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.errors import InternalError
from nerite.kserve.admission import Key
from nerite.kserve.documents import Object

_VERSION = 1
_SCHEMA = """
create table objects (
    kind text not null, namespace text not null, name text not null,
    file text not null, object text not null, created real not null,
    primary key (kind, namespace, name)
);
create table revisions (
    component text not null, number integer not null, digest text not null,
    object text not null, rolled_out integer not null default 0,
    primary key (component, number)
);
create table ports (key text primary key, port integer not null);
create table statuses (
    namespace text not null, name text not null, status text not null,
    primary key (namespace, name)
);
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object with the file it came from and its age."""

    kind: str
    namespace: str
    name: str
    file: str
    object: Object
    created: float

    @property
    def key(self) -> Key:
        """Its name among all."""
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of a predictor; `object` is the service as it was then."""

    number: int
    digest: str
    object: Object
    rolled_out: bool


class Database:
    """The state of one daemon; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._prepare(path)

    def _prepare(self, path: Path) -> None:
        version = self._connection.execute("pragma user_version").fetchone()[0]
        if version == 0:
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"pragma user_version = {_VERSION}")
        elif version != _VERSION:
            raise InternalError(
                f"'{path}' was written by another version of Nerite (its format is {version}, "
                f"this one's {_VERSION}); move it away to start anew"
            )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing of it."""
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    def objects(self) -> list[Stored]:
        """Everything that was applied, the oldest first."""
        rows = self._rows("select * from objects order by created, kind, namespace, name")
        return [
            Stored(kind, namespace, name, file, json.loads(text), created)
            for kind, namespace, name, file, text, created in rows
        ]

    def put(self, stored: Stored) -> None:
        """Writes an object, over an older state of it."""
        text = json.dumps(stored.object)
        values = (stored.kind, stored.namespace, stored.name, stored.file, text, stored.created)
        self._run("insert or replace into objects values (?, ?, ?, ?, ?, ?)", values)

    def remove(self, key: Key) -> None:
        """Forgets an object, and of a service what belongs to it alone."""
        where = "where kind = ? and namespace = ? and name = ?"
        self._run(f"delete from objects {where}", key)  # noqa: S608 - a constant text
        if key[0] == "InferenceService":
            self._run("delete from statuses where namespace = ? and name = ?", key[1:])

    def forget_components(self, components: Sequence[str]) -> None:
        """Forgets the revisions and ports of components that are no more."""
        for component in components:
            self._run("delete from revisions where component = ?", (component,))
            pattern = f"{component}/%"
            self._run("delete from ports where key like ?", (pattern,))

    def revisions(self, component: str) -> list[Revision]:
        """The revisions of a component, the latest first."""
        rows = self._rows(
            "select number, digest, object, rolled_out from revisions where component = ? "
            "order by number desc",
            (component,),
        )
        return [Revision(row[0], row[1], json.loads(row[2]), bool(row[3])) for row in rows]

    def add_revision(self, component: str, digest: str, value: Object) -> Revision:
        """The latest revision, which is a new one if the digest is not that of the last."""
        with self.transaction():
            known = self.revisions(component)
            if known and known[0].digest == digest:
                return known[0]
            number = known[0].number + 1 if known else 1
            self._run(
                "insert into revisions values (?, ?, ?, ?, 0)",
                (component, number, digest, json.dumps(value)),
            )
            # A canary compares two; older ones are not gone back to.
            self._run(
                "delete from revisions where component = ? and number < ?",
                (component, number - 20),
            )
            return Revision(number, digest, value, rolled_out=False)

    def mark_rolled_out(self, component: str, number: int) -> None:
        """A revision has had all the traffic."""
        self._run(
            "update revisions set rolled_out = 1 where component = ? and number = ?",
            (component, number),
        )

    def ports(self) -> dict[str, int]:
        """The ports that components had last."""
        return dict(self._rows("select key, port from ports"))

    def put_port(self, key: str, port: int) -> None:
        """Remembers a port."""
        self._run("insert or replace into ports values (?, ?)", (key, port))

    def statuses(self) -> dict[tuple[str, str], Object]:
        """The last status of every service."""
        rows = self._rows("select namespace, name, status from statuses")
        return {(namespace, name): json.loads(text) for namespace, name, text in rows}

    def put_status(self, namespace: str, name: str, status: Object) -> None:
        """Remembers a status, for the times since when its conditions hold."""
        values = (namespace, name, json.dumps(status))
        self._run("insert or replace into statuses values (?, ?, ?)", values)

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, tuple(values)).fetchall()

    def _run(self, statement: str, values: Sequence[object]) -> None:
        with self._lock:
            self._connection.execute(statement, tuple(values))
