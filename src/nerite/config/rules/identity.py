# SPDX-License-Identifier: Apache-2.0
"""Rules about what a model is: name, backend, platform, agents, metrics, response cache."""

from __future__ import annotations

from dataclasses import replace

from nerite.config.rules import Context, Problems, problem
from nerite.config.rules.files import leads_out
from nerite.config.schema import Message

#: The platforms of the backends that have platforms of their own.
PLATFORMS = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch", "torch_aoti"),
}


def name_is_folder(config: Message, context: Context) -> Problems:
    """A name, if written, is that of the folder."""
    if context.name and config.name != context.name:
        text = (
            f"unexpected directory name '{context.name}' for model '{config.name}', "
            "directory name must equal model name"
        )
        fix = f"write name: \"{context.name}\", or leave 'name' out"
        yield problem(text, "name", config.name, fix)


def backend_is_known(config: Message, context: Context) -> Problems:
    """Everything but an ensemble has a backend."""
    if config.platform == "ensemble":
        if config.backend:
            text = (
                f"Ensemble model '{config.name}' must have platform type 'ensemble' and empty "
                "backend type"
            )
            yield problem(text, "backend", config.backend, "remove 'backend'")
    elif not config.backend:
        text = f"unexpected platform type '{config.platform}' for {config.name}"
        fix = "set 'backend' to the name of the backend that runs this model"
        yield problem(text, "platform", config.platform, fix)


def platform_fits_backend(config: Message, context: Context) -> Problems:
    """Backends that have platforms accept no others."""
    allowed = PLATFORMS.get(config.backend)
    if allowed is not None and config.platform not in allowed:
        text = f"unexpected 'platform' and 'backend' pair, got:{config.platform}, {config.backend}"
        fix = f"leave 'platform' out, or write {' or '.join(allowed)}"
        yield problem(text, "platform", config.platform, fix)


def cache_without_sequences(config: Message, context: Context) -> Problems:
    """Answers of stateful models cannot be cached."""
    if config.response_cache.enable and config.HasField("sequence_batching"):
        text = (
            f"Response Cache does not currently support model {config.name} with sequence "
            "batching scheduler. Please disable the response cache."
        )
        yield problem(text, "response_cache.enable", "true", "remove 'response_cache'")


def cache_without_decoupling(config: Message, context: Context) -> Problems:
    """Streams of answers cannot be cached."""
    if config.response_cache.enable and config.model_transaction_policy.decoupled:
        text = (
            f"Response Cache does not currently support model {config.name} with 'decoupled' "
            "transaction policy. Please disable the response cache."
        )
        yield problem(text, "response_cache.enable", "true", "remove 'response_cache'")


def metrics_are_complete(config: Message, context: Context) -> Problems:
    """Each metric control says which family and which buckets."""
    for index, control in enumerate(config.model_metrics.metric_control):
        key = f"model_metrics.metric_control[{index}]"
        if not control.HasField("metric_identifier"):
            text = "metric control must specify 'metric_identifier'"
            yield problem(text, key, "", 'add metric_identifier { family: "..." }')
        elif not control.metric_identifier.family:
            text = "metric identifier must specify non-empty 'family'"
            yield problem(text, f"{key}.metric_identifier", "", "add family")
        elif not control.HasField("histogram_options"):
            text = "metric control must specify 'histogram_options'"
            yield problem(text, key, "", "add histogram_options { buckets: [ ... ] }")
        elif not control.histogram_options.buckets:
            text = "histogram options must specify non-empty 'buckets'"
            yield problem(text, f"{key}.histogram_options", "", "add buckets: [ 1, 10, 100 ]")


#: The agents that are built in (`stores.agents`).
AGENTS = frozenset({"checksum"})


def agents_are_known(config: Message, context: Context) -> Problems:
    """Agents are built in or `module:Class`; Triton's native libraries are not loaded."""
    if not config.HasField("model_repository_agents"):
        return
    key = "model_repository_agents"
    if not config.model_repository_agents.agents:
        # Triton ends the whole server on an empty list.
        text = f"model_repository_agents must specify at least one agent for {config.name}"
        yield problem(text, key, "", f"remove '{key}'")
    for index, agent in enumerate(config.model_repository_agents.agents):
        if agent.name in AGENTS or ":" in agent.name:
            continue
        text = (
            f"unable to find 'libtritonrepoagent_{agent.name}.so' for repo agent "
            f"'{agent.name}', searched: {context.settings.repoagent_directory}"
        )
        built_in = ", ".join(sorted(AGENTS))
        fix = (
            f"native libraries are not loaded: name {built_in}, or one of your own as module:Class"
        )
        yield problem(text, f"{key}.agents[{index}]", agent.name, fix)


def labels_are_there(config: Message, context: Context) -> Problems:
    """Label files lie in the model folder."""
    if context.folder is None:
        return
    root = context.folder.resolve()
    for index, output in enumerate(config.output):
        if not output.label_filename:
            continue
        key = f"output[{index}].label_filename"
        path = context.folder / output.label_filename
        if leads_out(root, output.label_filename):
            text = (
                f"label file '{output.label_filename}' of output '{output.name}' escapes model "
                f"directory for {config.name}"
            )
            yield problem(text, key, output.label_filename, "put the file into the model folder")
        elif not path.is_file():
            reason = "Is a directory" if path.is_dir() else "No such file or directory"
            text = f"failed to open text file for read {path}: {reason}"
            fix = f"put {output.label_filename} into the model folder, one label per line"
            yield replace(problem(text, key, output.label_filename, fix), code="INTERNAL")
