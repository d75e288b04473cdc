# SPDX-License-Identifier: Apache-2.0
"""Everything that can be chosen about a server, as one frozen value.

Defaults are Triton's, with two exceptions: the server is called nerite, and a model that fails to
load does not end it (`exit_on_error`): the others serve, the failed one is UNAVAILABLE with its
reason, and readiness says so. How options are written on the command line is `cli.flags`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nerite.config.settings import Settings
from nerite.errors import InvalidArgument
from nerite.models.options import LoadOptions
from nerite.server.access_options import AccessOptions
from nerite.server.door_options import DoorOptions
from nerite.server.trace_options import TraceOptions

LOG_FORMATS = ("default", "ISO8601", "json")
SUMMARY_QUANTILES = ((0.5, 0.05), (0.9, 0.01), (0.95, 0.001), (0.99, 0.001), (0.999, 0.001))
_LARGEST_MESSAGE = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is started."""

    # Which models, and how they are loaded.
    repositories: tuple[str | Path, ...] = ()
    """Folders of models, model folders or model files."""
    model_name: str = ""
    """Serve the one model of the one repository under this name, whatever its files call it."""
    model_control_mode: str = "none"
    """`none`: all models are loaded at the start; the other modes come later."""
    disable_auto_complete: bool = False
    """Take configurations as written, without asking the backend for what they leave out."""
    config_name: str | None = None
    """Prefer `configs/{config_name}.pbtxt` of each model."""
    load_threads: int = 4
    """Models that load at the same time."""
    load_retries: int = 0
    """Further tries for a model that fails to load."""
    backend_config: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Backend -> key -> value; the settings of all backends under `""`."""
    trust: bool = False
    """Load pickles too, which run whatever code their author put in; only for all models at once,
    never by a request."""
    exit_on_error: bool = False
    """End the server if a model fails to load at the start."""
    strict_readiness: bool = True
    """The server is ready only when every model is; otherwise once every load has ended."""

    # Ports. 0 takes a free one.
    allow_http: bool = True
    http_address: str = "0.0.0.0"  # noqa: S104 - Triton's default, and what a container needs
    http_port: int = 8000
    max_request_bytes: int = 64 * 1024 * 1024
    """Largest HTTP body."""
    allow_grpc: bool = True
    grpc_address: str = "0.0.0.0"  # noqa: S104
    grpc_port: int = 8001
    max_message_bytes: int = _LARGEST_MESSAGE
    """Largest gRPC message."""
    allow_metrics: bool = True
    metrics_address: str = ""
    """The address of HTTP unless given."""
    metrics_port: int = 8002
    latency_histograms: bool = True
    """Nerite's own histograms, in seconds."""
    counter_latencies: bool = True
    """Triton's sums of microseconds."""
    first_response_histogram: bool = False
    """Triton's histogram of milliseconds to the first response."""
    summary_latencies: bool = False
    """Triton's summaries of microseconds."""
    summary_quantiles: tuple[tuple[float, float], ...] = SUMMARY_QUANTILES
    """Their quantiles, each with the error that its rank may have."""
    allow_cpu_metrics: bool = True
    """Tell processor and memory of the machine too."""
    metrics_interval_ms: int = 2000
    """How often processor and memory are looked at."""

    # The log.
    log_verbose: int = 0
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_format: str = "default"
    """`default` (Triton's), `ISO8601` or `json`."""
    log_file: str = ""
    """Write here instead of standard error."""
    access_log: str = ""
    """A file that gets a line for each answered request; `-` is standard error, empty is none."""

    # Shared memory.
    allow_client_shm: bool = False
    """Clients of this machine may register shared memory and name tensors in it."""

    # Traces.
    tracing: TraceOptions = field(default_factory=TraceOptions)
    """Which requests are traced at the start, and where their traces go."""

    # Who may ask for what.
    access: AccessOptions = field(default_factory=AccessOptions)
    """Keys, restricted endpoints, management from other machines, forwarded headers."""

    # Clouds.
    doors: DoorOptions = field(default_factory=DoorOptions)
    """The ports that SageMaker and Vertex AI expect."""

    # The process.
    server_id: str = "nerite"
    exit_timeout_secs: float = 30.0
    """How long accepted requests may take after a stop was asked for and the delay is over."""
    drain_delay_secs: float = 0.0
    """How long a server that was ready goes on to accept requests after a stop was asked for, while
    it tells that it is not ready: what routes to it needs time to notice."""
    io_threads: int = 0
    """Threads that serve sockets; 0 is one per usable core."""
    max_connections: int = 16384
    max_streams: int = 1024
    """Concurrent gRPC calls per connection."""
    header_timeout_secs: float = 30.0
    """How long a request may take to arrive once it has begun."""

    def __post_init__(self) -> None:
        _check_choice("model_control_mode", self.model_control_mode, ("none",))
        _check_choice("log_format", self.log_format, LOG_FORMATS)
        for name in (
            "load_threads",
            "max_request_bytes",
            "max_message_bytes",
            "max_connections",
            "metrics_interval_ms",
        ):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"option '{name}' is {getattr(self, name)}; it must be >= 1")
        for name in (
            "load_retries",
            "io_threads",
            "exit_timeout_secs",
            "drain_delay_secs",
            "log_verbose",
        ):
            if getattr(self, name) < 0:
                raise InvalidArgument(f"option '{name}' is {getattr(self, name)}; it must be >= 0")
        for quantile, error in self.summary_quantiles:
            if not (0 <= quantile <= 1 and 0 <= error <= 1):
                raise InvalidArgument(
                    f"option 'summary_quantiles' has {quantile}:{error}; a quantile and its error "
                    "are from 0 to 1"
                )
        if self.model_name and len(self.repositories) != 1:
            raise InvalidArgument(
                f"option 'model_name' is '{self.model_name}', but {len(self.repositories)} "
                "repositories are given; it names the one model of one repository"
            )
        self._check_ports()

    def load_options(self, cores: int) -> LoadOptions:
        """The part of the options that loading models needs."""
        return LoadOptions(
            auto_complete=not self.disable_auto_complete,
            config_name=self.config_name,
            threads=self.load_threads,
            retries=self.load_retries,
            cores=cores,
            trusted=self.trust,
            settings=Settings(backend_config=self.backend_config),
        )

    def ports(self) -> dict[str, tuple[str, int]]:
        """Protocol -> address and port of what is to be opened."""
        opened = {
            "http": (self.allow_http, self.http_address, self.http_port),
            "grpc": (self.allow_grpc, self.grpc_address, self.grpc_port),
            "metrics": (
                self.allow_metrics,
                self.metrics_address or self.http_address,
                self.metrics_port,
            ),
            "sagemaker": (self.doors.sagemaker, self.http_address, self.doors.sagemaker_port),
            "vertex_ai": (self.doors.vertex_ai, self.http_address, self.doors.vertex_ai_port),
        }
        return {name: (where, port) for name, (allowed, where, port) in opened.items() if allowed}

    def _check_ports(self) -> None:
        taken: dict[int, str] = {}
        for protocol, (_, port) in self.ports().items():
            if not 0 <= port <= 65535:
                raise InvalidArgument(f"the {protocol} port is {port}; it must be from 0 to 65535")
            if port and port in taken:
                raise InvalidArgument(
                    f"the {taken[port]} port and the {protocol} port are both {port}; "
                    "each protocol has a port of its own"
                )
            taken[port] = protocol


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgument(
            f"option '{name}' is '{value}'; one of {', '.join(choices)} is expected"
        )
