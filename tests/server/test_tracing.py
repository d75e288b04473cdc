"""Traces of a real server: files in Triton's format, settings on the wire, spans at a collector."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nerite.cli.trace_config import older_words, trace_options
from nerite.errors import InvalidArgument, Unsupported
from nerite.server import trace_export
from nerite.server.server import Server
from nerite.server.trace_file import TraceFile, entries_of
from nerite.server.trace_options import TraceOptions, TraceRule
from nerite.testing import serve

IDENTITY = """backend: "identity" max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
HTTP_POINTS = [
    "HTTP_RECV_START",
    "HTTP_RECV_END",
    "REQUEST_START",
    "QUEUE_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "REQUEST_END",
    "INFER_RESPONSE_COMPLETE",
    "HTTP_SEND_START",
    "HTTP_SEND_END",
]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(IDENTITY)
    return tmp_path / "models"


def infer(server: Server, model: str = "one", name: str = "", **headers: str) -> None:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}
    body = json.dumps({"id": name, "inputs": [tensor]}).encode()
    url = f"{server.http_url}/v2/models/{model}/infer"
    urlopen(Request(url, body, headers)).read()


def setting(server: Server, changes: dict[str, Any], model: str = "") -> dict[str, Any]:
    path = f"/v2/models/{model}/trace/setting" if model else "/v2/trace/setting"
    body = json.dumps(changes).encode() if changes else None
    told: dict[str, Any] = json.loads(urlopen(Request(server.http_url + path, body)).read())
    return told


def entries(path: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads(path.read_text())
    return read


def test_a_traced_request_passes_every_point_in_order(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    rule = TraceRule(levels=("TIMESTAMPS", "TENSORS"), rate=1)
    with serve(repository, tracing=TraceOptions(file=str(file), rule=rule)) as server:
        infer(server, name="e1")
        client = grpcclient.InferenceServerClient(server.grpc_url)
        tensor = grpcclient.InferInput("INPUT0", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 1), "f4"))
        client.infer("two", [tensor])
        client.close()
    found = entries(file)
    head = {"id": 1, "model_name": "one", "model_version": 1, "request_id": "e1"}
    assert found[0] == head
    points = next(entry for entry in found if "timestamps" in entry)["timestamps"]
    assert [point["name"] for point in points] == HTTP_POINTS
    times = [point["ns"] for point in points]
    assert times == sorted(times)
    tensors = [(e["activity"], e["tensor"]) for e in found if "activity" in e and e["id"] == 1]
    carried = {"data": "1,2.5", "shape": "1,2", "dtype": "FP32"}
    assert tensors == [
        ("TENSOR_QUEUE_INPUT", {"name": "INPUT0", **carried}),
        ("TENSOR_BACKEND_OUTPUT", {"name": "OUTPUT0", **carried}),
    ]
    second = [entry for entry in found if entry["id"] == 2]
    assert second[0] == {"id": 2, "model_name": "two", "model_version": 1}
    assert {"GRPC_WAITREAD_START", "GRPC_SEND_END"} < {p["name"] for p in second[1]["timestamps"]}


def test_settings_of_a_model_lie_over_those_of_all_and_count_down(
    repository: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trace.json"
    with serve(repository, tracing=TraceOptions(file=str(file))) as server:
        infer(server)
        changes = {"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "2"}
        assert setting(server, changes, "one")["trace_count"] == "2"
        assert setting(server, {})["trace_level"] == ["OFF"]
        for number in range(6):
            infer(server, "one", name=f"r{number}")
            infer(server, "two")
        assert setting(server, {}, "one")["trace_count"] == "0"
        cleared = setting(server, {"trace_level": None, "trace_count": None}, "one")
        assert (cleared["trace_level"], cleared["trace_count"]) == (["OFF"], "-1")
    # The last of the count closed the file.
    traced = [e["request_id"] for e in entries(tmp_path / "trace.json.0") if "model_name" in e]
    assert traced == ["r1", "r3"]
    assert not file.exists()


def trace(number: int, rule: int = 0, frequency: int = 0) -> dict[str, Any]:
    return {
        "id": number,
        "parent_id": 0,
        "rule": rule,
        "count": -1,
        "log_frequency": frequency,
        "model_name": "m",
        "model_version": 1,
        "request_id": "",
        "points": [("REQUEST_START", number)],
        "inputs": [("S", "BYTES", [1], b"\x02\0\0\0a\xff"), ("B", "BF16", [1], b"\x80\x3f")],
        "outputs": [("Z", "BOOL", [2], b"\0\1")],
    }


def test_a_file_is_whole_after_every_batch_and_full_after_the_frequency(tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / "t"))
    for number in (1, 2):
        file.write([trace(number)])
        assert [e["id"] for e in entries(tmp_path / "t") if "model_name" in e][-1] == number
    file.write([trace(number, 1, 2) for number in (3, 4, 5)])
    assert {e["id"] for e in entries(tmp_path / "t.0")} == {3, 4}
    assert {e["id"] for e in entries(tmp_path / "t.1")} == {5}
    file.close()
    assert {e["id"] for e in entries(tmp_path / "t")} == {1, 2}


def test_tensors_are_written_as_text() -> None:
    texts = [e["tensor"]["data"] for e in entries_of(trace(1)) if "tensor" in e]
    assert texts == ['"a\\ufffd"', "1.0", "False,True"]


# ---- OpenTelemetry


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP receiver: its address, and the spans that came with their resources."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            message = ExportTraceServiceRequest.FromString(body)
            for group in message.resource_spans:
                named = {a.key: a.value.string_value for a in group.resource.attributes}
                spans.extend((named, s) for scope in group.scope_spans for s in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{receiver.server_port}/v1/traces", spans
        finally:
            receiver.shutdown()
            thread.join()


def test_spans_reach_the_collector_under_the_callers_trace(repository: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with collector() as (url, spans):
        options = trace_options(
            [
                f"opentelemetry,url={url}",
                "opentelemetry,resource=service.name=mine",
                "opentelemetry,resource=zone=a",
                "opentelemetry,bsp_schedule_delay=50",
                "rate=0",
                "level=TIMESTAMPS",
            ]
        )
        with serve(repository, tracing=options) as server:
            infer(server, name="unseen")
            infer(server, name="seen", traceparent=parent, tracestate="a=b")
            assert setting(server, {})["trace_mode"] == "opentelemetry"
    assert all(named["service.name"] == "mine" and named["zone"] == "a" for named, _ in spans)
    by_name = {span.name: span for _, span in spans}
    assert sorted(by_name) == ["InferRequest", "compute", "one", "queue"]
    assert len(spans) == 4
    root, model = by_name["InferRequest"], by_name["one"]
    assert {span.trace_id.hex() for _, span in spans} == {parent.split("-")[1]}
    assert root.parent_span_id.hex() == parent.split("-")[2]
    assert root.trace_state == "a=b"
    assert model.parent_span_id == root.span_id
    assert by_name["queue"].parent_span_id == by_name["compute"].parent_span_id == model.span_id
    known = {a.key: a.value for a in root.attributes}
    assert known["triton.request_id"].string_value == "seen"
    assert [event.name for event in root.events] == HTTP_POINTS
    for span in (model, by_name["queue"], by_name["compute"]):
        assert root.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano


def test_a_missing_exporter_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(trace_export.importlib, "import_module", nothing)
    with pytest.raises(Unsupported, match=r"pip install 'nerite\[otel\]'"):
        trace_export.TraceExport(TraceOptions(mode="opentelemetry"))


# ---- the command line


def test_older_flags_say_the_same() -> None:
    values = {"trace_file": "f", "trace_level": ["TIMESTAMPS"], "trace_rate": 5, "other": 1}
    old = trace_options(older_words(values))
    new = trace_options(["triton,file=f", "level=TIMESTAMPS", "rate=5"])
    assert old == new == TraceOptions(file="f", rule=TraceRule(levels=("TIMESTAMPS",), rate=5))
    assert values == {"other": 1}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["rate"], "is not KEY=VALUE"),
        (["triton,url=x"], "is not offered; one of file"),
        (["zipkin,url=x"], "is not KEY=VALUE or MODE"),
        (["rate=x"], "has no whole number"),
        (["count=-2"], "must be at least -1"),
        (["mode=zipkin"], "trace mode is 'zipkin'"),
        (["level=TIMESTAMPS"], "trace file name is not given"),
        (["level=OFF", "level=TENSORS"], "Expect only one trace level 'OFF'"),
        (["opentelemetry,url=x", "level=TENSORS"], "opentelemetry has no level TENSORS"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: list[str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        trace_options(words)
