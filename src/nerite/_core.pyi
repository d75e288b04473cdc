# SPDX-License-Identifier: Apache-2.0
"""The seam between the control plane (Python) and the data plane (Rust).

Python calls Rust to configure: it makes an `Engine`, opens ports, adds and publishes versions.
Rust calls Python to execute: each model instance is a Python thread that calls `Version.run`, which
waits for batches without the GIL and calls `execute(batch)` with it, once per batch. No Python ever
runs on an I/O thread.

Errors raised from here are classes of `nerite.errors`.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Self, TypeAlias, final

from numpy.typing import NDArray

__all__ = [
    "Batch",
    "ControlCall",
    "Engine",
    "Gateway",
    "Metric",
    "MetricFamily",
    "Request",
    "Version",
]

__version__: str

Array: TypeAlias = NDArray[Any]
ParameterValue: TypeAlias = bool | int | float | str
Outputs: TypeAlias = Mapping[str, Array]
"""Output name -> array. FP16..FP64, INT*, UINT*, BOOL by dtype; BYTES as an array of `bytes` or
`str` objects (or NumPy 'S'/'U'); BF16 as uint16 bits for an output declared so, or ml_dtypes.
Arrays that are not C-contiguous are copied. Must not be changed after they are returned."""

Answer: TypeAlias = Outputs | tuple[Outputs, Mapping[str, ParameterValue]] | BaseException
"""What one request gets: outputs, outputs with response parameters, or an error (an exception of
`nerite.errors` keeps its code, any other becomes INTERNAL)."""

Executed: TypeAlias = Outputs | tuple[Outputs, Mapping[str, ParameterValue]] | Sequence[Answer]
"""What `execute` returns: one mapping for the whole batch (each array has `batch.rows` rows and
is split by request; for a model without batch dimension it is the answer of the only request), or a
list with one `Answer` per request, in order."""

@final
class Engine:
    """The data plane: sockets, the table of live models, queues and statistics."""

    def __new__(cls, options: Mapping[str, Any]) -> Self:
        """Makes an engine without ports.

        Args:
            options: `server_name` (str), `server_version` (str), `extensions` (list of str),
                `io_threads` (int, 0 = one per usable core), `max_request_bytes` (int, HTTP bodies),
                `max_message_bytes` (int, gRPC messages), `max_connections` (int),
                `max_streams` (int, concurrent gRPC calls per connection),
                `header_timeout_secs` (float, time for a request to arrive once it has begun),
                `grpc` (dict: `compression` (str, none, low, medium or high, of infer answers),
                `keepalive_time_ms`, `keepalive_timeout_ms`, `max_connection_age_ms` and
                `max_connection_age_grace_ms` (int, 2147483647 is never)),
                `access_log` (str, a file, `-` or empty), `access_log_json` (bool),
                `cache_bytes` (int, most memory for answers that are kept; 0 keeps none),
                `allow_client_shm` (bool, clients may register shared memory),
                `latency_histograms` (bool),
                `latencies` (dict: `counters` (bool), `first_response` (bool), `summaries` (bool),
                `quantiles` (list of pairs: quantile, error of its rank)),
                `http_restricted` and `grpc_restricted` (lists of dicts: `categories`, `header`,
                `value`), `remote_management` (bool), `http_header_forward` and
                `grpc_header_forward` (str, regular expressions; empty is none).

        Raises:
            InvalidArgument: An option is unknown or has the wrong type.
        """

    def listen(
        self,
        protocol: Literal["http", "grpc", "metrics", "sagemaker", "vertex_ai"],
        address: str,
        port: int,
        *,
        reuse: bool = False,
        tls: tuple[PathLike[str], PathLike[str], PathLike[str] | None] | None = None,
    ) -> int:
        """Opens a port at once and returns its number (useful with port 0).

        Args:
            protocol: What is spoken there.
            address: A host, or `unix:/path` for a socket in the file system, which has no number.
            port: Its number.
            reuse: Let other processes open it too (SO_REUSEPORT).
            tls: PEM files: certificate, key, and the roots of clients' certificates if clients
                need one. Read again when they change.

        Raises:
            Unavailable: The port cannot be bound; the text names address, port and cause.
            InvalidArgument: A file of TLS is of no use; the text names its flag and path.
        """

    def add_version(
        self,
        config_json: str,
        config_proto: bytes,
        version: int,
        labels: Mapping[str, Sequence[str]],
    ) -> Version:
        """Makes a version that instances can serve; clients do not see it before `publish`.

        Args:
            config_json: The completed configuration, as `ModelConfig.to_json` prints it.
            config_proto: The same as a serialized `inference.ModelConfig`.
            version: Number of the version.
            labels: Output name -> class labels in index order, for the classification extension.
        """

    def publish(self, name: str, ready: Sequence[Version], unready: Sequence[int]) -> None:
        """Makes these versions the ones that clients reach under `name`, in one atomic step.

        A name with nothing ready stays known: requests learn that it has no available versions.
        A name followed by a zero byte and a namespace is reached by the name alone, as long as
        no other namespace has a model of that name; then requests learn that it is ambiguous.
        """

    def forget(self, name: str) -> None:
        """Removes `name` from the table; requests for it are told that it is not found."""

    def put_graph(self, namespace: str, name: str, graph_json: str) -> bool:
        """Makes this the graph that answers at `/graphs/<namespace>/<name>`, in one step.

        Requests under way keep the one they began with. A step whose `serviceUrl` is a path
        (`/v1/models/m:predict`, `/v2/models/m/infer`, `/graphs/n/g`) is answered by this server
        without a connection. Returns whether there was another graph of that name.

        Args:
            namespace: One part of a path.
            name: Another one.
            graph_json: `nodes` and the rest, as a route table of the gateway has them
                (`nerite.kserve.gateway.Graph.to_json`).

        Raises:
            InvalidArgument: It is no graph; the text names node and step.
        """

    def remove_graph(self, namespace: str, name: str) -> bool:
        """Takes a graph out; whether it was there."""

    def graphs(self) -> list[tuple[str, str, str]]:
        """Namespace, name, and SHA-256 of the definition of every graph."""

    def set_ready(self, ready: bool) -> None:
        """Says what the server-ready endpoints answer."""

    def set_keys(self, keys: str) -> None:
        """From now on everything but health needs one of these API keys.

        Args:
            keys: JSON: a list of `name`, `sha256` (hexadecimal), `scopes` (of `infer`, `manage`,
                `metrics`) and `models` (patterns).
        """

    def next_control_call(self) -> ControlCall | None:
        """Waits, without the GIL, for a request that Python answers (repository index, ...).

        The verb `warning` is none: its payload is a text for the log, and nobody waits for a reply.

        Returns None when the engine stops. Call it in a loop on a thread of its own.
        """

    def set_tracing(self, settings: str, clock_ns: int) -> None:
        """Says which requests are traced.

        Args:
            settings: JSON: `rules` (model name, or empty for all others -> `rate`, `count`,
                `timestamps`, `tensors`, `log_frequency`) and `propagated` (trace whatever has a
                trace context).
            clock_ns: `time.monotonic_ns()` now: the clock of all points of traces.
        """

    def traces_left(self) -> dict[str, int]:
        """Traces that the rule of each model may still take; below 0 is without end."""

    def next_traces(self, timeout_secs: float) -> list[dict[str, Any]] | None:
        """Waits, without the GIL, for finished traces; None once the engine stopped and has none.

        A trace has `id`, `parent_id` (the trace of the ensemble whose step it is, or 0), `rule`
        (the number of the rule that took it), `count` and `log_frequency` of that rule, `protocol`,
        `model_name`, `model_version`, `request_id`, `error`, `traceparent`, `tracestate`, `points`
        (list of name and nanoseconds), `inputs` and `outputs` (lists of name, datatype, shape,
        bytes).
        """

    def metrics(self) -> str:
        """The Prometheus text that the metrics port serves."""

    def counters(self) -> dict[str, int]:
        """Counts for tests and tuning: `gil_acquisitions`, `batches`, `requests`,
        `wakeups_forward`, `wakeups_back`, `gathered_bytes`,
        `borrowed_inputs`, `connections`, `in_flight`, `graph_connections` (opened by steps of
        graphs to others)."""

    def drain(self, timeout_secs: float) -> bool:
        """Stops accepting, lets what was accepted finish; False if the time ran out first."""

    def stop(self) -> None:
        """Closes everything at once. Safe to call twice."""

@final
class Gateway:
    """One port in front of many components; `nerite.kserve.gateway` writes its routes."""

    def __new__(cls, options_json: str) -> Self:
        """Makes a gateway without ports and routes.

        Args:
            options_json: JSON of `io_threads` (int), `max_request_bytes` (int, HTTP bodies),
                `max_connections` (int), `arrival_timeout_secs` (float, for a request's head) and
                `connect_timeout_secs` (float, for a connection to a component).

        Raises:
            InvalidArgument: An option is unknown or has the wrong type or range.
        """

    def listen(self, address: str, port: int, host: str | None = None) -> int:
        """Opens a port, for HTTP/1.1 and gRPC alike, and returns its number.

        Args:
            host: All requests to this port are taken as to this host, whatever they name.

        Raises:
            Unavailable: The port cannot be bound; the text names address, port and cause.
        """

    def update(self, table_json: str) -> None:
        """Makes these the routes in one atomic step; requests under way keep theirs.

        Raises:
            InvalidArgument: The table is not usable; the routes stay as they were.
        """

    def counters(self) -> dict[str, int]:
        """Counts: `requests`, `failures` (answered by the gateway itself), `connections`,
        `refused_connections`, `component_connections` (made to components), `batches` (of joined
        requests), `payloads_dropped` (events that no sink took)."""

    def drain(self, timeout_secs: float) -> bool:
        """Stops accepting, lets what was accepted finish; False if the time ran out first."""

    def stop(self) -> None:
        """Closes everything at once. Safe to call twice."""

@final
class Version:
    """One version of one model: its queue, its scheduler, its statistics."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    def run(self, instance: str, execute: Callable[[Batch], Executed | None]) -> None:
        """Serves batches on the calling thread until `close` was called and the queue is empty.

        The thread is the instance: it should do nothing else. One GIL acquisition per batch.
        An exception that `execute` raises fails every request of the batch. None is what a
        decoupled model returns, which answers through `Request.response_sender`.
        """

    def close(self) -> None:
        """Refuses new requests; every `run` returns once what was queued is answered."""

    def retire(self, timeout_secs: float) -> bool:
        """Waits, without the GIL, until no request needs the version any more, then closes it.

        To be called once another `publish` has taken its place: requests that found it before are
        still answered. False if the time ran out first; it is closed then too.
        """

    def set_namespace(self, namespace: str) -> None:
        """Says which repository it comes from, for the label `namespace` of its metrics."""

    def set_load_seconds(self, seconds: float) -> None:
        """Says how long loading took, for `nv_model_load_duration_secs`."""

    def set_memory_usage(self, held: Sequence[tuple[str, int, int]]) -> None:
        """Says what its backend holds, for `memory_usage` of the statistics.

        Args:
            held: `CPU`, `CPU_PINNED` or `GPU`, the device's number, bytes.
        """

    def pending(self) -> int:
        """Requests that wait in the queue."""

    def statistics(self) -> dict[str, Any]:
        """The statistics extension's object for this version (`spec/triton.md` 7.2)."""

@final
class Batch:
    """The requests of one execution. Valid only during `execute`; arrays may be kept longer."""

    def __len__(self) -> int:
        """Number of requests."""

    @property
    def rows(self) -> int:
        """Sum of the requests' batch dimensions; number of requests if the model has none."""

    @property
    def inputs(self) -> dict[str, Array]:
        """Input name -> read-only array of all requests, joined along the batch dimension.

        A view of a pooled, 64-byte aligned buffer, or of the request itself if there is only one.
        BYTES arrays hold `bytes` objects, BF16 comes as uint16 bits. A declared reshape is applied.

        Raises:
            InvalidArgument: The requests have unequal shapes (ragged batching); use `requests`.
        """

    @property
    def requested_outputs(self) -> list[str]:
        """Names of the declared outputs that any of the requests is to be answered with."""

    @property
    def requests(self) -> list[Request]:
        """The requests one by one, in the order in which they were accepted."""

@final
class Request:
    """One request of a batch."""

    @property
    def id(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def inputs(self) -> dict[str, Array]:
        """Input name -> read-only array; optional inputs that were left out are absent."""

    @property
    def parameters(self) -> dict[str, ParameterValue]: ...
    @property
    def requested_outputs(self) -> list[str]:
        """Names of the outputs to answer: those asked for, or all declared ones."""

    @property
    def correlation_id(self) -> int | str: ...
    @property
    def flags(self) -> int:
        """1 = sequence start, 2 = sequence end."""

    @property
    def priority(self) -> int: ...
    @property
    def timeout_us(self) -> int: ...
    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""

    def response_sender(self) -> ResponseSender | None:
        """Where a decoupled model answers the request; None if the model is not decoupled."""

@final
class ResponseSender:
    """The way back to the client of one request, for any thread and for as long as it is held.

    If the last holder (the request, once `execute` has returned, or a sender) lets go of it before
    the last response, the request ends with an error.
    """

    def send(self, answer: Answer | None, last: bool) -> bool:
        """Sends outputs, outputs with parameters, or an error; False if the last came before.

        Waits, without the GIL, while a client has not read what it was sent before. What is sent
        to a client that is gone is dropped.
        """

    def is_cancelled(self) -> bool:
        """Whether nobody waits for what has not been sent yet."""

@final
class MetricFamily:
    """Metrics of one name on the metrics page of every engine of this process.

    It is there for as long as it or one of its metrics is held. Two that make the same one share
    it; the help text of the first stays.
    """

    def __new__(cls, name: str, text: str, kind: Literal["counter", "gauge", "histogram"]) -> Self:
        """Makes a family, or finds it.

        Raises:
            InvalidArgument: The name cannot be one.
            AlreadyExists: It belongs to a family of another kind.
        """

    def metric(self, labels: Mapping[str, str], buckets: Sequence[float] | None = None) -> Metric:
        """Makes the series with these labels, or finds it; `buckets` are for histograms.

        Raises:
            InvalidArgument: A label has no usable name, or buckets are missing or out of place.
        """

@final
class Metric:
    """One series; what its kind does not offer raises `Unsupported`."""

    def increment(self, value: float) -> None: ...
    def set(self, value: float) -> None: ...
    def observe(self, value: float) -> None: ...
    def value(self) -> float: ...

@final
class ControlCall:
    """A request that Python answers; JSON in, JSON out, whatever the transport."""

    @property
    def verb(self) -> str:
        """What is asked, e.g. `repository_index`."""

    @property
    def payload(self) -> bytes:
        """The JSON body, possibly empty."""

    def reply(self, body: bytes) -> None:
        """Answers with a JSON body."""

    def fail(self, error: BaseException) -> None:
        """Answers with an error; its `code` becomes the status."""
