# SPDX-License-Identifier: Apache-2.0
"""The variables with which a service's model is downloaded, found as KServe finds them.

A `storage` spec names an entry of the storage secret: KServe writes it into the environment of its
storage initializer, and that is read here. Else the secrets of the service account count: of each
the first key that is known decides what kind of credentials it holds (`spec/kserve.md` 5.3).
"""

from __future__ import annotations

from collections.abc import Mapping

from nerite.kserve.admission import Cluster
from nerite.kserve.documents import Object
from nerite.kserve.model_volumes import secret_entries
from nerite.kserve.refusals import Invalid
from nerite.kserve.resources import Resource
from nerite.kserve.workloads import Workload
from nerite.local.variables import Unknown, variables_of

_PREFIX = "serving.kserve.io/s3-"
_GOOGLE = "gcloud-application-credentials.json"
#: Annotation of a secret or of the account -> the variable that means the same.
_S3_ANNOTATIONS = {
    "region": "AWS_DEFAULT_REGION",
    "verifyssl": "S3_VERIFY_SSL",
    "useanoncredential": "awsAnonymousCredential",
    "usevirtualbucket": "S3_USER_VIRTUAL_BUCKET",
    "useaccelerate": "S3_USE_ACCELERATE",
    "cabundle": "AWS_CA_BUNDLE",
}


def credentials_of(
    workload: Workload, pod: Object, service: Resource, cluster: Cluster
) -> dict[str, str]:
    """The variables of a workload's download.

    Raises:
        Unknown: A secret that is named is missing, or cannot be read.
    """
    found: dict[str, str] = {}
    account = str(workload.spec.get("serviceAccountName", "default"))
    found |= account_variables(account, service.namespace, cluster)
    for container in pod.get("initContainers", []):
        if container.get("name") == "storage-initializer":
            found |= variables_of(container, service, workload.name, cluster)
    return found


def account_variables(account: str, namespace: str, cluster: Cluster) -> dict[str, str]:
    """What the secrets of a service account say; nothing for an account that was not applied."""
    owner: Object = cluster.others.get(("ServiceAccount", namespace, account), {})
    annotations: Mapping[str, str] = owner.get("metadata", {}).get("annotations") or {}
    found = _s3(annotations)
    for reference in owner.get("secrets") or []:
        name = str(reference.get("name", ""))
        try:
            entries = secret_entries(name, namespace, cluster)
        except Invalid as invalid:
            raise Unknown(f"has a service account '{account}': {invalid.text}") from None
        if entries is None:
            raise Unknown(
                f"has a service account '{account}', which names the secret '{name}' of namespace "
                f"'{namespace}'; apply it first"
            )
        secret = cluster.others["Secret", namespace, name]
        found |= _of_secret(entries, secret["metadata"].get("annotations") or {})
    return found


def _of_secret(entries: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, str]:
    if "AWS_SECRET_ACCESS_KEY" in entries:
        # The names that a secret of variables would have; KServe's own are below.
        keys = {name: entries[name] for name in entries if name.startswith("AWS_")}
        return {**keys, **_s3(annotations)}
    if "awsSecretAccessKey" in entries:
        keys = {
            "AWS_ACCESS_KEY_ID": entries.get("awsAccessKeyID", ""),
            "AWS_SECRET_ACCESS_KEY": entries["awsSecretAccessKey"],
        }
        return {**keys, **_s3(annotations)}
    if _GOOGLE in entries:
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": entries[_GOOGLE]}
    azure = {name: text for name, text in entries.items() if name.startswith(("AZ_", "AZURE_"))}
    if azure:
        return azure
    if "https-host" in entries:
        return {f"{entries['https-host'].strip()}-headers": entries.get("headers", "")}
    return {}


def _s3(annotations: Mapping[str, str]) -> dict[str, str]:
    found = {
        variable: annotations[_PREFIX + name]
        for name, variable in _S3_ANNOTATIONS.items()
        if annotations.get(_PREFIX + name)
    }
    if host := annotations.get(f"{_PREFIX}endpoint"):
        secure = annotations.get(f"{_PREFIX}usehttps", "1").lower() not in ("0", "false")
        found["AWS_ENDPOINT_URL"] = f"{'https' if secure else 'http'}://{host}"
    return found
