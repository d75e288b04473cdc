"""Traces of ensembles: one for each step, which comes before that of the request it is part of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.ensembles import (
    ensemble,
    floats,
    grpc_inputs,
    identity,
    infer,
    python,
    step,
    write,
)
from tests.server.streaming import Stream, is_last
from tests.server.test_tracing import collector

from nerite.cli.trace_config import trace_options
from nerite.server.trace_options import TraceOptions, TraceRule
from nerite.testing import serve

INNER = ensemble("IN", "OUT", [step("m", "INPUT0=IN", "OUTPUT0=OUT")])
OUTER = ensemble(
    "IN", "OUT", [step("inner", "IN=IN", "OUT=t"), step("m", "INPUT0=t", "OUTPUT0=OUT")]
)
COUNT = """def answers(request):
    for i in range(2):
        yield out(I=np.array([i], np.int32))
"""
STREAM = [step("count", "N=IN", "I=i"), step("same", "X=i", "Y=OUT")]
MODELS: dict[str, Any] = {
    "m": identity(),
    "inner": INNER,
    "outer": OUTER,
    "count": python("N:INT32[1]", "I:INT32[1]", COUNT, batch=0),
    "same": identity("X:INT32[1]", "Y:INT32[1]", batch=0),
    "stream": ensemble("IN:INT32[1]", "OUT:INT32[1]", STREAM, batch=0),
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write(tmp_path / "models", MODELS)


def test_the_traces_of_steps_name_the_one_that_they_are_part_of(
    repository: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trace.json"
    rule = TraceRule(levels=("TIMESTAMPS",), rate=1, count=1)
    with serve(repository, tracing=TraceOptions(file=str(file), rule=rule)) as server:
        assert infer(server, "outer", {"IN": floats(1)}, id="r")[0] == 200
        assert infer(server, "outer", {"IN": floats(1)}, id="not counted any more")[0] == 200
    entries = json.loads((tmp_path / "trace.json.0").read_text())
    heads = [entry for entry in entries if "model_name" in entry]
    named = {"model_version": 1, "request_id": "r"}
    # The inner ensemble is the second trace, and its own step ends first.
    assert heads == [
        {"id": 3, "model_name": "m", "parent_id": 2, **named},
        {"id": 2, "model_name": "inner", "parent_id": 1, **named},
        {"id": 4, "model_name": "m", "parent_id": 1, **named},
        {"id": 1, "model_name": "outer", **named},
    ]
    points = {e["id"]: [p["name"] for p in e["timestamps"]] for e in entries if "timestamps" in e}
    assert points[2] == ["REQUEST_START", "QUEUE_START", "REQUEST_END"]
    assert points[3] == [
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "REQUEST_END",
    ]
    assert {"HTTP_RECV_START", "QUEUE_START", "HTTP_SEND_END"} < set(points[1])


def test_every_answer_of_a_decoupled_step_has_its_own_traces(
    repository: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trace.json"
    rule = TraceRule(levels=("TIMESTAMPS",), rate=1)
    chosen = TraceOptions(file=str(file), rule=rule)
    with serve(repository, tracing=chosen) as server, Stream(server) as stream:
        inputs = grpc_inputs({"IN": np.array([1], np.int32)})
        stream.ask("stream", inputs, enable_empty_final_response=True)
        while not is_last(stream.next()):
            pass
    heads = [entry for entry in json.loads(file.read_text()) if "model_name" in entry]
    assert sorted(e["model_name"] for e in heads) == ["count", "same", "same", "stream"]
    assert [e.get("parent_id") for e in heads] == [1, 1, 1, None]


def test_spans_of_steps_lie_below_that_of_the_ensemble(repository: Path) -> None:
    with collector() as (url, spans):
        options = trace_options(
            [
                f"opentelemetry,url={url}",
                "opentelemetry,bsp_schedule_delay=50",
                "rate=1",
                "level=TIMESTAMPS",
            ]
        )
        with serve(repository, tracing=options) as server:
            assert infer(server, "outer", {"IN": floats(1)})[0] == 200
    all_spans = [span for _, span in spans]
    by_id = {span.span_id: span for span in all_spans}

    def line(span: Any) -> list[str]:
        above = by_id.get(span.parent_span_id)
        return [*(line(above) if above is not None else []), span.name]

    assert sorted(line(span) for span in all_spans if span.name == "m") == [
        ["InferRequest", "outer", "inner", "m"],
        ["InferRequest", "outer", "m"],
    ]
    assert ["InferRequest", "outer", "inner", "m", "compute"] in [line(s) for s in all_spans]
    assert len({span.trace_id for span in all_spans}) == 1
