# SPDX-License-Identifier: Apache-2.0
"""The objects that were applied, as the cluster that KServe's decisions are made in.

`Catalog` is not safe by itself: the daemon calls it under its lock. A change is admitted first,
then written in one transaction, then seen; a refused one changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType

from nerite.errors import NotFound
from nerite.kserve.admission import CREDENTIAL_KINDS, Cluster, Key, admit_all, is_foreign
from nerite.kserve.documents import Document, Object
from nerite.kserve.resources import GROUP, KINDS, Resource
from nerite.local.conditions import timestamp
from nerite.local.database import Database, Stored

#: Kind -> the plural that its URLs and messages use.
PLURALS = {
    **{kind: f"{kind.lower()}s" for kind in KINDS},
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one applied document."""

    kind: str
    namespace: str
    name: str
    outcome: str

    @property
    def shown(self) -> str:
        """As kubectl names it: `inferenceservice.serving.kserve.io/irises`."""
        group = f".{GROUP}" if self.kind in KINDS else ""
        return f"{self.kind.lower()}{group}/{self.name}"


class Catalog:
    """Everything that was applied, beside the built-in runtimes."""

    def __init__(self, database: Database, builtin: Cluster) -> None:
        self._database = database
        self._builtin = builtin
        self._stored = {stored.key: stored for stored in database.objects()}
        self._cluster = _cluster(builtin, self._stored.values())

    @property
    def cluster(self) -> Cluster:
        """The cluster as it is now; it never changes itself."""
        return self._cluster

    def services(self) -> list[Resource]:
        """The InferenceServices, by namespace and name."""
        found = self._cluster.of_kind("InferenceService")
        return sorted(found, key=lambda service: (service.namespace, service.name))

    def graphs(self) -> list[Resource]:
        """The InferenceGraphs, by namespace and name."""
        found = self._cluster.of_kind("InferenceGraph")
        return sorted(found, key=lambda graph: (graph.namespace, graph.name))

    def apply(
        self, documents: Iterable[Document], now: float, places: Mapping[str, str]
    ) -> list[Change]:
        """Admits and keeps all documents, or none; raises `Refused` with all problems.

        `places` are the absolute paths of the files that the documents name.
        """
        documents = [document for document in documents if not is_foreign(document)]
        cluster = admit_all(documents, self._cluster)
        changes: list[Change] = []
        written: list[Stored] = []
        for key in dict.fromkeys(_key(document) for document in documents):
            value, file = _admitted(key, cluster, documents)
            old = self._stored.get(key)
            stored = _stamped(key, value, places.get(file, file), old, now)
            same = old is not None and stored == old
            outcome = "created" if old is None else "unchanged" if same else "configured"
            changes.append(Change(*key, outcome))
            if not same:
                written.append(stored)
        with self._database.transaction():
            for stored in written:
                self._database.put(stored)
        self._stored |= {stored.key: stored for stored in written}
        self._cluster = _cluster(self._builtin, self._stored.values())
        return changes

    def delete(self, key: Key) -> None:
        """Forgets an object; raises `NotFound` in kubectl's words."""
        if key not in self._stored:
            raise NotFound(not_found(key[0], key[2]))
        with self._database.transaction():
            self._database.remove(key)
        del self._stored[key]
        self._cluster = _cluster(self._builtin, self._stored.values())

    def objects(self, kind: str, namespace: str | None, name: str | None) -> list[Object]:
        """The objects of a kind as they are kept, built-in ones among them, by name."""
        if kind in CREDENTIAL_KINDS:
            found = [s.object for k, s in self._stored.items() if k[0] == kind]
        else:
            found = [resource.object for resource in self._cluster.of_kind(kind)]
        namespaced = kind not in KINDS or KINDS[kind].namespaced
        chosen = [
            deepcopy(value)
            for value in found
            if name in (None, value["metadata"]["name"])
            and (not namespaced or namespace in (None, value["metadata"].get("namespace")))
        ]
        return sorted(chosen, key=lambda v: (v["metadata"].get("namespace", ""), _name(v)))


def not_found(kind: str, name: str) -> str:
    """What kubectl says about an object that is not there."""
    group = f".{GROUP}" if kind in KINDS else ""
    return f'{PLURALS[kind]}{group} "{name}" not found'


def _name(value: Object) -> str:
    return str(value["metadata"]["name"])


def _key(document: Document) -> Key:
    metadata = document.value["metadata"]
    kind = KINDS.get(document.kind)
    namespaced = kind is None or kind.namespaced
    namespace = str(metadata.get("namespace") or "default") if namespaced else ""
    return document.kind, namespace, str(metadata["name"])


def _admitted(key: Key, cluster: Cluster, documents: list[Document]) -> tuple[Object, str]:
    if key[0] in CREDENTIAL_KINDS:
        file = next(d.file for d in reversed(documents) if _key(d) == key)
        return cluster.others[key], file
    resource = cluster.resources[key]
    return resource.object, resource.document.file


def _stamped(key: Key, value: Object, file: str, old: Stored | None, now: float) -> Stored:
    """The object with the metadata that a cluster keeps; as `old` if nothing else differs."""
    value = deepcopy(value)
    value.pop("status", None)
    metadata = value["metadata"]
    if key[1]:
        metadata["namespace"] = key[1]
    before = old.object["metadata"] if old else {}
    metadata["uid"] = before.get("uid") or str(uuid.uuid4())
    metadata["creationTimestamp"] = before.get("creationTimestamp") or timestamp(now)
    for volatile in ("generation", "resourceVersion"):
        metadata.pop(volatile, None)
        if volatile in before:
            metadata[volatile] = before[volatile]
    if old is not None and value == old.object:
        return old if file == old.file else Stored(*key, file, value, old.created)
    changed = old is None or value.get("spec") != old.object.get("spec")
    metadata["generation"] = int(before.get("generation", 0)) + int(changed)
    metadata["resourceVersion"] = str(int(before.get("resourceVersion", 0)) + 1)
    return Stored(*key, file, value, old.created if old else now)


def _cluster(builtin: Cluster, objects: Iterable[Stored]) -> Cluster:
    """The built-in cluster with everything applied; nothing is admitted a second time."""
    resources, others, created = (
        dict(builtin.resources),
        dict(builtin.others),
        dict(builtin.created),
    )
    for stored in objects:
        created[stored.key] = stored.created
        if stored.kind in CREDENTIAL_KINDS:
            others[stored.key] = stored.object
        else:
            document = Document(stored.object, stored.file)
            resources[stored.key] = Resource(stored.kind, stored.object, document)
    return Cluster(MappingProxyType(resources), MappingProxyType(others), MappingProxyType(created))
