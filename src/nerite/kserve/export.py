# SPDX-License-Identifier: Apache-2.0
"""Nerite as a ServingRuntime: what a cluster must be given to run it, one runtime per format.

The container keeps to what KServe asks of an image: HTTP on the first port, the service's name for
the model, arguments that may be repeated, no root, a root file system that nobody writes to, and a
stop that loses no request. Nothing is read or checked here; `admission` holds these runtimes
against KServe's rules in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from nerite.errors import InvalidArgument
from nerite.kserve.documents import Object
from nerite.kserve.resources import GROUP
from nerite.kserve.server_types import SERVER_TYPE
from nerite.kserve.storage_paths import MODEL_MOUNT

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8080, 9000, 8002

#: Format, as an InferenceService names it, and the versions of it that are served.
FORMATS = {
    "triton": ("2",),
    "onnx": ("1",),
    "sklearn": ("1",),
    "xgboost": ("1", "2", "3"),
    "lightgbm": ("3", "4"),
}
PROTOCOLS = ("v1", "v2", "grpc-v2")


@dataclass(frozen=True, slots=True)
class Runtimes:
    """Which runtimes are wanted."""

    image: str
    name: str = "nerite"
    """How their names begin; the format follows."""
    formats: tuple[str, ...] = tuple(FORMATS)
    namespace: str = ""
    """For ServingRuntimes of one namespace; otherwise they are for the whole cluster."""
    priority: int | None = None
    """Without one they come after every runtime that has one, as all of KServe's own do, and
    never conflict with another; with one above 3, before KServe's own."""
    auto_select: bool = True
    """Whether services that name no runtime get them."""
    trust: bool = False
    """Whether pickles may be loaded, which can run any code."""
    serverless: bool = False
    """For Knative, which takes one port only."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            known = ", ".join(FORMATS)
            raise InvalidArgument(f"--format: '{unknown[0]}' is not served; {known} are")
        if self.priority is not None and self.priority < 1:
            raise InvalidArgument(f"--priority: {self.priority} is out of range; 1 is the least")


def manifests(wanted: Runtimes) -> list[Object]:
    """The runtimes as Kubernetes objects."""
    return [_runtime(wanted, format_name) for format_name in wanted.formats]


def as_yaml(objects: Sequence[Object]) -> str:
    """Documents that `kubectl apply -f` takes."""
    return yaml.safe_dump_all(objects, sort_keys=False, explicit_start=True, width=100)


def as_json(objects: Sequence[Object]) -> str:
    """The same as one JSON value: the object, or a list of several."""
    if len(objects) == 1:
        return json.dumps(objects[0], indent=2)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}, indent=2)


def _runtime(wanted: Runtimes, format_name: str) -> Object:
    metadata: Object = {"name": f"{wanted.name}-{format_name}"}
    if wanted.namespace:
        metadata["namespace"] = wanted.namespace
    metadata["annotations"] = {SERVER_TYPE: "nerite"}
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ServingRuntime" if wanted.namespace else "ClusterServingRuntime",
        "metadata": metadata,
        "spec": {
            "annotations": {
                "prometheus.kserve.io/port": str(METRICS_PORT),
                "prometheus.kserve.io/path": "/metrics",
            },
            "supportedModelFormats": [
                _format(wanted, format_name, version) for version in FORMATS[format_name]
            ],
            "protocolVersions": list(PROTOCOLS),
            "containers": [_container(wanted, format_name)],
            "volumes": [{"name": "nerite-tmp", "emptyDir": {}}],
        },
    }


def _format(wanted: Runtimes, name: str, version: str) -> Object:
    chosen: Object = {"autoSelect": True} if wanted.auto_select else {}
    if wanted.auto_select and wanted.priority is not None:
        chosen["priority"] = wanted.priority
    return {"name": name, "version": version, **chosen}


def _container(wanted: Runtimes, format_name: str) -> Object:
    size = {"cpu": "1", "memory": "2Gi"}
    return {
        "name": "kserve-container",
        "image": wanted.image,
        "command": ["nerite", "serve"],
        "args": _arguments(wanted, format_name),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - the one place it may write to
        "ports": _ports(wanted),
        "readinessProbe": _probe("/v2/health/ready", periodSeconds=5, failureThreshold=1),
        "livenessProbe": _probe("/v2/health/live", periodSeconds=10, failureThreshold=3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": {"requests": size, "limits": dict(size)},
        "volumeMounts": [{"name": "nerite-tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _arguments(wanted: Runtimes, format_name: str) -> list[str]:
    """KServe's own flags first, so that unknown ones are overlooked and the last of two counts."""
    # A repository's models keep their names, as with Triton: that is how clients know them.
    named = [] if format_name == "triton" else ["--model_name={{.Name}}"]
    framework = [] if format_name == "triton" else [f"--framework={format_name}"]
    return [
        *named,
        f"--model_dir={MODEL_MOUNT}",
        *framework,
        f"--http_port={HTTP_PORT}",
        f"--grpc_port={GRPC_PORT}",
        f"--metrics-port={METRICS_PORT}",
        "--drain-delay=5",
        "--exit-timeout-secs=20",
        # The reason becomes the pod's termination message, and with it the service's status.
        "--exit-on-error=true",
        *(["--trust"] if wanted.trust else []),
    ]


def _ports(wanted: Runtimes) -> list[Object]:
    """HTTP comes first: the service's port and default probe go there."""
    ports = [{"name": "http1", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    if not wanted.serverless:
        ports.append({"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"})
    return ports


def _probe(path: str, **timing: int) -> Object:
    return {"httpGet": {"path": path, "port": HTTP_PORT}, "timeoutSeconds": 5, **timing}
