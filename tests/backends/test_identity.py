"""The identity backend behaves as Triton's does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite.backends.contract import Device
from nerite.backends.identity import SAMPLE_PARAMETERS, IdentityBackend
from nerite.errors import InvalidArgument
from nerite.testing import batch_of, model_for

FIELDS: dict[str, Any] = {
    "backend": "identity",
    "max_batch_size": 4,
    "input": [{"name": f"INPUT{i}", "data_type": "TYPE_FP32", "dims": [-1]} for i in (0, 1)],
    "output": [{"name": f"OUTPUT{i}", "data_type": "TYPE_FP32", "dims": [-1]} for i in (0, 1)],
}


def loaded(tmp_path: Path, **fields: Any) -> IdentityBackend:
    backend = IdentityBackend()
    backend.load(model_for(tmp_path / "m", {**FIELDS, **fields}), Device())
    return backend


def test_every_response_carries_the_sample_parameters(tmp_path: Path) -> None:
    one = np.ones((1, 2), "f4")
    outputs, parameters = loaded(tmp_path).execute(batch_of({"INPUT0": one, "INPUT1": one}))
    assert list(outputs) == ["OUTPUT0", "OUTPUT1"]
    assert dict(parameters) == {
        "param0": "an example string parameter",
        "param1": 42,
        "param2": False,
        "param3": 123.123,
    }


def test_a_batch_is_answered_with_its_own_arrays(tmp_path: Path) -> None:
    batch = batch_of({"INPUT0": np.ones((1, 2), "f4"), "INPUT1": np.ones((1, 2), "f4")})
    outputs, _ = loaded(tmp_path).execute(batch)
    assert outputs["OUTPUT0"] is batch.inputs["INPUT0"]


def test_requests_that_do_not_join_are_answered_one_by_one(tmp_path: Path) -> None:
    requests = [{"INPUT0": np.ones((1, n), "f4"), "INPUT1": np.ones((1, 1), "f4")} for n in (2, 3)]
    answers = loaded(tmp_path).execute(batch_of(*requests))
    assert [outputs["OUTPUT0"].shape for outputs, _ in answers] == [(1, 2), (1, 3)]
    assert all(parameters is SAMPLE_PARAMETERS for _, parameters in answers)


def test_an_optional_input_that_is_absent_has_no_output(tmp_path: Path) -> None:
    outputs, _ = loaded(tmp_path).execute(batch_of({"INPUT1": np.ones((1, 2), "f4")}))
    assert list(outputs) == ["OUTPUT1"]


def test_a_delay_is_kept_and_must_be_a_number(tmp_path: Path) -> None:
    delay = {"execute_delay_ms": {"string_value": "30"}}
    backend = loaded(tmp_path, parameters=delay)
    started = time.monotonic()
    backend.execute(batch_of({"INPUT0": np.ones((1, 2), "f4")}))
    assert time.monotonic() - started >= 0.03
    with pytest.raises(InvalidArgument, match="'execute_delay_ms' of model 'm' is 'soon'"):
        loaded(tmp_path, parameters={"execute_delay_ms": {"string_value": "soon"}})
