# SPDX-License-Identifier: Apache-2.0
"""What an ensemble asks of the models in it.

`join_ensemble` needs the completed configurations of the other models, so the room that loads
models calls it, after those models have loaded and whenever one of them changes. What an ensemble
must be by itself is in `rules.ensembles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nerite.config.model import ModelConfig
from nerite.config.parts import EnsembleStep, TensorSpec
from nerite.errors import ConfigProblem

STEP = "ensemble_scheduling.step"
ConfigTypes = {"BYTES": "TYPE_STRING", "<invalid>": "TYPE_INVALID"}


@dataclass(frozen=True, slots=True)
class Member:
    """Another model of the repository, as an ensemble sees it."""

    config: ModelConfig | None = None
    """None when its configuration could not be read."""
    versions: tuple[int, ...] = ()
    """The versions that are loaded."""
    fault: str = ""
    """Why it has no loaded version, or why its own configuration is not valid."""
    is_valid: bool = True


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What is known about an ensemble tensor, and from which model."""

    datatype: str
    dims: tuple[int, ...]
    full_dims: tuple[int, ...]
    model: str


def join_ensemble(
    config: ModelConfig, members: Mapping[str, Member]
) -> tuple[ModelConfig, list[ConfigProblem]]:
    """The ensemble with what its members decide (whether it is decoupled), and all problems.

    Triton sets `decoupled` from the steps, whatever is written; so does this.
    """
    problems = [*_membership(config, members), *_cycle(config, members)]
    if problems:
        return config, problems
    found = _Wiring(config, members)
    decoupled, more = _decoupling(config, members)
    joined = config.with_fields(model_transaction_policy={"decoupled": decoupled})
    return joined, [*found.problems(), *more]


def _membership(config: ModelConfig, members: Mapping[str, Member]) -> Iterator[ConfigProblem]:
    """Each step's model is there and has the version the step wants."""
    steps = list(enumerate(config.ensemble_steps))
    absent = sorted({step.model for _, step in steps if step.model not in members})
    if absent:
        text = (
            f"ensemble {config.name} contains models that are not available or ambiguous: "
            f"{', '.join(absent)}"
        )
        index = next(index for index, step in steps if step.model in absent)
        fix = "add the model to the repository, or correct its name"
        yield ConfigProblem(text, key=f"{STEP}[{index}].model_name", value=absent[0], fix=fix)
    for index, step in steps:
        member = members.get(step.model)
        if member is None:
            continue
        depends = f"ensemble '{config.name}' depends on '{step.model}'"
        if not member.is_valid:
            text = (
                f"{depends} which is not valid. Model '{step.model}' failed with error: "
                f"{member.fault}"
            )
        elif member.config is None or not member.versions:
            text = (
                f"{depends} which has no loaded version. Model '{step.model}' loading failed "
                f"with error: {member.fault};"
            )
        elif step.version != -1 and step.version not in member.versions:
            text = f"{depends} whose required version {step.version} is not loaded."
            fix = "model_version: -1 takes the latest version"
            key = f"{STEP}[{index}].model_version"
            yield ConfigProblem(text, key=key, value=str(step.version), fix=fix)
            continue
        else:
            continue
        fix = f"mend model '{step.model}' first"
        key = f"{STEP}[{index}].model_name"
        yield ConfigProblem(text, key=key, value=step.model, fix=fix)


def find_cycle(name: str, configs: Mapping[str, ModelConfig]) -> str:
    """The ensemble through which `name` comes back to itself, or `""`."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        config = configs.get(current)
        for step in config.ensemble_steps if config is not None else ():
            if step.model == name:
                return current
            if step.model not in seen:
                seen.add(step.model)
                waiting.append(step.model)
    return ""


def circular(name: str, last: str) -> ConfigProblem:
    """The problem of an ensemble that contains itself, by way of `last`."""
    text = f"circular dependency between ensembles: {name} -> ... -> {last} -> {name}"
    return ConfigProblem(text, key=STEP, value=last, fix=f"take '{name}' out of '{last}'")


def _cycle(config: ModelConfig, members: Mapping[str, Member]) -> Iterator[ConfigProblem]:
    configs = {name: m.config for name, m in members.items() if m.config is not None}
    last = find_cycle(config.name, {**configs, config.name: config})
    if last:
        yield circular(config.name, last)


class _Wiring:
    """Names, types and shapes of the tensors that steps pass to each other."""

    def __init__(self, config: ModelConfig, members: Mapping[str, Member]) -> None:
        self.config, self.members = config, members
        self.tensors: dict[str, _Tensor] = {}
        self.begin = f"in ensemble {config.name}, "

    def problems(self) -> Iterator[ConfigProblem]:
        batched = self.config.max_batch_size > 0
        for tensor in (*self.config.inputs, *self.config.outputs):
            dims = tensor.dims if tensor.reshape is None else tensor.reshape
            seen = _tensor(tensor, dims, batched, self.config.name)
            self.tensors.setdefault(tensor.name, seen)
        for index, step in enumerate(self.config.ensemble_steps):
            model = self.members[step.model].config
            if model is not None:
                yield from self._step(f"{STEP}[{index}]", step, model)

    def _step(self, key: str, step: EnsembleStep, model: ModelConfig) -> Iterator[ConfigProblem]:
        if 0 < model.max_batch_size < self.config.max_batch_size:
            text = (
                f"ensemble {self.config.name} allows maximum batch size "
                f"{self.config.max_batch_size}, but it contains model {step.model} which only "
                f"allows maximum batch size to be {model.max_batch_size}"
            )
            value = str(self.config.max_batch_size)
            fix = f"max_batch_size: {model.max_batch_size}"
            yield ConfigProblem(text, key="max_batch_size", value=value, fix=fix)
        yield from self._inputs(f"{key}.input_map", step, model)
        yield from self._outputs(f"{key}.output_map", step, model)

    def _inputs(self, key: str, step: EnsembleStep, model: ModelConfig) -> Iterator[ConfigProblem]:
        known = {tensor.name: tensor for tensor in model.inputs}
        for name in (name for name in step.inputs if name not in known):
            text = (
                f"{self.begin}ensemble tensor {step.inputs[name]} is mapping to non-existing "
                f"input {name} in model {step.model}"
            )
            fix = f"one of: {', '.join(known)}"
            yield ConfigProblem(text, key=f"{key}[{name}]", value=name, fix=fix)
        for name, tensor in known.items():
            if name in step.inputs:
                yield from self._same(f"{key}[{name}]", step.inputs[name], tensor, model)
            elif not tensor.optional:
                text = (
                    f"{self.begin}input {name} in model {step.model} is not mapped to any "
                    "ensemble tensors"
                )
                fix = f'add input_map {{ key: "{name}" value: "..." }}'
                yield ConfigProblem(text, key=key, fix=fix)

    def _outputs(self, key: str, step: EnsembleStep, model: ModelConfig) -> Iterator[ConfigProblem]:
        known = {tensor.name: tensor for tensor in model.outputs}
        for name, target in step.outputs.items():
            if name in known:
                yield from self._same(f"{key}[{name}]", target, known[name], model)
                continue
            text = (
                f"{self.begin}ensemble tensor {target} is mapped from non-existing output {name} "
                f"in model {step.model}"
            )
            fix = f"one of: {', '.join(known)}"
            yield ConfigProblem(text, key=f"{key}[{name}]", value=name, fix=fix)

    def _same(
        self, key: str, name: str, tensor: TensorSpec, model: ModelConfig
    ) -> Iterator[ConfigProblem]:
        there = _tensor(tensor, tensor.dims, model.max_batch_size > 0, model.name)
        here = self.tensors.setdefault(name, there)
        prefix = f"{self.begin}ensemble tensor {name}: inconsistent"
        if here.datatype != there.datatype:
            text = (
                f"{prefix} data type: {here.datatype} is inferred from model {here.model} while "
                f"{there.datatype} is inferred from model {there.model}"
            )
            fix = "tie tensors of one type, or put a model between them"
            yield ConfigProblem(text, key=key, value=name, fix=fix)
        # A non-batching model may spell out the batch dimension that a batching one leaves out.
        elif not (_match(here.dims, there.dims) or _match(here.full_dims, there.full_dims)):
            text = (
                f"{prefix} shape: {_shown(here.full_dims)} is inferred from model {here.model} "
                f"while {_shown(there.full_dims)} is inferred from model {there.model}"
            )
            yield ConfigProblem(text, key=key, value=name, fix="tie tensors of one shape")


def _tensor(tensor: TensorSpec, dims: tuple[int, ...], batched: bool, model: str) -> _Tensor:
    datatype = ConfigTypes.get(tensor.datatype, f"TYPE_{tensor.datatype}")
    return _Tensor(datatype, dims, (-1, *dims) if batched else dims, model)


def _match(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(
        a == b or -1 in (a, b) for a, b in zip(one, other, strict=True)
    )


def _shown(dims: tuple[int, ...]) -> str:
    return "[" + ",".join(str(dim) for dim in dims) + "]"


def _decoupling(
    config: ModelConfig, members: Mapping[str, Member]
) -> tuple[bool, list[ConfigProblem]]:
    """Whether answers come decoupled; a step may not mix the answers of two such models."""
    origin = {tensor.name: 0 for tensor in config.inputs}
    waiting = dict(enumerate(config.ensemble_steps))
    label, problems = 0, []
    while waiting:
        ready = [i for i, step in waiting.items() if set(step.inputs.values()) <= origin.keys()]
        if not ready:
            break
        for index in ready:
            step = waiting.pop(index)
            origins = {origin[name] for name in step.inputs.values()}
            if len(origins) > 1:
                problems.append(_mixed(config.name, step, index))
            model = members[step.model].config
            decoupled = model is not None and model.decoupled
            label += decoupled
            mark = label if decoupled else min(origins)
            origin.update(dict.fromkeys(step.outputs.values(), mark))
    return label > 0, problems


def _mixed(name: str, step: EnsembleStep, index: int) -> ConfigProblem:
    text = (
        f"in ensemble {name}, step of model '{step.model}' receives inputs originated from "
        "different decoupled models"
    )
    fix = "let all inputs of a step come from the same decoupled model"
    return ConfigProblem(text, key=f"{STEP}[{index}].input_map", value=step.model, fix=fix)
