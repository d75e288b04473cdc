# SPDX-License-Identifier: Apache-2.0
"""The parts of a resource that are Kubernetes' own: containers and pod specs.

Only their field names are checked, and the types of those that KServe itself reads or merges;
what lies deeper (probes, volumes, affinity) is any mapping. Kubernetes checks it in a cluster,
and the local runner what it uses of it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from nerite.kserve.quantities import check_quantity
from nerite.kserve.schema import (
    AfterValidator,
    Field,
    Flag,
    Int32,
    Int64,
    Labels,
    Passed,
    Schema,
    Text,
)

# Text or number: a union would put the member's name into the path of an error.
Quantity = Annotated[Any, AfterValidator(check_quantity)]


class EnvVar(Schema):
    go_struct: ClassVar[str] = "EnvVar"

    # KServe admits an entry without a name; the Deployment made from it is refused.
    name: Text
    value: Text | None = None
    value_from: Passed | None = None


class ContainerPort(Schema):
    go_struct: ClassVar[str] = "ContainerPort"

    name: Text | None = None
    container_port: Int32
    protocol: Text | None = None
    host_port: Int32 | None = None
    host_ip: Text | None = Field(None, alias="hostIP")


class VolumeMount(Schema):
    go_struct: ClassVar[str] = "VolumeMount"

    name: Text
    mount_path: Text
    sub_path: Text | None = None
    sub_path_expr: Text | None = None
    read_only: Flag | None = None
    recursive_read_only: Text | None = None
    mount_propagation: Text | None = None


class ResourceRequirements(Schema):
    go_struct: ClassVar[str] = "ResourceRequirements"

    limits: dict[str, Quantity] | None = None
    requests: dict[str, Quantity] | None = None
    claims: list[Passed] | None = None


class Container(Schema):
    """A container whose name may be missing; `NamedContainer` requires it."""

    go_struct: ClassVar[str] = "Container"

    name: Text | None = None
    image: Text | None = None
    command: list[Text] | None = None
    args: list[Text] | None = None
    working_dir: Text | None = None
    ports: list[ContainerPort] | None = None
    env: list[EnvVar] | None = None
    env_from: list[Passed] | None = None
    resources: ResourceRequirements | None = None
    resize_policy: list[Passed] | None = None
    restart_policy: Text | None = None
    restart_policy_rules: list[Passed] | None = None
    volume_mounts: list[VolumeMount] | None = None
    volume_devices: list[Passed] | None = None
    liveness_probe: Passed | None = None
    readiness_probe: Passed | None = None
    startup_probe: Passed | None = None
    lifecycle: Passed | None = None
    termination_message_path: Text | None = None
    termination_message_policy: Text | None = None
    image_pull_policy: Text | None = None
    security_context: Passed | None = None
    stdin: Flag | None = None
    stdin_once: Flag | None = None
    tty: Flag | None = None


class NamedContainer(Container):
    name: Text


class PodSpec(Schema):
    """Every field of a Kubernetes pod spec; `containers` may be missing here."""

    go_struct: ClassVar[str] = "PodSpec"

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    ephemeral_containers: list[Passed] | None = None
    volumes: list[Passed] | None = None
    restart_policy: Text | None = None
    termination_grace_period_seconds: Int64 | None = None
    active_deadline_seconds: Int64 | None = None
    dns_policy: Text | None = None
    dns_config: Passed | None = None
    node_selector: Labels | None = None
    service_account_name: Text | None = None
    service_account: Text | None = None
    automount_service_account_token: Flag | None = None
    node_name: Text | None = None
    host_network: Flag | None = None
    host_pid: Flag | None = Field(None, alias="hostPID")
    host_ipc: Flag | None = Field(None, alias="hostIPC")
    host_users: Flag | None = None
    share_process_namespace: Flag | None = None
    security_context: Passed | None = None
    image_pull_secrets: list[Passed] | None = None
    hostname: Text | None = None
    hostname_override: Text | None = None
    subdomain: Text | None = None
    affinity: Passed | None = None
    scheduler_name: Text | None = None
    scheduling_gates: list[Passed] | None = None
    tolerations: list[Passed] | None = None
    host_aliases: list[Passed] | None = None
    priority_class_name: Text | None = None
    priority: Int32 | None = None
    preemption_policy: Text | None = None
    readiness_gates: list[Passed] | None = None
    runtime_class_name: Text | None = None
    enable_service_links: Flag | None = None
    overhead: dict[str, Any] | None = None
    topology_spread_constraints: list[Passed] | None = None
    set_hostname_as_fqdn: Flag | None = Field(None, alias="setHostnameAsFQDN")
    os: Passed | None = None
    resource_claims: list[Passed] | None = None
    resources: ResourceRequirements | None = None


# What of a pod spec KServe names, for code that must tell it from its own fields.
POD_FIELDS = frozenset(str(f.alias) for f in PodSpec.model_fields.values())
CONTAINER_FIELDS = frozenset(str(f.alias) for f in Container.model_fields.values())
