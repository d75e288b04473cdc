# SPDX-License-Identifier: Apache-2.0
"""Every error text that the specification quotes is held by a test, or says what it waits for."""

from __future__ import annotations

import pytest
from tests.texts.quoted import Text, is_expected, texts

#: What texts may wait for. A feature that is there is taken out, and its texts get tests.
FEATURES: set[str] = set()


@pytest.mark.parametrize("text", [t for t in texts() if not t.fate], ids=lambda t: t.words[:60])
def test_a_text_of_tritons_is_held_by_some_test(text: Text) -> None:
    assert is_expected(text), "write the test, or say in quoted.txt what the text waits for"


@pytest.mark.parametrize("text", [t for t in texts() if t.fate], ids=lambda t: t.words[:60])
def test_a_text_that_waits_is_not_held_already(text: Text) -> None:
    assert not is_expected(text), f"take '{text.fate}' out of quoted.txt"


def test_fates_are_features_or_reasons() -> None:
    kinds = {text.fate.partition(": ")[0] for text in texts() if text.fate}
    assert kinds <= {"waits", "better"}
    waiting = {t.fate.removeprefix("waits: ") for t in texts() if t.fate.startswith("waits: ")}
    assert waiting == FEATURES


def test_no_text_is_listed_twice() -> None:
    assert len({(text.section, text.words) for text in texts()}) == len(texts()) > 130


def test_a_text_that_nobody_expects_is_noticed() -> None:
    """The search itself: it finds what is there, with gaps, and nothing else."""
    made = Text("0", "", "Request for unknown {}: '{}' is not " + "to be found anywhere")
    assert not is_expected(made)
    assert is_expected(Text("0", "", "Request for unknown {}: '{}' is not found"))
