# SPDX-License-Identifier: Apache-2.0
"""The parts of a `ModelConfig`, as frozen values that the rest of Nerite can hold.

Each dataclass has one function beside it that reads it out of the protobuf message. Defaults are
those of the schema: completing and checking happened before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nerite.config.schema import Message, enum_name


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output, without its batch dimension."""

    name: str
    datatype: str
    """The protocol's name: FP32, INT64, BYTES, ..."""
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    """The shape the backend sees, where it differs from `dims`; `()` is a scalar."""
    optional: bool = False
    allow_ragged_batch: bool = False
    label_filename: str = ""
    is_shape_tensor: bool = False
    format: str = "FORMAT_NONE"


def datatype_name(number: int, message: Message) -> str:
    """The protocol's name of a data type of the schema."""
    enum = message.DESCRIPTOR.fields_by_name["data_type"].enum_type
    name = str(enum_name(enum, number))
    special = {"TYPE_STRING": "BYTES", "TYPE_INVALID": "<invalid>"}
    return special.get(name, name.removeprefix("TYPE_"))


def tensor_spec(message: Message) -> TensorSpec:
    """The view of a ModelInput or ModelOutput."""
    is_input = message.DESCRIPTOR.name == "ModelInput"
    return TensorSpec(
        name=message.name,
        datatype=datatype_name(message.data_type, message),
        dims=tuple(message.dims),
        reshape=tuple(message.reshape.shape) if message.HasField("reshape") else None,
        optional=is_input and message.optional,
        allow_ragged_batch=is_input and message.allow_ragged_batch,
        label_filename="" if is_input else message.label_filename,
        is_shape_tensor=message.is_shape_tensor,
        format=_enum(message, "format") if is_input else "FORMAT_NONE",
    )


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of a model's versions are served."""

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()


def version_policy(message: Message) -> VersionPolicy:
    """The view of a ModelVersionPolicy; an unset one is `latest 1`."""
    kind = message.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy("all", 0)
    if kind == "specific":
        return VersionPolicy("specific", 0, tuple(message.specific.versions))
    return VersionPolicy("latest", message.latest.num_versions if kind else 1)


@dataclass(frozen=True, slots=True)
class RateLimitResource:
    """A resource an instance must hold while it runs."""

    name: str
    count: int
    shared: bool
    """Counted once for the whole host (`global` in the file) and not per device."""


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """Some equal instances of a model."""

    name: str
    kind: str
    count: int = 1
    gpus: tuple[int, ...] = ()
    profiles: tuple[str, ...] = ()
    passive: bool = False
    host_policy: str = ""
    resources: tuple[RateLimitResource, ...] = ()
    priority: int = 0


def instance_group(message: Message) -> InstanceGroup:
    """The view of a ModelInstanceGroup."""
    limiter = message.rate_limiter
    return InstanceGroup(
        name=message.name,
        kind=_enum(message, "kind"),
        count=message.count,
        gpus=tuple(message.gpus),
        profiles=tuple(message.profile),
        passive=message.passive,
        host_policy=message.host_policy,
        resources=tuple(
            RateLimitResource(r.name, r.count, getattr(r, "global")) for r in limiter.resources
        ),
        priority=limiter.priority,
    )


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How long a request may wait, and how many may wait."""

    timeout_action: str = "REJECT"
    default_timeout_us: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0
    """0 is unlimited."""


def queue_policy(message: Message) -> QueuePolicy:
    """The view of a ModelQueuePolicy."""
    return QueuePolicy(
        timeout_action=_enum(message, "timeout_action"),
        default_timeout_us=message.default_timeout_microseconds,
        allow_timeout_override=message.allow_timeout_override,
        max_queue_size=message.max_queue_size,
    )


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """How long a request may wait for company, and how much company it may have."""

    preferred_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policies: Mapping[int, QueuePolicy] = field(default_factory=dict)


def dynamic_batching(message: Message) -> DynamicBatching:
    """The view of a ModelDynamicBatching."""
    policies = message.priority_queue_policy
    return DynamicBatching(
        preferred_sizes=tuple(message.preferred_batch_size),
        max_queue_delay_us=message.max_queue_delay_microseconds,
        preserve_ordering=message.preserve_ordering,
        priority_levels=message.priority_levels,
        default_priority_level=message.default_priority_level,
        default_queue_policy=queue_policy(message.default_queue_policy),
        priority_queue_policies={key: queue_policy(policies[key]) for key in sorted(policies)},
    )


@dataclass(frozen=True, slots=True)
class SequenceBatching:
    """How the requests of one correlation id are kept together.

    Controls and states are wide and only the sequence scheduler reads them: it takes them from
    `ModelConfig.to_json()`.
    """

    strategy: Literal["direct", "oldest"] = "direct"
    max_sequence_idle_us: int = 1_000_000
    max_queue_delay_us: int = 0
    minimum_slot_utilization: float = 0.0
    max_candidate_sequences: int = 0
    preferred_sizes: tuple[int, ...] = ()
    preserve_ordering: bool = False
    iterative: bool = False
    control_names: tuple[str, ...] = ()
    state_names: tuple[tuple[str, str], ...] = ()


def sequence_batching(message: Message) -> SequenceBatching:
    """The view of a ModelSequenceBatching; without a strategy it is `direct`."""
    oldest = message.WhichOneof("strategy_choice") == "oldest"
    strategy = message.oldest if oldest else message.direct
    return SequenceBatching(
        strategy="oldest" if oldest else "direct",
        max_sequence_idle_us=message.max_sequence_idle_microseconds,
        max_queue_delay_us=strategy.max_queue_delay_microseconds,
        minimum_slot_utilization=message.direct.minimum_slot_utilization,
        max_candidate_sequences=message.oldest.max_candidate_sequences,
        preferred_sizes=tuple(message.oldest.preferred_batch_size),
        preserve_ordering=message.oldest.preserve_ordering,
        iterative=message.iterative_sequence,
        control_names=tuple(control.name for control in message.control_input),
        state_names=tuple((state.input_name, state.output_name) for state in message.state),
    )


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """One model of an ensemble and the ensemble tensors its own tensors are tied to."""

    model: str
    version: int
    """-1 is the latest."""
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    namespace: str = ""


def ensemble_step(message: Message) -> EnsembleStep:
    """The view of a step of ModelEnsembling."""
    return EnsembleStep(
        model=message.model_name,
        version=message.model_version,
        inputs=dict(sorted(message.input_map.items())),
        outputs=dict(sorted(message.output_map.items())),
        namespace=message.model_namespace,
    )


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One made-up tensor of a warm-up sample."""

    datatype: str
    dims: tuple[int, ...]
    source: Literal["zero", "random", "file"]
    file: str = ""


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A request that every instance runs before the model is ready."""

    name: str
    batch_size: int
    count: int
    inputs: Mapping[str, WarmupInput]


def warmup_sample(message: Message) -> WarmupSample:
    """The view of a ModelWarmup; a count of 0 runs it once."""
    inputs = {name: _warmup_input(message.inputs[name]) for name in sorted(message.inputs)}
    return WarmupSample(message.name, message.batch_size, max(message.count, 1), inputs)


def _warmup_input(message: Message) -> WarmupInput:
    datatype = datatype_name(message.data_type, message)
    dims = tuple(message.dims)
    kind = message.WhichOneof("input_data_type")
    if kind == "input_data_file":
        return WarmupInput(datatype, dims, "file", message.input_data_file)
    return WarmupInput(datatype, dims, "random" if kind == "random_data" else "zero")


def _enum(message: Message, name: str) -> str:
    enum = message.DESCRIPTOR.fields_by_name[name].enum_type
    return str(enum_name(enum, getattr(message, name)))
