"""What holds for every configuration and every text, whatever it says."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nerite.config import ModelConfig, render
from nerite.config.complete import complete_instances, normalise
from nerite.config.json_file import read_json
from nerite.config.model import message_of
from nerite.config.pbtxt import Scan, read_pbtxt
from nerite.config.schema import (
    DESCRIPTOR,
    FLOATS,
    INTEGER_RANGES,
    ModelConfigMessage,
    entry_of,
    enum_of,
    is_map,
    is_repeated,
)
from nerite.config.yaml_file import read_yaml
from nerite.errors import ConfigError

WORDS = st.text(max_size=8)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return WORDS
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in enum_of(field).values] + [77])
    if field.type in FLOATS:
        return st.floats(allow_nan=False, width=32) | st.just(-0.0)
    low, high = INTEGER_RANGES[field.type]
    return st.integers(low, high)


@st.composite
def filled(draw: st.DrawFn, message: Any, descriptor: Descriptor) -> Any:
    """The message with some of its fields set."""
    if not descriptor.fields:
        return message
    fields = draw(st.lists(st.sampled_from(list(descriptor.fields)), max_size=4, unique=True))
    for field in fields:
        if is_map(field):
            keys, values = entry_of(field)
            for key in draw(st.lists(scalars(keys), max_size=2, unique=True)):
                target = getattr(message, field.name)
                if values.message_type is None:
                    target[key] = draw(scalars(values))
                else:
                    draw(filled(target[key], values.message_type))
        elif field.message_type is not None:
            if is_repeated(field):
                for _ in range(draw(st.integers(0, 2))):
                    draw(filled(getattr(message, field.name).add(), field.message_type))
            else:
                getattr(message, field.name).SetInParent()
                draw(filled(getattr(message, field.name), field.message_type))
        elif is_repeated(field):
            getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalars(field)))
    return message


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any configuration the schema allows, sensible or not."""
    return ModelConfig(draw(filled(ModelConfigMessage(), DESCRIPTOR)))


Form = Literal["pbtxt", "yaml", "json"]
FORMS: tuple[Form, ...] = ("pbtxt", "yaml", "json")


def parsed(text: str, form: Form) -> ModelConfig:
    if form == "pbtxt":
        return ModelConfig(read_pbtxt(text, "f")[0])
    reader = read_yaml if form == "yaml" else read_json
    return ModelConfig(message_of(reader(text, "f")))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=configs())
def test_what_is_written_is_read_back(form: Form, config: ModelConfig) -> None:
    assert parsed(render(config, form), form) == config


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=configs())
def test_the_endpoints_json_and_the_bytes_say_everything(config: ModelConfig) -> None:
    assert ModelConfig.from_json(config.to_json()) == config
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert ModelConfig.from_proto(config.to_proto()) == config


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=configs())
def test_the_scan_finds_no_fault_in_what_the_parser_accepts(config: ModelConfig) -> None:
    scan = Scan(render(config, "pbtxt"), "f")
    scan.message(DESCRIPTOR, "", "")
    assert scan.problems == []


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=configs(), gpus=st.lists(st.integers(0, 3), unique=True))
def test_completing_twice_is_completing_once(config: ModelConfig, gpus: list[int]) -> None:
    message = config.to_message()
    normalise(message)
    complete_instances(message, tuple(gpus))
    once = ModelConfig(message)
    normalise(message)
    complete_instances(message, tuple(gpus))
    assert ModelConfig(message) == once


PIECES = st.sampled_from(
    ["input", "name", "dims", ":", "{", "}", "[", "]", "<", ">", "'a'", '"', "4", "-", "1.5", ",",
     "dynamic_batching", "parameters", "key", "value", "string_value", "TYPE_FP32", "#", "\n", " ",
     "kind", "instance_group", "data_type", "true", "é", "'", "\\", "0x", ";"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=30).map(" ".join))
@example("input { name: ")
@example("parameters { key: 'a' value")
@example("parameters [")
@example("dims: [ }")
@example("input { dims: [ } ] }")
@example("input [ } ]")
@example("instance_group { gpus: [ > > ] }")
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        read_pbtxt(text, "f")
    except ConfigError as error:
        problems = error.problems
    else:
        return
    assert problems
    assert all(p.file == "f" and p.line >= 1 and p.column >= 1 for p in problems)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="{}[]:,\"'ab1 \n-&*#|>!?%@`\t", max_size=40))
@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_any_tree_text_is_read_or_refused(read: Any, text: str) -> None:
    try:
        message_of(read(text, "f"))
    except ConfigError as error:
        problems = error.problems
    else:
        return
    assert problems
