"""The typed view of a configuration."""

from __future__ import annotations

import json

import pytest

from nerite.config import (
    DynamicBatching,
    EnsembleStep,
    ModelConfig,
    QueuePolicy,
    TensorSpec,
    VersionPolicy,
)
from nerite.errors import ConfigError

FULL = {
    "name": "m",
    "backend": "identity",
    "max_batch_size": 8,
    "version_policy": {"specific": {"versions": [3, 1]}},
    "input": [
        {"name": "A", "data_type": "TYPE_STRING", "dims": [-1], "optional": True},
        {"name": "B", "data_type": "TYPE_FP32", "dims": [1], "reshape": {"shape": []}},
    ],
    "output": [{"name": "Y", "data_type": "TYPE_BF16", "dims": [2, 3], "label_filename": "l.txt"}],
    "dynamic_batching": {
        "preferred_batch_size": [4, 8],
        "max_queue_delay_microseconds": 100,
        "priority_levels": 2,
        "default_priority_level": 1,
        "default_queue_policy": {"timeout_action": "DELAY", "max_queue_size": 5},
        "priority_queue_policy": {"2": {"default_timeout_microseconds": 7}},
    },
    "instance_group": [
        {
            "name": "g",
            "kind": "KIND_CPU",
            "count": 3,
            "rate_limiter": {"resources": [{"name": "R", "global": True, "count": 2}]},
        }
    ],
    "parameters": {"b": {"string_value": "2"}, "a": {"string_value": "1"}},
    "metric_tags": {"team": "x"},
    "optimization": {"graph": {"level": -1}},
    "model_transaction_policy": {"decoupled": True},
    "model_warmup": [
        {
            "name": "w",
            "batch_size": 1,
            "inputs": {
                "A": {"data_type": "TYPE_STRING", "dims": [1], "zero_data": True},
                "B": {"data_type": "TYPE_FP32", "dims": [1], "input_data_file": "b.bin"},
            },
        }
    ],
}


def test_the_view_says_what_the_file_said() -> None:
    config = ModelConfig.from_dict(FULL)
    assert config.inputs == (
        TensorSpec("A", "BYTES", (-1,), optional=True),
        TensorSpec("B", "FP32", (1,), reshape=()),
    )
    assert config.outputs == (TensorSpec("Y", "BF16", (2, 3), label_filename="l.txt"),)
    assert config.dynamic_batching == DynamicBatching(
        preferred_sizes=(4, 8),
        max_queue_delay_us=100,
        priority_levels=2,
        default_priority_level=1,
        default_queue_policy=QueuePolicy("DELAY", max_queue_size=5),
        priority_queue_policies={2: QueuePolicy(default_timeout_us=7)},
    )
    assert config.version_policy == VersionPolicy("specific", 0, (3, 1))
    assert config.instance_groups[0].resources[0].shared
    assert dict(config.parameters) == {"a": "1", "b": "2"}
    assert dict(config.metric_tags) == {"team": "x"}
    assert (config.graph_level, config.decoupled, config.response_cache) == (-1, True, False)
    assert config.model_warmup[0].count == 1
    assert config.model_warmup[0].inputs["B"].file == "b.bin"
    assert config.scheduling == "dynamic"


@pytest.mark.parametrize(
    ("fields", "scheduling"),
    [
        ({}, "default"),
        ({"dynamic_batching": {}}, "dynamic"),
        ({"sequence_batching": {"oldest": {}}}, "sequence"),
        ({"ensemble_scheduling": {"step": [{"model_name": "x"}]}}, "ensemble"),
    ],
)
def test_the_scheduler_is_named(fields: dict[str, object], scheduling: str) -> None:
    assert ModelConfig.from_dict(fields).scheduling == scheduling


def test_an_ensembles_steps_are_typed() -> None:
    step = {"model_name": "x", "model_version": -1, "input_map": {"I": "t"}}
    config = ModelConfig.from_dict({"ensemble_scheduling": {"step": [step]}})
    assert config.ensemble_steps == (EnsembleStep("x", -1, {"I": "t"}, {}),)
    assert ModelConfig.from_dict({}).ensemble_steps == ()


def test_sequence_batching_is_typed() -> None:
    batching = {
        "oldest": {"max_candidate_sequences": 9, "max_queue_delay_microseconds": 3},
        "control_input": [{"name": "START"}],
        "state": [{"input_name": "i", "output_name": "o"}],
    }
    found = ModelConfig.from_dict({"sequence_batching": batching}).sequence_batching
    assert found is not None
    assert (found.strategy, found.max_candidate_sequences, found.max_queue_delay_us) == (
        "oldest",
        9,
        3,
    )
    assert (found.control_names, found.state_names) == (("START",), (("i", "o"),))


def test_a_configuration_cannot_be_changed_only_replaced() -> None:
    config = ModelConfig.from_dict({"name": "m", "dynamic_batching": {}})
    with pytest.raises(AttributeError, match="with_fields"):
        config.max_batch_size = 4  # type: ignore[misc]
    config.to_message().name = "other"
    other = config.with_fields(max_batch_size=4, dynamic_batching=None)
    assert (config.name, config.max_batch_size, config.scheduling) == ("m", 0, "dynamic")
    assert (other.name, other.max_batch_size, other.scheduling) == ("m", 4, "default")
    assert config != other
    assert len({config, ModelConfig.from_proto(config.to_proto())}) == 1


def test_an_unknown_field_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigError, match='no field named "max_batch"') as caught:
        ModelConfig.from_dict({"max_batch": 4})
    assert caught.value.problems[0].fix == "did you mean 'max_batch_size'?"


@pytest.mark.parametrize(
    "plain",
    [
        {"maxBatchSize": "4"},
        {"max_batch_size": 4.0},
        {"maxBatchSize": 4, "input": None, "dynamicBatching": None},
    ],
)
def test_proto3_json_is_understood(plain: dict[str, object]) -> None:
    assert ModelConfig.from_dict(plain) == ModelConfig.from_dict({"max_batch_size": 4})


def test_enums_are_understood_in_any_case_and_as_numbers() -> None:
    for kind in ("KIND_CPU", "kind_cpu", 2):
        config = ModelConfig.from_dict({"instance_group": [{"kind": kind}]})
        assert config.instance_groups[0].kind == "KIND_CPU"


def test_json_has_numbers_where_triton_has_numbers() -> None:
    """Triton quotes three 64-bit fields; see tests/config/vectors/sequence.json st_init_zero."""
    config = ModelConfig.from_dict(
        {
            "dynamic_batching": {"max_queue_delay_microseconds": 2**63},
            "instance_group": [{"secondary_devices": [{"device_id": 5}]}],
            "sequence_batching": None,
        }
    )
    plain = json.loads(config.to_json())
    assert plain["dynamic_batching"]["max_queue_delay_microseconds"] == 2**63
    assert plain["instance_group"][0]["secondary_devices"][0]["device_id"] == "5"


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (0.5, "0.5"), (1.0, "1"), (0.0, "0")])
def test_a_float_is_written_as_short_as_it_can_be(value: float, text: str) -> None:
    fields = {"sequence_batching": {"direct": {"minimum_slot_utilization": value}}}
    assert f'"minimum_slot_utilization":{text}}}' in ModelConfig.from_dict(fields).to_json()


def test_metadata_shows_the_batch_dimension() -> None:
    metadata = ModelConfig.from_dict(FULL).to_metadata((1, 3))
    assert metadata["versions"] == ["1", "3"]
    assert metadata["platform"] == "identity"
    assert metadata["outputs"] == [{"name": "Y", "datatype": "BF16", "shape": [-1, 2, 3]}]
