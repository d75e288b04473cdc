# SPDX-License-Identifier: Apache-2.0
"""The fate of every field of a model configuration: none is ignored in silence.

A field is used, or changes nothing here (with the reason), or refuses the model with a sentence
that names it. A field that the schema gains has to be added, or the first test fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from tests.models.conftest import FakeEngine

from nerite.config.schema import DESCRIPTOR, entry_of, is_map
from nerite.errors import ConfigError, NeriteError, Unsupported
from nerite.models.live import Composed
from nerite.models.loading import Loading
from nerite.models.options import LoadOptions
from nerite.models.repository import Found

GPU = "only GPUs and TensorRT have it"
#: Fields that do what they say. A field stands for all below it that are not named themselves.
USED = """
    name platform backend runtime version_policy max_batch_size input output dynamic_batching
    instance_group default_model_filename metric_tags parameters model_transaction_policy
    model_metrics model_repository_agents optimization.graph response_cache ensemble_scheduling
    sequence_batching
    model_warmup
""".split()  # noqa: SIM905
#: Fields that change no answer of ours, and why.
NOTHING = {
    "input.format": "a note for people; Triton checks it and goes by it no more than we do",
    "optimization": "holds the fields below it",
    "optimization.priority": GPU,
    "optimization.cuda": GPU,
    "optimization.input_pinned_memory": GPU,
    "optimization.output_pinned_memory": GPU,
    "optimization.gather_kernel_buffer_threshold": GPU,
    "optimization.eager_batching": GPU,
    "instance_group.secondary_devices": GPU,
    "cc_model_filenames": GPU,
    "ensemble_scheduling.step.model_namespace": "reserved: no Triton reads it",
}
#: Configurations that are refused, for each field that refuses, with a part of the text.
REFUSED: dict[str, tuple[str, str]] = {
    "batch_input": (
        'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "N" data_type: TYPE_FP32 '
        'source_input: "X" }',
        "batch inputs (batch_input)",
    ),
    "batch_output": (
        'batch_output { target_name: "Y" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "X" }',
        "batch outputs (batch_output)",
    ),
    "input.allow_ragged_batch": (
        'backend: "onnxruntime" max_batch_size: 4 dynamic_batching {} '
        'input { name: "R" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }',
        "ragged batches",
    ),
    "model_operations": (
        'backend: "onnxruntime" model_operations { op_library_filename: "ops.so" }',
        "custom operators (model_operations.op_library_filename)",
    ),
    "sequence_batching.state": (
        'max_batch_size: 4 sequence_batching { state { input_name: "I" output_name: "O" '
        "data_type: TYPE_FP32 dims: [ 1 ] } }",
        "implicit state (sequence_batching.state)",
    ),
    "sequence_batching.iterative_sequence": (
        "max_batch_size: 4 sequence_batching { iterative_sequence: true }",
        "iterative sequences",
    ),
    "optimization.execution_accelerators": (
        'backend: "onnxruntime" optimization { execution_accelerators { '
        'cpu_execution_accelerator { name: "openvino" } } }',
        "execution accelerators",
    ),
    "instance_group.profile": (
        'instance_group { profile: "0" }',
        "profile field which is only supported",
    ),
    "instance_group.gpus": (
        "instance_group { kind: KIND_CPU gpus: 0 }",
        "specifies one or more GPUs",
    ),
    "input.is_shape_tensor": (
        "IN: is_shape_tensor: true",
        "shape tensors are only supported for TensorRT",
    ),
    "input.is_non_linear_format_io": ("IN: is_non_linear_format_io: true", "Non-linear IO format"),
    "output.is_shape_tensor": ("OUT: is_shape_tensor: true", "shape tensors are only supported"),
    "output.is_non_linear_format_io": (
        "OUT: is_non_linear_format_io: true",
        "Non-linear IO format",
    ),
}


def fields(message: Descriptor = DESCRIPTOR, path: str = "") -> Iterator[str]:
    for field in message.fields:
        child = f"{path}.{field.name}" if path else field.name
        yield child
        below = entry_of(field)[1].message_type if is_map(field) else field.message_type
        if below is not None:
            yield from fields(below, child)


def fate(path: str) -> str:
    """Where the field, or the nearest one above it, is listed."""
    while path:
        for name, listed in (("refused", REFUSED), ("nothing", NOTHING), ("used", USED)):
            if path in listed:
                return name
        path = path.rpartition(".")[0]
    return ""


@pytest.mark.parametrize("path", list(fields()))
def test_a_field_has_a_fate(path: str) -> None:
    assert fate(path)


def test_no_field_is_listed_that_does_not_exist_or_has_two_fates() -> None:
    listed = [*USED, *NOTHING, *REFUSED]
    assert set(listed) <= set(fields())
    assert len(listed) == len(set(listed))
    assert all(NOTHING.values())


def load(root: Path, text: str, engine: FakeEngine) -> None:
    """Loads a model of this configuration, with an input X and an output Y.

    Text behind `IN` and `OUT` goes into the one or the other.
    """
    where, _, inside = text.partition(": ") if text.startswith(("IN: ", "OUT: ")) else ("", "", "")
    backend = "" if "backend:" in text or "platform:" in text else 'backend: "identity"'
    folder = root / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.onnx").write_bytes(b"never looked at")
    (folder / "config.pbtxt").write_text(
        f"""{backend} {"" if where else text}
        input {{ name: "X" data_type: TYPE_FP32 dims: [ 1 ] {inside if where == "IN" else ""} }}
        output {{ name: "Y" data_type: TYPE_FP32 dims: [ 1 ] {inside if where == "OUT" else ""} }}
        """
    )
    loading = Loading(Found(folder=folder, name="m"), LoadOptions(auto_complete=False))
    try:
        loaded = loading.read()
        loading.serve(engine, loaded, Composed(loaded.config))
    finally:
        loading.close()


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_that_nothing_acts_on_refuses_the_model(
    field: str, tmp_path: Path, engine: Any
) -> None:
    text, told = REFUSED[field]
    with pytest.raises(NeriteError) as refused:
        load(tmp_path, text, engine)
    why = refused.value
    message = why.problems[0].message if isinstance(why, ConfigError) else str(why)
    assert told in message
    assert "m" in message
    assert isinstance(why, Unsupported | ConfigError)
    assert not engine.versions, "refused before anything was started"


@pytest.mark.parametrize(
    "text",
    [
        "instance_group { host_policy: 'p' rate_limiter { resources { name: 'R' count: 1 } } }",
        "response_cache { enable: true }",
        "optimization { cuda { graphs: true } eager_batching: true priority: PRIORITY_MAX }",
        "cc_model_filenames { key: '7.5' value: 'm.plan' }",
        "model_operations { op_library_filename: 'ops.so' }",
    ],
)
def test_what_changes_nothing_loads(text: str, tmp_path: Path, engine: Any) -> None:
    load(tmp_path, text, engine)
    assert ("m", 1) in engine.versions
