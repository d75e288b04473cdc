"""Rules that no recorded case covers, and what is completed from files and GPUs.

The texts are Triton's; those of the recorded cases are checked in `test_vectors`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.model_folders import write_model

from nerite.config import Member, ModelConfig, Request, Settings, join_ensemble, read_model
from nerite.config.inspection import check_path

MODEL = (
    "backend: 'identity'\nmax_batch_size: 4\n"
    "input { name: 'A' data_type: TYPE_FP32 dims: [ -1, 4 ] }\n"
    "output { name: 'B' data_type: TYPE_FP32 dims: [ -1, 4 ] }\n"
)
SEQUENCE = MODEL + "sequence_batching { %s }"
STATE = SEQUENCE % "state { input_name: 'S' data_type: TYPE_FP32 dims: [ 2, -1 ] %s }"
ENSEMBLE = (
    "platform: 'ensemble'\ninput { name: 'X' data_type: TYPE_FP32 dims: 1 }\n"
    "output { name: 'Y' data_type: TYPE_FP32 dims: 1 }\nensemble_scheduling { %s }\n"
)
STEP = "step { model_name: 'm' model_version: -1 input_map { key: 'I' value: '%s' } %s }"
OUT = "output_map { key: 'O' value: '%s' }"

BROKEN = {
    "platform of another backend": (
        "backend: 'onnxruntime' platform: 'tensorrt_plan'",
        "unexpected 'platform' and 'backend' pair, got:tensorrt_plan, onnxruntime",
    ),
    "preferred size 0 of oldest": (
        SEQUENCE % "oldest { preferred_batch_size: 0 }",
        "sequence batching preferred batch size must be positive for m",
    ),
    "preferred size 0": (
        MODEL + "dynamic_batching { preferred_batch_size: 0 }",
        "dynamic batching preferred size must be positive for m",
    ),
    "preferred size above the largest batch": (
        MODEL + "dynamic_batching { preferred_batch_size: 5 }",
        "dynamic batching preferred size must be <= max batch size for m",
    ),
    "reshape with another number of variable dimensions": (
        MODEL.replace("dims: [ -1, 4 ]", "dims: [ -1, 4 ] reshape { shape: [ -1, -1 ] }", 1),
        "model input 'A' has different number of variable-size dimensions for dims and reshape for "
        "m",
    ),
    "delay that changes the order": (
        MODEL + "dynamic_batching { preserve_ordering: true default_queue_policy { "
        "timeout_action: DELAY default_timeout_microseconds: 5 } }",
        "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
    ),
    "delay of a level": (
        MODEL + "dynamic_batching { preserve_ordering: true priority_queue_policy { key: 1 value {"
        " timeout_action: DELAY default_timeout_microseconds: 5 } } }",
        "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
    ),
    "one control twice": (
        SEQUENCE % "control_input { name: 'a' control { int32_false_true: [ 0, 1 ] } } "
        "control_input { name: 'b' control { int32_false_true: [ 0, 1 ] } }",
        "sequence batching specifies multiple CONTROL_SEQUENCE_START tensors for m",
    ),
    "metric without identifier": (
        MODEL + "model_metrics { metric_control { histogram_options { buckets: 1 } } }",
        "metric control must specify 'metric_identifier'",
    ),
    "metric without family": (
        MODEL + "model_metrics { metric_control { metric_identifier { } } }",
        "metric identifier must specify non-empty 'family'",
    ),
    "metric without options": (
        MODEL + "model_metrics { metric_control { metric_identifier { family: 'f' } } }",
        "metric control must specify 'histogram_options'",
    ),
    "metric without buckets": (
        MODEL + "model_metrics { metric_control { metric_identifier { family: 'f' } "
        "histogram_options { } } }",
        "histogram options must specify non-empty 'buckets'",
    ),
    "shape tensor": (
        "backend: 'identity' input { name: 'A' data_type: TYPE_FP32 dims: 1 "
        "is_shape_tensor: true }",
        "shape tensors are only supported for TensorRT platform for m",
    ),
    "non-linear format": (
        "backend: 'identity' input { name: 'A' data_type: TYPE_FP32 dims: 1 "
        "is_non_linear_format_io: true }",
        "Non-linear IO format is only supported for the TensorRT platform for m",
    ),
    "reshape with fewer unknowns": (
        "backend: 'identity' input { name: 'A' data_type: TYPE_FP32 dims: [ -1, -1 ] "
        "reshape { shape: [ -1 ] } }",
        "model input 'A' has different number of variable-size dimensions for dims and reshape",
    ),
    "profile without TensorRT": (
        MODEL + "instance_group { profile: '0' }",
        "specifies profile field which is only supported for TensorRT models",
    ),
    "model kind with GPUs": (
        MODEL + "instance_group { kind: KIND_MODEL gpus: 0 }",
        "instance group m_0 of model m has kind KIND_MODEL but specifies one or more GPUs",
    ),
    "batch input of an unknown input": (
        MODEL + "batch_input { kind: BATCH_ELEMENT_COUNT target_name: 'T' data_type: TYPE_FP32 "
        "source_input: 'Q' }",
        "unknown source input name 'Q' for m",
    ),
    "batch output to an unknown output": (
        MODEL + "batch_output { target_name: 'Q' source_input: 'A' }",
        "unknown target output name 'Q' for m",
    ),
    "batch output twice": (
        MODEL + "batch_output { target_name: [ 'B', 'B' ] source_input: 'A' }",
        "target output name 'B' can only be specified once for m",
    ),
    "two initial states": (
        STATE % "initial_state { } initial_state { }",
        "initial_state field for state input 'S' must contain exactly one or zero element. "
        "Found '2' elements.",
    ),
    "initial state of another type": (
        STATE % "initial_state { name: 'z' data_type: TYPE_INT8 dims: [ 2, 1 ] zero_data: true }",
        "The data type used for 'initial_state' field of state 'S' does not match the state data "
        "type.",
    ),
    "initial state of unknown size": (
        STATE % "initial_state { name: 'z' data_type: TYPE_FP32 dims: [ 2, -1 ] zero_data: true }",
        "'initial_state' field for state input name 'S' contains variable dimensions.",
    ),
    "warm-up file too short": (
        MODEL + "model_warmup { batch_size: 1 inputs { key: 'A' value { data_type: TYPE_FP32 "
        "dims: [ 1, 4 ] input_data_file: 'short' } } }",
        "warmup setting expects 16 bytes, but the data provided from shortonly has 3 bytes",
    ),
    "warm-up of another shape": (
        MODEL + "model_warmup { batch_size: 1 inputs { key: 'A' value { data_type: TYPE_FP32 "
        "dims: [ 1, 3 ] zero_data: true } } }",
        "unexpected shape for input 'A' for model 'm'. Expected [-1,-1,4], got [1,1,3].",
    ),
    "ensemble of a backend's model": (
        ENSEMBLE.replace("platform: 'ensemble'", "backend: 'identity'") % (STEP % ("X", OUT % "Y")),
        "ensemble scheduling cannot be set for model 'm' whose platform is not ensemble",
    ),
    "ensemble with instances": (
        ENSEMBLE % (STEP % ("X", OUT % "Y")) + "instance_group { }",
        "instance group should not be specified for ensemble 'm'",
    ),
    "step without outputs": (
        ENSEMBLE % (STEP % ("X", "")),
        "must specify 'output_map' in step 0 of ensemble 'm'",
    ),
    "output that needs itself": (
        ENSEMBLE % (STEP % ("X", OUT % "z") + STEP % ("q", OUT % "Y") + STEP % ("Y", OUT % "q")),
        "output 'Y' for ensemble 'm' is not written: at least one of its depending tensors, 'q', "
        "is not connected",
    ),
    "tensor nobody reads": (
        ENSEMBLE % (STEP % ("X", OUT % "Y") + STEP % ("X", OUT % "z")),
        "ensemble tensor 'z' is unused in ensemble 'm'",
    ),
    "label file that is a folder": (
        "backend: 'identity' output { name: 'B' data_type: TYPE_FP32 dims: 1 label_filename: '1' }",
        "m/1: Is a directory",
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_says_what_triton_says(text: str, message: str, repository: Path) -> None:
    files = {"config.pbtxt": text, "1/": None, "warmup/short": "abc"}
    messages = [problem.message for problem in check_path(write_model(repository / "m", files))]
    assert message in messages[0]


def test_resources_matter_only_to_the_rate_limiter(repository: Path) -> None:
    text = MODEL + "instance_group { rate_limiter { resources { name: 'R' count: 3 } } }"
    folder = write_model(repository / "m", {"config.pbtxt": text, "1/": None})
    assert check_path(folder) == []
    settings = Settings(rate_limit=True, rate_limit_resources={"R": 2})
    [problem] = check_path(folder, Request(settings=settings))
    assert problem.message == (
        'Resource count for "R" is limited to 2 which will prevent scheduling of one or more model '
        "instances, the minimum required count is 3"
    )


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("", {"model.savedmodel/x": ""},
         ("tensorflow", "tensorflow_savedmodel", "model.savedmodel")),
        ("", {"model.graphdef": ""}, ("tensorflow", "tensorflow_graphdef", "model.graphdef")),
        ("", {"model.plan": ""}, ("tensorrt", "tensorrt_plan", "model.plan")),
        ("", {"model.onnx": ""}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
        ("", {"model.onnx/x": ""}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
        ("", {"model.xml": ""}, ("openvino", "", "model.xml")),
        ("", {"model.pt": ""}, ("pytorch", "pytorch_libtorch", "model.pt")),
        ("", {"model.pt2": ""}, ("pytorch", "torch_aoti", "model.pt2")),
        ("", {"model.py": ""}, ("python", "", "model.py")),
        ("", {"model.py": "", "model.onnx": ""}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
        ("backend: 'python'", {"model.onnx": ""}, ("python", "", "model.py")),
        ("backend: 'pytorch'", {"model.pt2": ""}, ("pytorch", "torch_aoti", "model.pt2")),
        ("backend: 'pytorch'", {}, ("pytorch", "pytorch_libtorch", "model.pt")),
        ("backend: 'onnxruntime' default_model_filename: 'net.onnx'", {},
         ("onnxruntime", "onnxruntime_onnx", "net.onnx")),
        ("default_model_filename: 'model.py'", {"model.onnx": ""}, ("python", "", "model.py")),
        ("platform: 'torch_aoti'", {}, ("pytorch", "torch_aoti", "model.pt2")),
        ("backend: 'mine'", {"model.onnx": ""}, ("mine", "", "")),
    ],
)  # fmt: skip
def test_the_backend_is_told_from_words_and_files(
    text: str, files: dict[str, Any], expected: tuple[str, str, str], repository: Path
) -> None:
    folder = write_model(repository / "m", {"config.pbtxt": text, "1/": None})
    write_model(folder / "1", files)
    config = read_model(folder).config
    assert (config.backend, config.platform, config.default_model_filename) == expected


def test_a_folders_ending_names_a_backend_of_ones_own(repository: Path) -> None:
    config = read_model(write_model(repository / "m.my.own", {"1/": None})).config
    assert (config.backend, config.default_model_filename) == ("my.own", "model.my.own")


@pytest.mark.parametrize(
    ("group", "gpus", "expected"),
    [
        ("", (), ("m", "KIND_CPU", 1, ())),
        ("", (0, 1), ("m", "KIND_GPU", 1, (0, 1))),
        ("instance_group { kind: KIND_GPU }", (0, 1), ("m_0", "KIND_GPU", 1, (0, 1))),
        ("instance_group { gpus: 1 }", (0, 1), ("m_0", "KIND_GPU", 1, (1,))),
        ("instance_group { kind: KIND_CPU count: 3 }", (0,), ("m_0", "KIND_CPU", 3, ())),
        ("instance_group { name: 'g' kind: KIND_MODEL }", (), ("g", "KIND_MODEL", 1, ())),
    ],
)
def test_instances_go_where_they_can(
    group: str, gpus: tuple[int, ...], expected: tuple[object, ...], repository: Path
) -> None:
    files = {"config.pbtxt": MODEL + group, "1/": None}
    config = read_model(write_model(repository / "m", files), gpus=gpus).config
    [found] = config.instance_groups
    assert (found.name, found.kind, found.count, found.gpus) == expected


@pytest.mark.parametrize(("backend", "count"), [("onnxruntime", 2), ("python", 1)])
def test_two_instances_run_on_a_cpu_only_where_that_helps(
    backend: str, count: int, repository: Path
) -> None:
    files = {"config.pbtxt": f"backend: '{backend}'", "1/": None}
    [group] = read_model(write_model(repository / "m", files)).config.instance_groups
    assert group.count == count


def member(name: str, inputs: str, decoupled: bool = False) -> Member:
    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    config = ModelConfig.from_dict(
        {
            "name": name,
            "input": [{"name": each, **tensor} for each in inputs],
            "output": [{"name": "O", **tensor}],
            "model_transaction_policy": {"decoupled": decoupled},
        }
    )
    return Member(config, (1,))


def ensemble(*steps: tuple[str, dict[str, str], str]) -> ModelConfig:
    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    return ModelConfig.from_dict(
        {
            "name": "e",
            "platform": "ensemble",
            "input": [{"name": "x", **tensor}],
            "output": [{"name": "y", **tensor}],
            "ensemble_scheduling": {
                "step": [
                    {
                        "model_name": model,
                        "model_version": -1,
                        "input_map": inputs,
                        "output_map": {"O": output},
                    }
                    for model, inputs, output in steps
                ]
            },
        }
    )


def test_an_ensemble_is_decoupled_as_its_steps_are() -> None:
    chain = ensemble(("a", {"I": "x"}, "t"), ("b", {"I": "t"}, "y"))
    for decoupled in (False, True):
        members = {"a": member("a", "I", decoupled), "b": member("b", "I")}
        joined, problems = join_ensemble(chain, members)
        assert (problems, joined.decoupled) == ([], decoupled)


def test_a_step_cannot_mix_the_answers_of_two_decoupled_models() -> None:
    steps = (("a", {"I": "x"}, "s"), ("b", {"I": "x"}, "t"), ("c", {"I": "s", "J": "t"}, "y"))
    members = {
        "a": member("a", "I", decoupled=True),
        "b": member("b", "I", decoupled=True),
        "c": member("c", "IJ"),
    }
    _, [problem] = join_ensemble(ensemble(*steps), members)
    assert problem.message == (
        "in ensemble e, step of model 'c' receives inputs originated from different decoupled "
        "models"
    )


def test_every_input_of_a_step_is_tied_to_something_that_exists() -> None:
    members = {"c": member("c", "IJ")}
    _, problems = join_ensemble(ensemble(("c", {"I": "x", "Q": "x"}, "y")), members)
    assert [problem.message for problem in problems] == [
        "in ensemble e, ensemble tensor x is mapping to non-existing input Q in model c",
        "in ensemble e, input J in model c is not mapped to any ensemble tensors",
    ]
