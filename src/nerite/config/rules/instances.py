# SPDX-License-Identifier: Apache-2.0
"""Rules about instance groups and the resources their instances hold."""

from __future__ import annotations

import re

from nerite.config.parts import instance_group
from nerite.config.rules import Context, Problems, problem
from nerite.config.schema import Message


def groups_fit_the_machine(config: Message, context: Context) -> Problems:
    """GPUs are named by groups that run on GPUs, and exist."""
    for index, message in enumerate(config.instance_group):
        group = instance_group(message)
        key = f"instance_group[{index}]"
        who = f"instance group {group.name} of model {config.name}"
        if group.kind in ("KIND_CPU", "KIND_MODEL") and group.gpus:
            text = f"{who} has kind {group.kind} but specifies one or more GPUs"
            yield problem(text, f"{key}.gpus", list(group.gpus), "remove 'gpus', or kind: KIND_GPU")
        elif group.kind == "KIND_GPU" and not group.gpus:
            text = f"{who} has kind KIND_GPU but no GPUs are available"
            yield problem(text, f"{key}.kind", group.kind, "kind: KIND_CPU")
        elif group.kind == "KIND_GPU":
            yield from _gpus_exist(group.gpus, f"{key}.gpus", who, context)


def _gpus_exist(gpus: tuple[int, ...], key: str, who: str, context: Context) -> Problems:
    known = ", ".join(str(gpu) for gpu in context.gpus)
    for index, gpu in enumerate(gpus):
        if gpu not in context.gpus:
            text = (
                f"{who} specifies invalid or unsupported gpu id {gpu}. GPUs with at least the "
                "minimum required CUDA compute compatibility of "
                f"{context.settings.min_compute_capability:f} are: {known}"
            )
            fix = f"one of: {known}" if known else "kind: KIND_CPU, without 'gpus'"
            yield problem(text, f"{key}[{index}]", gpu, fix)


def profiles_are_tensorrts(config: Message, context: Context) -> Problems:
    """Optimization profiles exist for TensorRT only, and are numbers."""
    for index, message in enumerate(config.instance_group):
        group = instance_group(message)
        key = f"instance_group[{index}].profile"
        who = f"instance group {group.name} of model {config.name} and platform {config.platform}"
        if group.profiles and config.platform != "tensorrt_plan":
            text = f"{who}specifies profile field which is only supported for TensorRT models"
            yield problem(text, key, list(group.profiles), "remove 'profile'")
            continue
        for place, profile in enumerate(group.profiles):
            if not re.fullmatch(r"\d+", profile):
                text = (
                    f"{who} specifies invalid profile {profile}. The field should contain the "
                    "string representation of a non-negative integer."
                )
                yield problem(text, f"{key}[{place}]", profile, 'a number in quotes, such as "0"')


def resources_are_available(config: Message, context: Context) -> Problems:
    """With the rate limiter on, no instance needs more than there is."""
    if not context.settings.rate_limit:
        return
    shared: dict[str, bool] = {}
    for index, message in enumerate(config.instance_group):
        for place, resource in enumerate(instance_group(message).resources):
            key = f"instance_group[{index}].rate_limiter.resources[{place}]"
            if shared.setdefault(resource.name, resource.shared) != resource.shared:
                text = (
                    f'Resource "{resource.name}" is present as both global and device-specific '
                    "resource in the model configuration."
                )
                yield problem(text, key, resource.name, "write 'global' the same everywhere")
            limit = context.settings.rate_limit_resources.get(resource.name, resource.count)
            if resource.count > limit:
                text = (
                    f'Resource count for "{resource.name}" is limited to {limit} which will '
                    "prevent scheduling of one or more model instances, the minimum required "
                    f"count is {resource.count}"
                )
                yield problem(text, f"{key}.count", resource.count, f"at most {limit}")
