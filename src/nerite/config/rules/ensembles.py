# SPDX-License-Identifier: Apache-2.0
"""Rules about an ensemble by itself: its steps and how its tensors hang together.

What an ensemble asks of the models in it is in `ensemble`, which sees their configurations.
"""

from __future__ import annotations

from collections.abc import Iterator

from nerite.config.rules import Context, Problems, problem
from nerite.config.schema import Message

STEP = "ensemble_scheduling.step"


def ensembles_are_only_graphs(config: Message, context: Context) -> Problems:
    """An ensemble has steps, and nothing that only a model of its own could have."""
    name = config.name
    if not config.HasField("ensemble_scheduling"):
        if config.platform == "ensemble":
            text = f"ensemble scheduling must be set for ensemble {name} whose platform is ensemble"
            yield problem(text, "platform", "ensemble", "add ensemble_scheduling { step [ ... ] }")
        return
    if config.platform != "ensemble":
        text = (
            f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble"
        )
        yield problem(text, "ensemble_scheduling", "", 'write platform: "ensemble"')
    if config.instance_group:
        text = f"instance group should not be specified for ensemble '{name}'"
        yield problem(text, "instance_group", "", "remove 'instance_group'")
    if config.HasField("optimization"):
        text = f"optimization should not be specified for ensemble '{name}'"
        yield problem(text, "optimization", "", "remove 'optimization'")
    if config.model_warmup:
        text = f"model_warmup can not be specified for ensemble '{name}'"
        yield problem(text, "model_warmup", "", "remove 'model_warmup'; warm up the models in it")
    if not config.ensemble_scheduling.step:
        text = f"must specify 'step' for ensemble '{name}'"
        yield problem(text, "ensemble_scheduling", "", "add step [ { model_name: ... } ]")


def steps_are_complete(config: Message, context: Context) -> Problems:
    """A step names its model and ties its tensors; no tensor is written twice."""
    written: set[str] = set()
    for index, step in enumerate(config.ensemble_scheduling.step):
        key = f"{STEP}[{index}]"
        for field in ("model_name", "input_map", "output_map"):
            if not getattr(step, field):
                text = f"must specify '{field}' in step {index} of ensemble '{config.name}'"
                yield problem(text, key, "", f"add {field}")
        for output in sorted(step.output_map):
            tensor = step.output_map[output]
            if tensor in written:
                text = (
                    f"ensemble tensor '{tensor}' can appear in an output map only once for "
                    f"ensemble '{config.name}' step {index}"
                )
                yield problem(text, f"{key}.output_map[{output}]", tensor, "another tensor name")
            written.add(tensor)


def tensors_are_connected(config: Message, context: Context) -> Problems:
    """Every input is used, every output is reached, and nothing is left over."""
    if not _is_whole(config):
        return
    flow = _Flow(config)
    for index, tensor in enumerate(config.input):
        if tensor.name not in flow.names:
            text = f"ensemble input '{tensor.name}' for ensemble {config.name}' is not used"
            fix = "name it as a value of some step's input_map, or remove it"
            yield problem(text, f"input[{index}].name", tensor.name, fix)
    for index, tensor in enumerate(config.output):
        key = f"output[{index}].name"
        if tensor.name not in flow.names:
            text = f"ensemble output '{tensor.name}' for ensemble {config.name}' is not used"
            fix = "name it as a value of some step's output_map, or remove it"
            yield problem(text, key, tensor.name, fix)
        elif tensor.name not in flow.ready:
            cause = flow.cause(tensor.name)
            text = f"output '{tensor.name}' for ensemble '{config.name}' is not written"
            if cause != tensor.name:
                text += f": at least one of its depending tensors, '{cause}', is not connected"
            yield problem(text, key, tensor.name, f"let a step write '{cause}'")
    outputs = {tensor.name for tensor in config.output}
    for name in flow.names:
        if name not in outputs and (name not in flow.ready or name not in flow.read):
            text = f"ensemble tensor '{name}' is unused in ensemble '{config.name}'"
            fix = "read it in some step, make it an output, or leave it out of the output_map"
            yield problem(text, flow.names[name], name, fix)


def _is_whole(config: Message) -> bool:
    steps = config.ensemble_scheduling.step
    return bool(steps) and all(step.input_map and step.output_map for step in steps)


class _Flow:
    """Which tensors of an ensemble can be computed from its inputs."""

    def __init__(self, config: Message) -> None:
        self.names: dict[str, str] = {}
        """Every tensor a step mentions, with the key of the first mention."""
        self.read: set[str] = set()
        self.needs: dict[str, list[str]] = {}
        """What each written tensor is computed from."""
        for name, key, sources in _mentions(config):
            self.names.setdefault(name, key)
            if sources is None:
                self.read.add(name)
            else:
                self.needs.setdefault(name, []).extend(sources)
        self.ready = self._reach({tensor.name for tensor in config.input} & self.names.keys())

    def _reach(self, ready: set[str]) -> set[str]:
        grown = True
        while grown:
            more = {n for n, needs in self.needs.items() if n not in ready and ready >= set(needs)}
            ready, grown = ready | more, bool(more)
        return ready

    def cause(self, name: str) -> str:
        """The tensor farthest up that keeps `name` from being written."""
        seen = {name}
        while True:
            missing = [n for n in self.needs.get(name, ()) if n not in self.ready and n not in seen]
            if not missing:
                return name
            name = missing[0]
            seen.add(name)


def _mentions(config: Message) -> Iterator[tuple[str, str, list[str] | None]]:
    for index, step in enumerate(config.ensemble_scheduling.step):
        inputs = [step.input_map[name] for name in sorted(step.input_map)]
        for output in sorted(step.output_map):
            yield step.output_map[output], f"{STEP}[{index}].output_map[{output}]", inputs
        for name in sorted(step.input_map):
            yield step.input_map[name], f"{STEP}[{index}].input_map[{name}]", None
