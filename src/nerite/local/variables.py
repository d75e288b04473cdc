# SPDX-License-Identifier: Apache-2.0
"""The environment that a container's `env` and `envFrom` ask for.

Values come from the text itself, from Secrets that were applied, or from the pod's own metadata.
What only a cluster could know is refused by name.
"""

from __future__ import annotations

from nerite.kserve.admission import Cluster
from nerite.kserve.documents import Object
from nerite.kserve.model_volumes import secret_entries
from nerite.kserve.refusals import Invalid
from nerite.kserve.resources import Resource
from nerite.local.containers import expand


class Unknown(Exception):
    """A variable's value cannot be had here."""


def variables_of(
    container: Object, service: Resource, pod_name: str, cluster: Cluster
) -> dict[str, str]:
    """Name and value of every variable, references to earlier ones expanded."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        reference = source.get("secretRef")
        if reference is None:
            raise Unknown(
                "takes variables from a ConfigMap ('envFrom'), which is not kept here; "
                "write them under 'env'"
            )
        prefix = source.get("prefix", "")
        entries = _secret(reference, service, cluster) or {}
        found |= {f"{prefix}{key}": value for key, value in entries.items()}
    for variable in container.get("env", []):
        name = variable["name"]
        if "valueFrom" in variable:
            value = _from(name, variable["valueFrom"], service, pod_name, cluster)
            if value is not None:
                found[name] = value
        else:
            found[name] = expand(str(variable.get("value", "")), found)
    return found


def _from(
    name: str, source: Object, service: Resource, pod_name: str, cluster: Cluster
) -> str | None:
    if "secretKeyRef" in source:
        reference = source["secretKeyRef"]
        entries = _secret(reference, service, cluster)
        if entries is None:
            return None
        if reference["key"] in entries:
            return entries[reference["key"]]
        if reference.get("optional"):
            return None
        raise Unknown(
            f"takes {name} from the key '{reference['key']}' of secret '{reference['name']}', "
            f"which has: {', '.join(sorted(entries)) or 'nothing'}"
        )
    path = source.get("fieldRef", {}).get("fieldPath", "")
    metadata = service.object["metadata"]
    known = {
        "metadata.name": pod_name,
        "metadata.namespace": service.namespace,
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
        **{f"metadata.labels['{k}']": v for k, v in metadata.get("labels", {}).items()},
    }
    if path in known:
        return str(known[path])
    kind = path or ", ".join(source)
    raise Unknown(f"takes {name} from '{kind}', which only a cluster knows; write its 'value'")


def _secret(reference: Object, service: Resource, cluster: Cluster) -> dict[str, str] | None:
    """The entries of a secret; None where it is missing and may be."""
    name = str(reference.get("name", ""))
    try:
        entries = secret_entries(name, service.namespace, cluster)
    except Invalid as invalid:
        raise Unknown(f"needs secret '{name}': {invalid.text}") from None
    if entries is None and not reference.get("optional"):
        raise Unknown(f"needs secret '{name}' of namespace '{service.namespace}'; apply it first")
    return entries
