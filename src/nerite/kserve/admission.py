# SPDX-License-Identifier: Apache-2.0
"""Admit documents as KServe's API server and webhooks do, or say why not.

`admit` runs the stages in a cluster's order: schema, object rules of the API server, defaulting,
the kind's own rules. What was admitted before is a `Cluster`, which never changes; admitting gives
the resource, and `Cluster.with_resource` a new cluster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nerite.kserve.defaulting import default_object
from nerite.kserve.documents import Document, KeyPath, Object, dotted
from nerite.kserve.graph_rules import check_graph, check_storage_container, check_trained
from nerite.kserve.refusals import Invalid, Refused, denied, invalid_value, refusal_of
from nerite.kserve.resources import GROUP, KINDS, Credentials, Kind, Resource, schema_errors
from nerite.kserve.runtime_rules import check_runtime
from nerite.kserve.schema import ValidationError, prune_nulls
from nerite.kserve.service_rules import check_service

Key = tuple[str, str, str]
CREDENTIAL_KINDS = frozenset({"Secret", "ServiceAccount"})

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_SUBDOMAIN}')"
)
_LABEL = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_LABEL_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    f"or '12345', regex used for validation is '{_LABEL}')"
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was admitted, with creation times in seconds (only their order matters)."""

    resources: Mapping[Key, Resource] = field(default_factory=lambda: MappingProxyType({}))
    # Secrets and ServiceAccounts, which storage credentials come from; kept as they are.
    others: Mapping[Key, Object] = field(default_factory=lambda: MappingProxyType({}))
    created: Mapping[Key, float] = field(default_factory=lambda: MappingProxyType({}))

    def with_resource(self, resource: Resource, created: float = 0.0) -> Cluster:
        """This cluster with one more resource; one of the same key is replaced, its age kept."""
        key = key_of(resource)
        times = {**self.created, key: self.created.get(key, created)}
        return Cluster(
            MappingProxyType({**self.resources, key: resource}),
            self.others,
            MappingProxyType(times),
        )

    def with_credentials(self, document: Document) -> Cluster:
        """This cluster with a Secret or ServiceAccount; raises `Refused` if it is malformed."""
        value = prune_nulls(document.value)
        try:
            Credentials.model_validate(value)
        except ValidationError as error:
            problems = [document.problem(e["loc"], e["msg"]) for e in error.errors()]
            raise Refused(422, f"{document.kind} is invalid", *problems) from None
        metadata = value["metadata"]
        key = (document.kind, metadata.get("namespace", "default"), metadata.get("name", ""))
        others = MappingProxyType({**self.others, key: value})
        return Cluster(self.resources, others, self.created)

    def get(self, kind: str, namespace: str, name: str) -> Resource | None:
        return self.resources.get((kind, namespace, name))

    def of_kind(self, kind: str, namespace: str | None = None) -> list[Resource]:
        """The resources of a kind, of one namespace or of all."""
        return [
            resource
            for (a_kind, a_namespace, _), resource in self.resources.items()
            if a_kind == kind and namespace in (None, a_namespace)
        ]


def key_of(resource: Resource) -> Key:
    return resource.kind, resource.namespace, resource.name


def admit(document: Document, cluster: Cluster, *, own_paths: bool = False) -> Resource:
    """The resource that a cluster would store; raises `Refused` with what it would answer.

    With `own_paths` steps of graphs may be paths of the server that runs the graph.
    """
    kind = _kind(document)
    _check_head(document, kind)
    found = schema_errors(document.value, kind)
    if found:
        raise refusal_of(document, kind, found)
    _check_metadata(document, kind)
    _check_duplicates(document, kind)
    resource = Resource(kind.name, default_object(document.value, kind), document)
    old = cluster.resources.get(key_of(resource))
    try:
        _check_rules(resource, old.object if old else None, cluster, own_paths)
    except Invalid as invalid:
        raise denied(resource, invalid) from None
    return resource


def admit_all(
    documents: Iterable[Document], cluster: Cluster, *, own_paths: bool = False
) -> Cluster:
    """The cluster after all documents, later ones updating earlier ones of the same name.

    Every document is looked at; what is raised carries the problems of all, and the answer that
    the first one got.
    """
    refused: list[Refused] = []
    for document in documents:
        try:
            if document.kind in CREDENTIAL_KINDS:
                cluster = cluster.with_credentials(document)
            else:
                cluster = cluster.with_resource(admit(document, cluster, own_paths=own_paths))
        except Refused as refusal:
            refused.append(refusal)
    if refused:
        problems = [problem for refusal in refused for problem in refusal.problems]
        raise Refused(refused[0].status, refused[0].text, *problems)
    return cluster


def is_foreign(document: Document) -> bool:
    """Whether a document is another API's (a Namespace, a ConfigMap), about which nothing is said.

    A misspelt kind of KServe's own API is not: that one is refused.
    """
    group = str(document.value.get("apiVersion", "")).rpartition("/")[0]
    known = document.kind in KINDS or document.kind in CREDENTIAL_KINDS
    has_head = document.kind != "" and "apiVersion" in document.value
    return has_head and not known and not group.endswith(GROUP)


def _kind(document: Document) -> Kind:
    kind = KINDS.get(document.kind)
    if kind is None:
        text = f'no matches for kind "{document.kind}"'
        problem = document.problem(("kind",), text, fix=f"known: {', '.join(sorted(KINDS))}")
        raise Refused(404, text, problem)
    return kind


def _check_head(document: Document, kind: Kind) -> None:
    version = str(document.value.get("apiVersion", ""))
    if version != f"{GROUP}/{kind.version}":
        text = f'no matches for kind "{kind.name}" in version "{version}"'
        fix = f"apiVersion: {GROUP}/{kind.version}"
        raise Refused(404, text, document.problem(("apiVersion",), text, version, fix))
    metadata = document.value.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        if isinstance(metadata, dict) and metadata.get("generateName"):
            text = "generateName needs a cluster to make up the name"
            raise Refused(422, text, document.problem(("metadata", "generateName"), text))
        rule = "metadata.name: Required value: name or generateName is required"
        text = invalid_value(kind.name, "", [rule])
        raise Refused(422, text, document.problem(("metadata", "name"), "a name is required"))
    if not isinstance(document.value.get("spec"), dict):
        text = invalid_value(kind.name, str(metadata["name"]), ["spec: Required value"])
        raise Refused(422, text, document.problem(("spec",), 'the field "spec" is required'))


def _check_metadata(document: Document, kind: Kind) -> None:
    metadata = prune_nulls(document.value["metadata"])
    name = metadata["name"]
    if not re.fullmatch(_SUBDOMAIN, name) or len(name) > 253:
        detail = f'metadata.name: Invalid value: "{name}": {_SUBDOMAIN_RULE}'
        text = invalid_value(kind.name, name, [detail])
        problem = document.problem(("metadata", "name"), _SUBDOMAIN_RULE, name)
        raise Refused(422, text, problem)
    for key, value in metadata.get("labels", {}).items():
        if not re.fullmatch(_LABEL, value) or len(value) > 63:
            detail = f'metadata.labels: Invalid value: "{value}": {_LABEL_RULE}'
            text = invalid_value(kind.name, name, [detail])
            problem = document.problem(("metadata", "labels", key), _LABEL_RULE, value)
            raise Refused(422, text, problem)


def _check_duplicates(document: Document, kind: Kind) -> None:
    """Lists that are maps by a key may say it once: `env` by name, `ports` by number."""
    for path, entry in _repeated(document.value["spec"], ("spec",)):
        detail = f"{dotted(path)}: Duplicate value: {json.dumps(entry, separators=(',', ':'))}"
        text = invalid_value(kind.name, document.value["metadata"]["name"], [detail])
        raise Refused(422, text, document.problem(path, f"{entry} stands here twice"))


def _repeated(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Object]]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _repeated(item, (*path, i))
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key in ("env", "ports") and isinstance(item, list):
            seen: list[Object] = []
            for i, entry in enumerate(item):
                marks = _marks(key, entry)
                if marks in seen:
                    yield (*path, key, i), marks
                seen.append(marks)
        yield from _repeated(item, (*path, key))


def _marks(key: str, entry: Any) -> Object:
    if key == "env":
        return {"name": entry.get("name")}
    return {
        "containerPort": entry.get("containerPort"),
        "protocol": entry.get("protocol", "TCP"),
    }


def _check_rules(resource: Resource, old: Object | None, cluster: Cluster, own_paths: bool) -> None:
    if resource.kind == "InferenceService":
        check_service(resource.object, old)
    elif resource.kind in ("ServingRuntime", "ClusterServingRuntime"):
        peers = cluster.of_kind(resource.kind, resource.namespace)
        check_runtime(resource, old, peers)
    elif resource.kind == "InferenceGraph":
        check_graph(resource, own_paths=own_paths)
    elif resource.kind == "TrainedModel":
        check_trained(resource, old)
    elif resource.kind == "ClusterStorageContainer":
        check_storage_container(resource)
