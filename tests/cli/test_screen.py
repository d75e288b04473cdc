"""What a person sees stays in its columns."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from nerite.cli import screen
from nerite.cli.client import Tensor
from nerite.cli.infer import readable

PLAIN = screen.Paint(enabled=False)


def test_a_reason_of_several_lines_stays_below_itself() -> None:
    """A model's exception is several lines, which stood at the left edge between the models."""
    rows = [
        ["broken", "1", "UNAVAILABLE", "ValueError: no\n\nat line 3"],
        ["whole", "1", "READY", "X FP32[1] -> Y FP32[1]"],
    ]
    shown = screen.table(["MODEL", "VERSION", "STATE", "INPUTS -> OUTPUTS"], rows, PLAIN)
    assert shown.splitlines() == [
        "MODEL   VERSION  STATE        INPUTS -> OUTPUTS",
        "broken  1        UNAVAILABLE  ValueError: no",
        "",
        "                              at line 3",
        "whole   1        READY        X FP32[1] -> Y FP32[1]",
    ]


def test_outputs_stand_in_columns() -> None:
    outputs = {
        "label": Tensor("INT64", np.array([2])),
        "probabilities": Tensor("FP64", np.array([[0.25, 0.5, 0.25]])),
    }
    assert readable(outputs, PLAIN).splitlines() == [
        "label          INT64[1]   2",
        "probabilities  FP64[1,3]  0.25, 0.5, 0.25",
    ]


def test_a_long_output_tells_its_largest_values() -> None:
    outputs = {"y": Tensor("FP32", np.arange(1000, dtype=np.float32))}
    first, second = readable(outputs, PLAIN).splitlines()
    assert first == "y  FP32[1000]  0, 1, 2, 3, 4, 5, 6, 7, ... (1000 values)"
    assert second == "  largest: 999 at 999, 998 at 998, 997 at 997"


def test_colours_are_for_terminals_whose_user_did_not_refuse_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = os.openpty()
    with os.fdopen(near, "rb", 0), os.fdopen(far, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        assert screen.Paint.for_stdout().enabled
        monkeypatch.setenv("NO_COLOR", "1")
        assert not screen.Paint.for_stdout().enabled
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert not screen.Paint.for_stdout().enabled
