# SPDX-License-Identifier: Apache-2.0
"""The schema of an InferenceService (v1beta1).

A component (predictor, transformer, explainer) is a pod spec, the scaling and sidecar fields all
components share, and for the predictor one model. The structs and their embedding follow KServe's
Go types because its refusals name them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from nerite.kserve.pods import Container, PodSpec
from nerite.kserve.schema import (
    DNS_NAME,
    Field,
    Flag,
    Int32,
    Int64,
    Labels,
    Passed,
    Schema,
    Text,
)

_EXTENSION = "ComponentExtensionSpec"


class StorageSpec(Schema):
    go_struct: ClassVar[str] = "ModelStorageSpec"

    key: Text | None = None
    path: Text | None = None
    parameters: Labels | None = None
    schema_path: Text | None = None


class Confidential(Schema):
    go_struct: ClassVar[str] = "ConfidentialSpec"

    enabled: Flag | None = None
    resource_id: Text | None = None


class ModelFormat(Schema):
    go_struct: ClassVar[str] = "ModelFormat"

    # KServe admits a model without a format, for which nothing can be selected.
    name: Text
    version: Text | None = None


class FrameworkSpec(Container):
    """A legacy key such as `predictor.sklearn`: a container with a model."""

    go_struct: ClassVar[str] = "PredictorExtensionSpec"
    via: ClassVar[dict[str, str]] = dict.fromkeys(Container.model_fields, "Container")

    storage_uri: Text | None = None
    storage: StorageSpec | None = None
    runtime_version: Text | None = None
    protocol_version: Text | None = None
    confidential: Confidential | None = None


class ModelSpec(FrameworkSpec):
    go_struct: ClassVar[str] = "ModelSpec"
    via: ClassVar[dict[str, str]] = {
        **dict.fromkeys(Container.model_fields, "PredictorExtensionSpec.Container"),
        **dict.fromkeys(
            ("storage_uri", "storage", "runtime_version", "protocol_version"),
            "PredictorExtensionSpec",
        ),
    }

    model_format: ModelFormat
    runtime: Text | None = None


class StorageUri(Schema):
    go_struct: ClassVar[str] = "StorageUri"

    uri: Annotated[Text, Field(min_length=1)] = Field("", validate_default=True)
    mount_path: Annotated[Text, Field(pattern=r"^/.*")] | None = None


class LoggerStorage(StorageSpec):
    service_account_name: Text | None = None


class Logger(Schema):
    go_struct: ClassVar[str] = "LoggerSpec"

    url: Text | None = None
    mode: Text | None = None
    metadata_headers: list[Text] | None = None
    metadata_annotations: list[Text] | None = None
    storage: LoggerStorage | None = None
    marshaller_url: Text | None = None
    batch_size: Int32 | None = None
    batch_interval: Text | None = None


class Batcher(Schema):
    go_struct: ClassVar[str] = "Batcher"

    max_batch_size: Int32 | None = None
    max_latency: Int32 | None = None
    timeout: Int32 | None = None


class AutoScaling(Schema):
    go_struct: ClassVar[str] = "AutoScalingSpec"

    metrics: list[Passed] | None = None
    behavior: Passed | None = None


class ComponentSpec(PodSpec):
    """What predictor, transformer and explainer have in common."""

    min_replicas: Int32 | None = None
    max_replicas: Int32 | None = None
    scale_target: Int32 | None = None
    scale_metric: Text | None = None
    scale_metric_type: Text | None = None
    auto_scaling: AutoScaling | None = None
    container_concurrency: Int64 | None = None
    timeout: Int64 | None = Field(None, alias="timeout")
    canary_traffic_percent: Int64 | None = None
    logger: Logger | None = None
    batcher: Batcher | None = None
    labels: Labels | None = None
    annotations: Labels | None = None
    deployment_strategy: Passed | None = None
    storage_uris: list[StorageUri] | None = None
    storage_container_name: Text | None = None


# Everything but what the predictor itself declares is embedded, and Go says so.
_EMBEDDED = {
    name: "PodSpec" if name in PodSpec.model_fields else _EXTENSION
    for name in ComponentSpec.model_fields
    if name not in ("storage_uris", "storage_container_name")
}


class WorkerSpec(PodSpec):
    go_struct: ClassVar[str] = "WorkerSpec"

    pipeline_parallel_size: Int32 | None = None
    tensor_parallel_size: Int32 | None = None


class PredictorSpec(ComponentSpec):
    go_struct: ClassVar[str] = "PredictorSpec"
    via: ClassVar[dict[str, str]] = _EMBEDDED

    name: Annotated[Text, Field(pattern=DNS_NAME)] | None = None
    sklearn: FrameworkSpec | None = None
    xgboost: FrameworkSpec | None = None
    tensorflow: FrameworkSpec | None = None
    pytorch: FrameworkSpec | None = None
    triton: FrameworkSpec | None = None
    onnx: FrameworkSpec | None = None
    huggingface: FrameworkSpec | None = None
    pmml: FrameworkSpec | None = None
    lightgbm: FrameworkSpec | None = None
    paddle: FrameworkSpec | None = None
    model: ModelSpec | None = None
    worker_spec: WorkerSpec | None = None


class TransformerSpec(ComponentSpec):
    go_struct: ClassVar[str] = "TransformerSpec"
    via: ClassVar[dict[str, str]] = _EMBEDDED


class ArtExplainer(Container):
    go_struct: ClassVar[str] = "ARTExplainerSpec"

    type: Text | None = None
    storage_uri: Text | None = None
    runtime_version: Text | None = None
    config: Labels | None = None
    storage: StorageSpec | None = None


class ExplainerSpec(ComponentSpec):
    go_struct: ClassVar[str] = "ExplainerSpec"
    via: ClassVar[dict[str, str]] = _EMBEDDED

    art: ArtExplainer | None = None


class Canary(Schema):
    go_struct: ClassVar[str] = "CanarySpec"

    predictor: PredictorSpec
    traffic_percent: Annotated[Int64, Field(ge=0, le=100)]


class InferenceServiceSpec(Schema):
    go_struct: ClassVar[str] = "InferenceServiceSpec"

    predictor: PredictorSpec
    transformer: TransformerSpec | None = None
    explainer: ExplainerSpec | None = None
    canary: list[Canary] | None = None


# The legacy keys, with the names of KServe's Go fields in their order there.
FRAMEWORKS = {
    "sklearn": "SKLearn",
    "xgboost": "XGBoost",
    "tensorflow": "Tensorflow",
    "pytorch": "PyTorch",
    "triton": "Triton",
    "onnx": "ONNX",
    "huggingface": "HuggingFace",
    "pmml": "PMML",
    "lightgbm": "LightGBM",
    "paddle": "Paddle",
}
