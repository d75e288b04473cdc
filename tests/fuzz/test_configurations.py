# SPDX-License-Identifier: Apache-2.0
"""Whatever a configuration file says, it is read, or refused with a place; and soon."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.fuzz.mutation import LONGEST, SECONDS, Hunt

from nerite.config import ModelConfig, Request, examine, render
from nerite.config.json_file import read_json
from nerite.config.model import message_of
from nerite.config.pbtxt import read_pbtxt
from nerite.config.positions import Positions
from nerite.config.tree import MOST_PROBLEMS
from nerite.config.yaml_file import read_yaml
from nerite.errors import ConfigError

pytestmark = pytest.mark.timeout(60 + 3 * SECONDS)
VECTORS = Path(__file__).parents[1] / "config/vectors"
Form = Literal["pbtxt", "yaml", "json"]
FORMS: tuple[Form, ...] = ("pbtxt", "yaml", "json")
#: Bytes that a byte of the text may cost while it is read, and what every text may.
PER_BYTE, ANY = 1500, 4 << 20


def parse(text: str, form: Form) -> ModelConfig:
    if form == "pbtxt":
        return ModelConfig(read_pbtxt(text, "f")[0])
    read: Callable[[str, str], Any] = read_yaml if form == "yaml" else read_json
    return ModelConfig(message_of(read(text, "f"), Positions("f")))


def recorded() -> list[str]:
    """Every config.pbtxt that was put before Triton."""
    found = set()
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            text = case["files"].get("config.pbtxt")
            if isinstance(text, str):
                found.add(text)
    return sorted(found)


def seeds(form: Form) -> list[str]:
    if form == "pbtxt":
        return recorded()
    made = []
    for text in recorded():
        try:
            made.append(render(parse(text, "pbtxt"), form))
        except ConfigError:
            continue
    return made


def answered(text: str, form: Form) -> ModelConfig | ConfigError:
    begun = time.monotonic()
    try:
        return parse(text, form)
    except ConfigError as refused:
        return refused
    finally:
        assert time.monotonic() - begun < 10, "a text this short must not take seconds"


def hold(text: str, form: Form) -> str:
    """What must hold for any text; the answer, for the hunt."""
    got = answered(text, form)
    if isinstance(got, ConfigError):
        assert 1 <= len(got.problems) <= MOST_PROBLEMS
        for problem in got.problems:
            str(problem).encode()  # a log and a reply can carry it
            assert problem.file == "f"
        return got.problems[0].message
    for other in FORMS:
        assert parse(render(got, other), other) == got
    assert ModelConfig.from_json(got.to_json()) == got
    return "read"


@pytest.mark.parametrize("form", FORMS)
def test_any_text_is_read_back_or_refused_with_a_place(form: Form) -> None:
    hunt = Hunt(seeds(form), form)
    assert len(hunt.pool) > 100
    refused = 0
    for text in hunt.inputs():
        try:
            answer = hold(text, form)
        except Exception as why:
            raise AssertionError(f"{form}: {why!r} for {text[:3000]!r}") from why
        refused += answer != "read"
        hunt.keep(text, answer)
    assert refused
    assert hunt.known


@pytest.mark.parametrize("form", FORMS)
def test_a_texts_memory_is_bounded_by_its_length(form: Form) -> None:
    """Counts and sizes that a text only claims reserve nothing."""
    hunt = Hunt(seeds(form)[:40], f"memory {form}")
    tracemalloc.start()
    try:
        for text in hunt.inputs():
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            answered(text, form)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < ANY + PER_BYTE * len(text.encode()), text[:3000]
    finally:
        tracemalloc.stop()


def test_a_folder_is_examined_whatever_its_configuration_says(tmp_path: Path) -> None:
    """Rules and completion meet what parses; problems are the only way out."""
    folder = tmp_path / "m"
    (folder / "1").mkdir(parents=True)
    hunt = Hunt(recorded(), "folders")
    for text in hunt.inputs():
        (folder / "config.pbtxt").write_text(text)
        try:
            found = examine(folder, Request())
        except Exception as why:
            raise AssertionError(f"{why!r} for {text[:3000]!r}") from why
        for problem in found.problems:
            str(problem).encode()
        if not found.problems:
            assert found.config is not None
            assert ModelConfig.from_json(found.config.to_json()) == found.config
        hunt.keep(text, found.problems[0].message if found.problems else "read")


STORIES: dict[str, tuple[Form, str]] = {
    "an integer of 5000 digits, of which Python makes no number": (
        "json", '{"max_batch_size": ' + "1" * 5000 + "}"),
    "half a surrogate pair in a name": ("json", '{"name": "\\ud800"}'),
    "half a surrogate pair in a key": ("json", '{"\\ud800": 1}'),
    "half a surrogate pair in YAML": ("yaml", 'name: "\\ud800"'),
    "a hexadecimal number that cannot be written out": (
        "yaml", "max_batch_size: 0x" + "f" * 5000),
    "base 60, which is longer than it looks": ("yaml", "max_batch_size: 1:2" + ":3" * 5000),
    "base 60 with a fraction": ("yaml", "max_batch_size: 1:2" + ":3" * 5000 + ".5"),
    "a tag that promises a truth value": ("yaml", "name: !!bool x"),
    "a tag that promises a date": ("yaml", "name: !!timestamp x"),
    "a tag that promises a number and gives nothing": ("yaml", 'name: !!int ""'),
    "an escape beyond the last character": ("yaml", 'name: "\\UFFFFFFFF"'),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_what_once_came_out_as_another_error_is_refused(story: str) -> None:
    """Each ended in an error of Python's, found by a hunt: a load then had no reason to give."""
    form, text = STORIES[story]
    got = answered(text, form)
    assert isinstance(got, ConfigError)
    assert got.problems[0].line == 1 or "\\U" in text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("pbtxt", "a " * 200_000),
        ("pbtxt", "input { data_type: X }\n" * 5_000),
        ("json", "{" + ",".join(f'"k{i}": 1' for i in range(20_000)) + "}"),
        ("yaml", "\n".join(f"k{i}: 1" for i in range(5_000))),
    ],
)
def test_a_file_that_is_all_mistakes_is_given_up_soon(form: Form, text: str) -> None:
    """400 kB of unknown words once took half a minute: each was looked up for advice."""
    got = answered(text, form)
    assert isinstance(got, ConfigError)
    assert len(got.problems) == MOST_PROBLEMS


def test_entries_of_a_map_do_not_cost_the_square_of_their_number() -> None:
    """Where each entry's keys stand was once looked up among those of all the others."""
    entry = 'parameters {{ key: "k{}" value: {{ string_value: "x" }} }}\n'
    began = time.monotonic()
    config = answered("".join(entry.format(i) for i in range(LONGEST)), "pbtxt")
    assert isinstance(config, ModelConfig)
    assert len(config.parameters) == LONGEST
    assert time.monotonic() - began < 15
