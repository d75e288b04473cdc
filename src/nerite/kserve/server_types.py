# SPDX-License-Identifier: Apache-2.0
"""What depends on which server a runtime is: defaults after selection, and its image.

The server type is the runtime's annotation `serving.kserve.io/server-type`; runtimes of before
that annotation are known by their name. It is also the key by which a local implementation stands
in for an image.
"""

from __future__ import annotations

import re

from nerite.kserve.documents import Object
from nerite.kserve.resources import Resource
from nerite.kserve.selection import lowest_protocol

SERVER_TYPE = "serving.kserve.io/server-type"
MODEL_CLASS = "modelClass"
SERVICE_ENVELOPE = "serviceEnvelope"

_BY_NAME = {
    "kserve-mlserver": "mlserver",
    "kserve-torchserve": "torchserve",
    "kserve-tritonserver": "tritonserver",
    "kserve-tensorflow-serving": "tensorflow-serving",
    "kserve-huggingfaceserver": "huggingfaceserver",
    "kserve-vllmserver": "vllmserver",
}
_MODEL_CLASSES = {
    "xgboost": "mlserver_xgboost.XGBoostModel",
    "lightgbm": "mlserver_lightgbm.LightGBMModel",
    "mlflow": "mlserver_mlflow.MLflowRuntime",
}
_GPU_TAGGED = frozenset({"tensorflow-serving", "torchserve", "huggingfaceserver"})


def server_type_of(runtime: Resource) -> str:
    """The server type of a runtime; empty for one that says nothing and is not known by name."""
    annotations = runtime.object["metadata"].get("annotations", {})
    return str(annotations.get(SERVER_TYPE, _BY_NAME.get(runtime.name, "")))


def default_for_server(
    model: Object, labels: dict[str, str], runtime: Resource, service_name: str, has_storage: bool
) -> None:
    """Complete the service's `model` and labels, in place, for the server of `runtime`."""
    server = server_type_of(runtime)
    if server == "mlserver":
        _default_mlserver(model, labels, service_name, has_storage)
    elif server == "tritonserver":
        model.setdefault("protocolVersion", "v2")
        if not has_storage:
            model["args"] = [*model.get("args", []), "--model-control-mode=explicit"]
    elif server == "torchserve":
        protocol = model.setdefault("protocolVersion", "v1")
        labels.setdefault(SERVICE_ENVELOPE, "kserve" if protocol == "v1" else "kservev2")
        _add_env(model, "PROTOCOL_VERSION", protocol)
    if "protocolVersion" not in model and lowest_protocol(runtime)[1]:
        model["protocolVersion"] = lowest_protocol(runtime)[1]


def _default_mlserver(
    model: Object, labels: dict[str, str], service_name: str, has_storage: bool
) -> None:
    model.setdefault("protocolVersion", "v2")
    if has_storage:
        _add_env(model, "MLSERVER_MODEL_NAME", service_name)
        _add_env(model, "MLSERVER_MODEL_URI", "/mnt/models")
    else:
        _add_env(model, "MLSERVER_LOAD_MODELS_AT_STARTUP", "false")
    name = model["modelFormat"]["name"]
    # KServe overwrites a label the user set; the user may have a class of their own.
    labels.setdefault(MODEL_CLASS, _MODEL_CLASSES.get(name, "mlserver_sklearn.SKLearnModel"))


def _add_env(model: Object, name: str, value: str) -> None:
    env = model.setdefault("env", [])
    if all(variable.get("name") != name for variable in env):
        env.append({"name": name, "value": value})


def image_of(container: Object, runtime_version: str | None, server: str) -> str:
    """The image to run: with the tag asked for, or the variant that fits the hardware."""
    image = str(container.get("image", ""))
    if "@sha256:" in image:
        return image
    repository, tag = _split_tag(image)
    if runtime_version:
        return f"{repository}:{runtime_version}"
    gpu = wants_gpu(container)
    if gpu and server in _GPU_TAGGED and tag and not tag.endswith("-gpu"):
        return f"{repository}:{tag}-gpu"
    if not gpu and server == "vllmserver" and not repository.endswith("-cpu"):
        return f"{repository}-cpu:{tag}" if tag else f"{repository}-cpu"
    return image


def wants_gpu(container: Object) -> bool:
    """Whether the limits name an NVIDIA GPU or a slice of one; KServe looks at nothing else."""
    limits = container.get("resources", {}).get("limits", {})
    return any(name == "nvidia.com/gpu" or name.startswith("nvidia.com/mig") for name in limits)


def _split_tag(image: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(?::([^/:]+))?", image)
    return (match[1], match[2] or "") if match else (image, "")
