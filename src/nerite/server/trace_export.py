# SPDX-License-Identifier: Apache-2.0
"""Send traces to an OpenTelemetry collector: OTLP over HTTP, through OpenTelemetry's own packages.

Each request is a span, with spans below it for the model, its queue and its compute; those of an
ensemble's steps lie below its own. All times are those that the data plane took. Batching, retrying
and encoding are the SDK's business. The packages are the extra `otel` and are imported only here.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nerite.errors import Unsupported
from nerite.server.trace_options import Trace, TraceOptions

#: Triton's name for a server that was not given one: dashboards know it.
_SERVICE = "triton-inference-server"
_PROCESSOR = {
    "bsp_max_queue_size": "max_queue_size",
    "bsp_schedule_delay": "schedule_delay_millis",
    "bsp_max_export_batch_size": "max_export_batch_size",
}
#: Traces of steps that may wait for that of their ensemble, which comes after them.
_WAITING = 16_384
#: Where the spans of a model begin and end.
_PHASES = (
    ("queue", "QUEUE_START", "COMPUTE_START"),
    ("compute", "COMPUTE_START", "COMPUTE_END"),
)


Points = Mapping[str, int]


class TraceExport:
    """Makes spans of traces and hands them to the SDK's batching exporter."""

    def __init__(self, options: TraceOptions) -> None:
        """Raises `Unsupported` if OpenTelemetry is not installed."""
        sdk = _module("opentelemetry.sdk.trace")
        export = _module("opentelemetry.sdk.trace.export")
        otlp = _module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resources = _module("opentelemetry.sdk.resources")
        self._api = _module("opentelemetry.trace")
        propagation = _module("opentelemetry.trace.propagation.tracecontext")
        self._propagator = propagation.TraceContextTextMapPropagator()
        self._no_context = _module("opentelemetry.context").Context()
        exporter = otlp.OTLPSpanExporter(endpoint=options.url or None)
        chosen = {_PROCESSOR[key]: value for key, value in options.processor.items()}
        self._provider = sdk.TracerProvider(
            sampler=_module("opentelemetry.sdk.trace.sampling").ALWAYS_ON,
            resource=resources.Resource.create({"service.name": _SERVICE, **options.resource}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter, **chosen))
        self._tracer = self._provider.get_tracer("nerite")
        self._steps: dict[int, list[tuple[Trace, Points]]] = {}

    def write(self, traces: Sequence[Trace]) -> None:
        """Hands traces on; they are sent in the background."""
        # The points are on the monotonic clock, spans are on the wall's.
        shift = time.time_ns() - time.monotonic_ns()
        for trace in traces:
            points = {name: ns + shift for name, ns in trace["points"]}
            if not points:
                continue
            if trace["parent_id"]:
                self._keep(trace, points)
            else:
                self._spans(trace, points)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    def _keep(self, step: Trace, points: Points) -> None:
        """Keeps the trace of a step; the oldest go when the ensemble's never come."""
        self._steps.setdefault(step["parent_id"], []).append((step, points))
        while len(self._steps) > _WAITING:
            del self._steps[next(iter(self._steps))]

    def _spans(self, trace: Trace, points: Points) -> None:
        root = self._tracer.start_span(
            "InferRequest",
            context=self._parent(trace),
            kind=self._api.SpanKind.SERVER,
            attributes=_attributes(trace),
            start_time=min(points.values()),
        )
        self._tell_error(trace, root)
        for name, ns in points.items():
            root.add_event(name, timestamp=ns)
        self._model(trace, points, self._api.set_span_in_context(root))
        root.end(end_time=max(points.values()))

    def _tell_error(self, trace: Trace, span: Any) -> None:
        if trace["error"] is not None:
            span.set_status(self._api.StatusCode.ERROR, trace["error"])

    def _model(self, trace: Trace, points: Points, context: Any) -> None:
        """The spans of the model's own part, as far as the request came, and of its steps."""
        steps = self._steps.pop(trace["id"], [])
        if "REQUEST_START" not in points:
            return
        end = points.get("REQUEST_END", max(points.values()))
        model = self._tracer.start_span(
            trace["model_name"],
            context=context,
            attributes=_attributes(trace),
            start_time=points["REQUEST_START"],
        )
        if trace["parent_id"]:
            self._tell_error(trace, model)
        within = self._api.set_span_in_context(model)
        for step, passed in steps:
            self._model(step, passed, within)
        for name, begins, ends in _PHASES:
            if begins in points and ends in points:
                span = self._tracer.start_span(name, context=within, start_time=points[begins])
                for point, ns in points.items():
                    if points[begins] <= ns <= points[ends] and point.startswith("COMPUTE_"):
                        span.add_event(point, timestamp=ns)
                span.end(end_time=points[ends])
        model.end(end_time=end)

    def _parent(self, trace: Trace) -> Any:
        carrier = {key: trace[key] for key in ("traceparent", "tracestate") if trace[key]}
        return self._propagator.extract(carrier, self._no_context)


def _attributes(trace: Trace) -> dict[str, Any]:
    known = {
        "triton.model_name": trace["model_name"],
        "triton.model_version": trace["model_version"],
        "triton.trace_id": trace["id"],
    }
    if trace["parent_id"]:
        known["triton.trace_parent_id"] = trace["parent_id"]
    if trace["request_id"]:
        known["triton.request_id"] = trace["request_id"]
    return known


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as why:
        raise Unsupported(
            f"traces in mode opentelemetry need the package of '{name}', which is not installed: "
            "pip install 'nerite[otel]'"
        ) from why
