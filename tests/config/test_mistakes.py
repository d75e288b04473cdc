"""Mistakes people make, and what they are told: the line, the key, the value and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from tests.model_folders import write_model

from nerite.config import check_path
from nerite.errors import ConfigProblem


class Mistake(NamedTuple):
    """A configuration with one fault, and where and how the fault is told."""

    text: str
    line: int
    column: int
    key: str
    fix: str
    value: str = ""
    message: str = ""


IO = "input { name: 'A' data_type: TYPE_FP32 dims: 4 }\n"
BASE = f"backend: 'identity'\nmax_batch_size: 4\n{IO}"

PBTXT = {
    "typo at the top": Mistake(
        BASE + "max_batchsize: 8", 4, 1, "max_batchsize", "did you mean 'max_batch_size'?"
    ),
    "plural": Mistake(
        "inputs { name: 'A' }", 1, 1, "inputs", "did you mean 'input'?", message='"inputs"'
    ),
    "plural of a long word": Mistake(
        BASE + "instance_groups { count: 2 }",
        4, 1, "instance_groups", "did you mean 'instance_group'?",
    ),
    "typo in a message": Mistake(
        BASE + "dynamic_batching {\n  max_queue_delay_microsecond: 5\n}",
        5, 3, "dynamic_batching.max_queue_delay_microsecond",
        "did you mean 'max_queue_delay_microseconds'?",
    ),
    "typo in a list": Mistake(
        "backend: 'identity'\noutput [\n  { name: 'A' },\n  { nam: 'B' }\n]",
        4, 5, "output[1].nam", "did you mean 'name'?",
    ),
    "field of another message": Mistake(
        BASE + "preferred_batch_size: [ 2 ]",
        4, 1, "preferred_batch_size", "'preferred_batch_size' belongs in 'dynamic_batching'",
    ),
    "top-level field inside": Mistake(
        BASE + "dynamic_batching { max_batch_size: 4 }",
        4, 20, "dynamic_batching.max_batch_size", "move 'max_batch_size' to the top level",
    ),
    "NumPy's word": Mistake(
        "input { name: 'A' dtype: TYPE_FP32 dims: 1 }",
        1, 19, "input[0].dtype", "did you mean 'data_type'?",
    ),
    "shape for dims": Mistake(
        "input { name: 'A' data_type: TYPE_FP32 shape: 1 }",
        1, 40, "input[0].shape", "did you mean 'dims'?",
    ),
    "the protocol's type": Mistake(
        "input { data_type: TYPE_BYTES }",
        1, 20, "input[0].data_type", "did you mean TYPE_STRING?", "TYPE_BYTES",
    ),
    "type without prefix": Mistake(
        "input { data_type: FP32 }",
        1, 20, "input[0].data_type", "did you mean TYPE_FP32?", "FP32",
    ),
    "format without prefix": Mistake(
        "input { format: NHWC }", 1, 17, "input[0].format", "did you mean FORMAT_NHWC?", "NHWC"
    ),
    "kind without prefix": Mistake(
        "instance_group { kind: GPU }",
        1, 24, "instance_group[0].kind", "did you mean KIND_GPU?", "GPU",
    ),
    "enum in quotes": Mistake(
        "instance_group { kind: 'KIND_CPU' }",
        1, 24, "instance_group[0].kind", "write it without quotes", "'KIND_CPU'",
    ),
    "unknown enum": Mistake(
        "instance_group { kind: NEURAL }",
        1, 24, "instance_group[0].kind",
        "one of: KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL", "NEURAL",
    ),
    "number in quotes": Mistake(
        "max_batch_size: '4'",
        1, 17, "max_batch_size", "an integer from -2147483648 to 2147483647", "'4'",
        "Expected integer, got: '4'",
    ),
    "fraction for a whole number": Mistake(
        "max_batch_size: 4.5",
        1, 17, "max_batch_size", "an integer from -2147483648 to 2147483647", "4.5",
    ),
    "too large": Mistake(
        "max_batch_size: 3000000000",
        1, 17, "max_batch_size", "an integer from -2147483648 to 2147483647", "3000000000",
        "Integer out of range (3000000000)",
    ),
    "negative delay": Mistake(
        "dynamic_batching { max_queue_delay_microseconds: -1 }",
        1, 50, "dynamic_batching.max_queue_delay_microseconds",
        "an integer from 0 to 18446744073709551615", "-1", "Expected integer, got: -",
    ),
    "string without quotes": Mistake(
        "backend: identity", 1, 10, "backend", 'put it in quotes: "identity"', "identity"
    ),
    "yes for true": Mistake(
        "response_cache { enable: yes }",
        1, 26, "response_cache.enable", "write true or false", "yes",
    ),
    "quote left open": Mistake(
        'backend: "identity\nmax_batch_size: 4', 1, 10, "backend", "close the quotes",
        '"identity', "String literals cannot cross line boundaries.",
    ),
    "brace left open": Mistake(
        BASE + "dynamic_batching {\n", 5, 1, "dynamic_batching",
        "add the missing '}' for the '{' in line 4",
    ),
    "brace too many": Mistake(
        BASE + "}", 4, 1, "", "remove '}'", "}", "Expected identifier, got: }"
    ),
    "colon left out": Mistake(
        "max_batch_size 4", 1, 16, "max_batch_size", "write `max_batch_size: value`"
    ),
    "value left out": Mistake(
        "output { name: }", 1, 16, "output[0].name", "write `name: value`", "}"
    ),
    "value for a message": Mistake(
        "dynamic_batching: true", 1, 19, "dynamic_batching",
        "write `dynamic_batching { ... }`", "true",
    ),
    "twice": Mistake(
        "backend: 'identity'\nbackend: 'python'", 2, 1, "backend", "keep only one of them"
    ),
    "two schedulers": Mistake(
        BASE + "dynamic_batching {}\nsequence_batching {}",
        5, 1, "sequence_batching",
        "keep only one of 'dynamic_batching' and 'sequence_batching'",
        message='another member of oneof "scheduling_choice".',
    ),
    "strange character": Mistake("backend: 'a' @", 1, 14, "", "remove '@'", "@"),
    # From here on the file can be read, and a rule is broken.
    "preferred too large": Mistake(
        BASE + "dynamic_batching {\n  preferred_batch_size: [ 2,\n 8 ]\n}",
        6, 2, "dynamic_batching.preferred_batch_size[1]",
        "at most 4, or raise 'max_batch_size'", "8",
    ),
    "preferred without batching": Mistake(
        "backend: 'identity'\ndynamic_batching { preferred_batch_size: 2 }",
        2, 42, "dynamic_batching.preferred_batch_size[0]",
        "set 'max_batch_size', or remove the preferred sizes", "2",
    ),
    "no dims": Mistake(
        "backend: 'identity'\ninput [\n  { name: 'A' data_type: TYPE_FP32 }\n]",
        3, 3, "input[0].dims", "add dims; [ -1 ] is one of any size",
        message="model input 'A' must specify 'dims' for m",
    ),
    "dimension of 0": Mistake(
        "backend: 'identity'\ninput { name: 'A' data_type: TYPE_FP32 dims: [ 4, 0 ] }",
        2, 51, "input[0].dims[1]", "1 or more, or -1", "0",
    ),
    "same name twice": Mistake(
        BASE + IO, 4, 9, "input[1].name", "rename or remove one", "A",
        "model input 'A' is specified more than once for m",
    ),
    "another name": Mistake(
        "name: 'other'\nbackend: 'identity'",
        1, 1, "name", "write name: \"m\", or leave 'name' out", "other",
    ),
    "GPU without GPUs": Mistake(
        BASE + "instance_group {\n  kind: KIND_GPU\n}",
        5, 3, "instance_group[0].kind", "kind: KIND_CPU", "KIND_GPU",
    ),
    "no backend": Mistake(
        "platform: 'caffe'", 1, 1, "platform",
        "set 'backend' to the name of the backend that runs this model", "caffe",
    ),
    "a version that is not there": Mistake(
        BASE + "version_policy { specific { versions: [ 7 ] } }",
        4, 1, "version_policy", "name a version that is there (1) in 'version_policy'", "specific",
    ),
    "priority out of range": Mistake(
        BASE + "dynamic_batching {\n  priority_levels: 2\n  default_priority_level: 3\n}",
        6, 3, "dynamic_batching.default_priority_level",
        "set default_priority_level to 1 to 2", "3",
    ),
    "a key of a map": Mistake(
        BASE + "model_warmup {\n  batch_size: 1\n  inputs {\n    key: 'A'\n    value {\n"
        "      data_type: TYPE_FP32\n      dims: [ -1 ]\n      zero_data: true\n    }\n  }\n}",
        10, 7, "model_warmup[0].inputs[A].dims", "write each dimension as a number", "[-1]",
    ),
}  # fmt: skip

YAML = {
    "typo": Mistake(
        "backend: identity\nmax_batchsize: 4",
        2, 1, "max_batchsize", "did you mean 'max_batch_size'?",
    ),
    "enum": Mistake(
        "backend: identity\ninput:\n- name: A\n  data_type: FP32\n  dims: [4]",
        4, 14, "input[0].data_type", "did you mean TYPE_FP32?", "FP32",
    ),
    "wrong type": Mistake(
        "max_batch_size: four",
        1, 17, "max_batch_size", "an integer from -2147483648 to 2147483647", "four",
    ),
    "no list": Mistake("input: A", 1, 8, "input", "put it in [ ]", "A"),
    "no mapping": Mistake(
        "dynamic_batching: 5", 1, 19, "dynamic_batching", "write `key: value`", "5"
    ),
    "syntax": Mistake(
        "backend: identity\n\tmax: 1", 2, 1, "",
        "indent with spaces, the same for all keys of a level, and write `key: value`",
    ),
    "twice": Mistake(
        "backend: a\nbackend: b", 2, 1, "",
        "indent with spaces, the same for all keys of a level, and write `key: value`",
        message="key 'backend' appears twice",
    ),
    "two schedulers": Mistake(
        "backend: identity\ndynamic_batching: {}\nsequence_batching: {}",
        3, 20, "sequence_batching",
        "keep only one of 'dynamic_batching' and 'sequence_batching'", "{...}",
    ),
    "a rule": Mistake(
        "backend: identity\nmax_batch_size: 4\ndynamic_batching:\n  preferred_batch_size:\n"
        "  - 8\n",
        5, 5, "dynamic_batching.preferred_batch_size[0]",
        "at most 4, or raise 'max_batch_size'", "8",
    ),
}  # fmt: skip

JSON = {
    "typo": Mistake(
        '{"backend": "identity",\n "maxbatchsize": 4}',
        2, 2, "maxbatchsize", "did you mean 'max_batch_size'?",
    ),
    "syntax": Mistake(
        '{"backend": "identity"\n "name": "m"}', 2, 2, "",
        'quote keys and strings with ", separate members with one comma, end with none',
    ),
    "twice": Mistake('{"name": "m",\n "name": "m"}', 2, 2, "name", "keep one of them"),
    "out of range": Mistake(
        '{"backend": "identity",\n "instance_group": [{"count": 2147483648}]}',
        2, 31, "instance_group[0].count", "an integer from -2147483648 to 2147483647",
        "2147483648", "Integer out of range (2147483648)",
    ),
    "boolean as text": Mistake(
        '{"response_cache": {"enable": "yes"}}',
        1, 31, "response_cache.enable", "write true or false", "yes",
    ),
    "a rule": Mistake(
        '{"backend": "identity", "max_batch_size":\n -4}',
        1, 25, "max_batch_size", "0 for a model without a batch dimension, else the largest batch",
        "-4", "'max_batch_size' must be non-negative value for m",
    ),
}  # fmt: skip

TABLE = [
    pytest.param(file, mistake, id=f"{file}: {what}")
    for file, mistakes in (
        ("config.pbtxt", PBTXT),
        ("config.yaml", YAML),
        ("config.json", JSON),
    )
    for what, mistake in mistakes.items()
]


def first_problem(repository: Path, file: str, text: str) -> ConfigProblem:
    folder = write_model(repository / "m", {file: text, "1/": None})
    return check_path(folder)[0]


@pytest.mark.parametrize(("file", "mistake"), TABLE)
def test_a_mistake_is_told_with_its_place_and_its_fix(
    file: str, mistake: Mistake, repository: Path
) -> None:
    problem = first_problem(repository, file, mistake.text)
    assert problem.file == str(repository / "m" / file)
    assert (problem.line, problem.column) == (mistake.line, mistake.column)
    assert (problem.key, problem.value) == (mistake.key, mistake.value)
    assert problem.fix == mistake.fix
    assert mistake.message in problem.message


def test_all_mistakes_of_a_file_are_told_at_once(repository: Path) -> None:
    text = "backand: 'identity'\ninput { data_type: FP32 shape: 4 }\nmax_batch_size: '4'\n"
    folder = write_model(repository / "m", {"config.pbtxt": text, "1/": None})
    places = [(problem.line, problem.key) for problem in check_path(folder)]
    assert places == [
        (1, "backand"),
        (2, "input[0].data_type"),
        (2, "input[0].shape"),
        (3, "max_batch_size"),
    ]


def test_broken_rules_are_told_at_once_and_in_order(repository: Path) -> None:
    text = (
        "max_batch_size: -1\n"
        "input { name: 'A' data_type: TYPE_FP32 }\n"
        "instance_group { kind: KIND_GPU }\n"
    )
    folder = write_model(repository / "m", {"config.pbtxt": text, "1/": None})
    keys = [problem.key for problem in check_path(folder)]
    assert keys == ["backend", "max_batch_size", "input[0].dims", "instance_group[0].kind"]
