# SPDX-License-Identifier: Apache-2.0
"""The kinds Nerite reads, and how a document becomes one of them.

`read_resource` gives a `Resource`: the plain object, which defaulting and merging work on as
Kubernetes does, after its model has found nothing wrong with it. What may stand in an
InferenceService is in `services`; what the fields may mean together is decided in `admission`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from nerite.kserve.documents import Document, Object
from nerite.kserve.pods import NamedContainer, PodSpec, Quantity, ResourceRequirements
from nerite.kserve.schema import (
    ConfigDict,
    Field,
    Flag,
    Int32,
    Int64,
    Labels,
    Passed,
    Schema,
    Text,
    ValidationError,
    prune_nulls,
    to_camel,
)
from nerite.kserve.services import InferenceServiceSpec

GROUP = "serving.kserve.io"


class ObjectMeta(Schema):
    go_struct: ClassVar[str] = "ObjectMeta"

    name: Text | None = None
    generate_name: Text | None = None
    namespace: Text | None = None
    labels: Labels | None = None
    annotations: Labels | None = None
    finalizers: list[Text] | None = None
    owner_references: list[Passed] | None = None
    # Written by the API server; accepted because `kubectl get -o yaml` prints them.
    self_link: Text | None = None
    uid: Text | None = None
    resource_version: Text | None = None
    generation: Int64 | None = None
    creation_timestamp: Text | None = None
    deletion_timestamp: Text | None = None
    deletion_grace_period_seconds: Int64 | None = None
    managed_fields: list[Passed] | None = None


class SupportedModelFormat(Schema):
    name: Text
    version: Text | None = None
    auto_select: Flag | None = None
    priority: Annotated[Int32, Field(ge=1)] | None = None


class StorageHelper(Schema):
    disabled: Flag | None = None


class BuiltInAdapter(Schema):
    # KServe admits any text here, although only these mean something to ModelMesh.
    server_type: Literal["triton", "mlserver", "ovms", "torchserve"] | None = None
    runtime_management_port: Int32 | None = None
    mem_buffer_bytes: Int32 | None = None
    model_loading_timeout_millis: Int32 | None = None
    env: list[Passed] | None = None


class RuntimeWorkerSpec(PodSpec):
    containers: list[NamedContainer]  # type: ignore[assignment]
    pipeline_parallel_size: Int32 | None = None
    tensor_parallel_size: Int32 | None = None


class ServingRuntimeSpec(Schema):
    containers: list[NamedContainer]
    supported_model_formats: list[SupportedModelFormat] | None = None
    protocol_versions: list[Text] | None = None
    multi_model: Flag | None = None
    disabled: Flag | None = None
    volumes: list[Passed] | None = None
    node_selector: Labels | None = None
    affinity: Passed | None = None
    tolerations: list[Passed] | None = None
    image_pull_secrets: list[Passed] | None = None
    scheduler_name: Text | None = None
    resource_claims: list[Passed] | None = None
    labels: Labels | None = None
    annotations: Labels | None = None
    host_ipc: Flag | None = Field(None, alias="hostIPC")
    worker_spec: RuntimeWorkerSpec | None = None
    grpc_endpoint: Text | None = None
    grpc_data_endpoint: Text | None = None
    http_data_endpoint: Text | None = None
    replicas: Annotated[Int32, Field(ge=0, lt=2**16)] | None = None
    storage_helper: StorageHelper | None = None
    built_in_adapter: BuiltInAdapter | None = None


class GraphStep(Schema):
    name: Text | None = None
    node_name: Text | None = None
    service_name: Text | None = None
    service_url: Text | None = None
    data: Text | None = None
    map_predictions_to_instances: Flag | None = None
    weight: Int64 | None = None
    condition: Text | None = None
    dependency: Literal["Soft", "Hard"] | None = None


class GraphNode(Schema):
    router_type: Literal["Sequence", "Splitter", "Ensemble", "Switch"]
    steps: list[GraphStep] | None = None


class RouterTimeouts(Schema):
    server_read: Int64 | None = None
    server_write: Int64 | None = None
    server_idle: Int64 | None = None
    service_client: Int64 | None = None


class InferenceGraphSpec(Schema):
    nodes: dict[str, GraphNode]
    resources: ResourceRequirements | None = None
    affinity: Passed | None = None
    timeout: Int64 | None = None
    router_timeouts: RouterTimeouts | None = None
    min_replicas: Int32 | None = None
    max_replicas: Int32 | None = None
    scale_target: Int32 | None = None
    scale_metric: Text | None = None
    tolerations: list[Passed] | None = None
    node_selector: Labels | None = None
    node_name: Text | None = None
    service_account_name: Text | None = None


class SupportedUriFormat(Schema):
    prefix: Text | None = None
    regex: Text | None = None


class StorageContainerSpec(Schema):
    container: NamedContainer
    supported_uri_formats: list[SupportedUriFormat]
    # KServe admits any text here, and then never uses the container.
    workload_type: Literal["initContainer", "localModelDownloadJob"] | None = None
    supports_multi_model_download: Flag | None = None


class ModelToLoad(Schema):
    storage_uri: Text
    framework: Text
    memory: Quantity


class TrainedModelSpec(Schema):
    inference_service: Text
    model: ModelToLoad


class ServingRuntime(Schema):
    spec: ServingRuntimeSpec | None = None


class InferenceService(Schema):
    spec: InferenceServiceSpec | None = None


class InferenceGraph(Schema):
    spec: InferenceGraphSpec | None = None


class ClusterStorageContainer(Schema):
    spec: StorageContainerSpec | None = None
    disabled: Flag | None = None


class TrainedModel(Schema):
    spec: TrainedModelSpec | None = None


class ObjectHead(Schema):
    """What every object has; the fields of its kind stand beside it."""

    api_version: Text
    kind: Text
    metadata: ObjectMeta
    status: Passed | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind, the version of the API it belongs to, and what it may hold."""

    name: str
    version: str
    model: type[Schema]
    namespaced: bool = True


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("InferenceService", "v1beta1", InferenceService),
        Kind("ServingRuntime", "v1alpha1", ServingRuntime),
        Kind("ClusterServingRuntime", "v1alpha1", ServingRuntime, namespaced=False),
        Kind("InferenceGraph", "v1alpha1", InferenceGraph),
        Kind("TrainedModel", "v1alpha1", TrainedModel),
        Kind("ClusterStorageContainer", "v1alpha1", ClusterStorageContainer, namespaced=False),
    )
}


@dataclass(frozen=True, slots=True)
class Resource:
    """An object of a known kind whose fields are all known and of the right type."""

    kind: str
    object: Object
    document: Document

    @property
    def name(self) -> str:
        return str(self.object["metadata"].get("name", ""))

    @property
    def namespace(self) -> str:
        """Its namespace; empty for kinds that belong to the whole cluster."""
        return str(self.object["metadata"].get("namespace", ""))

    @property
    def spec(self) -> Object:
        spec: Object = self.object.get("spec", {})
        return spec


class Credentials(Schema):
    """What is read of a Secret or ServiceAccount; Kubernetes has more fields for both."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)

    metadata: ObjectMeta
    data: Labels | None = None
    string_data: Labels | None = None
    secrets: list[Passed] | None = None


def schema_errors(value: Object, kind: Kind) -> list[tuple[type[Schema], Any]]:
    """Pydantic's complaints about `value`, each with the model it was checked against."""
    head = {k: v for k, v in value.items() if k in ("apiVersion", "kind", "metadata", "status")}
    body = {k: v for k, v in value.items() if k not in head}
    found: list[tuple[type[Schema], Any]] = []
    for model, part in ((ObjectHead, head), (kind.model, body)):
        try:
            model.model_validate(prune_nulls(part))
        except ValidationError as error:
            found += [(model, complaint) for complaint in error.errors(include_url=False)]
    return found
