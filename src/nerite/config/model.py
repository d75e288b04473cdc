# SPDX-License-Identifier: Apache-2.0
"""A model's configuration, checked and complete: the one value every other room receives.

`ModelConfig` owns a protobuf message and never shows it; the properties are typed views of what
the rest of Nerite asks for. It cannot be changed: `with_fields` makes another one. The parts a
view is made of (`TensorSpec`, `InstanceGroup`, ...) are in `parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from nerite.config import parts, rendering
from nerite.config.json_file import read_json
from nerite.config.positions import Positions
from nerite.config.schema import Message, ModelConfigMessage
from nerite.config.tree import Filler, Node, from_plain
from nerite.errors import ConfigError


class ModelConfig:
    """What a model is called, what goes in and out, and how its requests are scheduled."""

    __slots__ = ("_message",)
    _message: Message

    def __init__(self, message: Message) -> None:
        own = ModelConfigMessage()
        own.CopyFrom(message)
        object.__setattr__(self, "_message", own)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The configuration of plain values, by proto3's JSON rules; raises ConfigError."""
        return cls(message_of(from_plain(plain)))

    @classmethod
    def from_json(cls, text: str, file: str = "<json>") -> Self:
        """The configuration of a JSON text; raises ConfigError with file, line and key."""
        return cls(message_of(read_json(text, file), Positions(file)))

    @classmethod
    def from_proto(cls, data: bytes) -> Self:
        """The configuration of a serialized `inference.ModelConfig`."""
        return cls(ModelConfigMessage.FromString(data))

    def to_dict(self) -> dict[str, Any]:
        """The values of `to_json`."""
        return rendering.to_dict(self._message, defaults=True)

    def to_json(self) -> str:
        """The text Triton's config endpoint answers: every scalar, unset sub-messages left out."""
        return rendering.to_json(self._message)

    def to_proto(self) -> bytes:
        """The serialized `inference.ModelConfig`; equal configurations give equal bytes."""
        return bytes(self._message.SerializeToString(deterministic=True))

    def to_message(self) -> Message:
        """A copy of the message, for the rooms that edit or render it."""
        copy = ModelConfigMessage()
        copy.CopyFrom(self._message)
        return copy

    def to_metadata(self, versions: tuple[int, ...] = ()) -> dict[str, Any]:
        """What the model metadata endpoint answers for these versions."""
        return {
            "name": self.name,
            "versions": [str(version) for version in versions],
            "platform": self.platform or self.backend,
            "inputs": [self._described(tensor) for tensor in self.inputs],
            "outputs": [self._described(tensor) for tensor in self.outputs],
        }

    def _described(self, tensor: parts.TensorSpec) -> dict[str, Any]:
        batch = [-1] if self.max_batch_size > 0 else []
        return {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [*batch, *tensor.dims],
        }

    def with_fields(self, **fields: Any) -> Self:
        """The same configuration with these top-level fields replaced.

        Values are as in `from_dict`; `None` removes the field. What an inferrer found out is
        added this way: `config.with_fields(max_batch_size=4, dynamic_batching={})`.
        """
        message = self.to_message()
        for name in fields:
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)
        return type(self)(message_of(from_plain(fields), into=message))

    @property
    def name(self) -> str:
        return str(self._message.name)

    @property
    def platform(self) -> str:
        return str(self._message.platform)

    @property
    def backend(self) -> str:
        return str(self._message.backend)

    @property
    def runtime(self) -> str:
        return str(self._message.runtime)

    @property
    def max_batch_size(self) -> int:
        """The largest batch; 0 means that tensors have no batch dimension."""
        return int(self._message.max_batch_size)

    @property
    def inputs(self) -> tuple[parts.TensorSpec, ...]:
        return tuple(parts.tensor_spec(item) for item in self._message.input)

    @property
    def outputs(self) -> tuple[parts.TensorSpec, ...]:
        return tuple(parts.tensor_spec(item) for item in self._message.output)

    @property
    def version_policy(self) -> parts.VersionPolicy:
        return parts.version_policy(self._message.version_policy)

    @property
    def instance_groups(self) -> tuple[parts.InstanceGroup, ...]:
        return tuple(parts.instance_group(item) for item in self._message.instance_group)

    @property
    def default_model_filename(self) -> str:
        return str(self._message.default_model_filename)

    @property
    def parameters(self) -> Mapping[str, str]:
        """The backend's own settings, without the `string_value` around each."""
        return {key: self._message.parameters[key].string_value for key in self._parameter_names}

    @property
    def _parameter_names(self) -> list[str]:
        return sorted(self._message.parameters)

    @property
    def metric_tags(self) -> Mapping[str, str]:
        return dict(sorted(self._message.metric_tags.items()))

    @property
    def scheduling(self) -> str:
        """Which scheduler runs the model: default, dynamic, sequence or ensemble."""
        chosen = self._message.WhichOneof("scheduling_choice")
        return "default" if chosen is None else str(chosen).partition("_")[0]

    @property
    def dynamic_batching(self) -> parts.DynamicBatching | None:
        if not self._message.HasField("dynamic_batching"):
            return None
        return parts.dynamic_batching(self._message.dynamic_batching)

    @property
    def sequence_batching(self) -> parts.SequenceBatching | None:
        if not self._message.HasField("sequence_batching"):
            return None
        return parts.sequence_batching(self._message.sequence_batching)

    @property
    def control_names(self) -> tuple[str, ...]:
        """The model's inputs that no client sends: the sequence batcher adds them."""
        batching = self.sequence_batching
        return () if batching is None else batching.control_names

    @property
    def agents(self) -> tuple[tuple[str, dict[str, str]], ...]:
        """The repository agents that act before the model is loaded: name and parameters."""
        agents = self._message.model_repository_agents.agents
        return tuple((agent.name, dict(agent.parameters)) for agent in agents)

    @property
    def ensemble_steps(self) -> tuple[parts.EnsembleStep, ...]:
        """The steps of an ensemble; empty for any other model."""
        return tuple(parts.ensemble_step(s) for s in self._message.ensemble_scheduling.step)

    @property
    def decoupled(self) -> bool:
        return bool(self._message.model_transaction_policy.decoupled)

    @property
    def response_cache(self) -> bool:
        return bool(self._message.response_cache.enable)

    @property
    def graph_level(self) -> int:
        """`optimization.graph.level`; 0 when nothing is said."""
        return int(self._message.optimization.graph.level)

    @property
    def model_warmup(self) -> tuple[parts.WarmupSample, ...]:
        return tuple(parts.warmup_sample(item) for item in self._message.model_warmup)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a ModelConfig cannot be changed; use with_fields({name}=...)")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelConfig) and self._message == other._message

    def __hash__(self) -> int:
        return hash(self.to_proto())

    def __repr__(self) -> str:
        return f"ModelConfig({self.name!r}, backend={self.backend!r})"


def message_of(
    node: Node, positions: Positions | None = None, into: Message | None = None
) -> Message:
    """The message of a tree of values; raises ConfigError with every problem found."""
    message = ModelConfigMessage() if into is None else into
    filler = Filler(positions if positions is not None else Positions())
    filler.fill(message, node)
    if filler.problems:
        raise ConfigError(*filler.problems)
    return message
