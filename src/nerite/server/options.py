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
from nerite.models.host_policy import HostPolicy
from nerite.models.options import LoadOptions
from nerite.server.access_options import AccessOptions
from nerite.server.door_options import DoorOptions
from nerite.server.doors import doors
from nerite.server.graphs import OwnGraph
from nerite.server.trace_options import TraceOptions

COMPRESSION = ("none", "low", "medium", "high")
CONTROL_MODES = ("none", "poll", "explicit")
RATE_LIMITS = ("off", "execution_count")
LOG_FORMATS = ("default", "ISO8601", "json")
SUMMARY_QUANTILES = ((0.5, 0.05), (0.9, 0.01), (0.95, 0.001), (0.99, 0.001), (0.999, 0.001))
_LARGEST_MESSAGE = 2**31 - 1
NEVER = 2**31 - 1
"""Milliseconds that never pass, as gRPC has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is started."""

    # Which models, and how they are loaded.
    repositories: tuple[str | Path, ...] = ()
    """Folders of models, model folders or model files."""
    model_name: str = ""
    """Serve the one model of the one repository under this name, whatever its files call it."""
    model_control_mode: str = "none"
    """`none`: all models are loaded at the start. `explicit`: those of `load_models`, and whatever
    clients load and unload. `poll`: all, and again whatever changes on disk."""
    load_models: tuple[str, ...] = ()
    """Models that are loaded at the start in the mode `explicit`; `*` is all."""
    model_namespacing: bool = False
    """Let each repository have models of the same name; which is meant must then be clear."""
    poll_secs: float = 15.0
    """How often the mode `poll` looks; what it sees counts once two looks agree."""
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
    rate_limit: str = "off"
    """`execution_count`: instances hold the resources that their configuration names while they
    execute, and of those that wait the one that has executed least goes first."""
    rate_limit_resources: Mapping[str, int] = field(default_factory=dict)
    """How much there is of a resource; of others there is the most that one instance needs."""
    host_policies: Mapping[str, HostPolicy] = field(default_factory=dict)
    """Cores and memory of the instances whose group names a policy."""
    trust: bool = False
    """Load pickles too, which run whatever code their author put in; only for all models at once,
    never by a request."""
    graphs: tuple[OwnGraph, ...] = ()
    """InferenceGraphs that the server runs, at `/graphs/<namespace>/<name>` of its HTTP port."""
    exit_on_error: bool = False
    """End the server if a model fails to load at the start."""
    strict_readiness: bool = True
    """The server is ready only when every model is; otherwise once every load has ended."""

    # Ports. 0 takes a free one.
    allow_http: bool = True
    http_address: str = "0.0.0.0"  # noqa: S104 - Triton's default, and what a container needs
    """A host, or `unix:/path`: a socket in the file system."""
    http_port: int = 8000
    reuse_http_port: bool = False
    """Share the port with other servers that do so too."""
    http_use_ssl: bool = False
    http_use_ssl_mutual: bool = False
    """Ask clients for a certificate too; implies TLS."""
    http_server_cert: str | Path = ""
    http_server_key: str | Path = ""
    http_root_cert: str | Path = ""
    max_request_bytes: int = 64 * 1024 * 1024
    """Largest HTTP body."""
    allow_grpc: bool = True
    grpc_address: str = "0.0.0.0"  # noqa: S104
    grpc_port: int = 8001
    reuse_grpc_port: bool = False
    grpc_use_ssl: bool = False
    grpc_use_ssl_mutual: bool = False
    grpc_server_cert: str | Path = ""
    grpc_server_key: str | Path = ""
    grpc_root_cert: str | Path = ""
    grpc_keepalive_time_ms: int = 7_200_000
    """How long a peer may be silent before it is asked whether it is there."""
    grpc_keepalive_timeout_ms: int = 20_000
    grpc_max_connection_age_ms: int = NEVER
    """How long a connection takes new calls, give or take a tenth."""
    grpc_max_connection_age_grace_ms: int = NEVER
    """How long its last calls may take after that."""
    max_message_bytes: int = _LARGEST_MESSAGE
    """Largest gRPC message."""
    grpc_compression: str = "none"
    """How hard infer answers are compressed for clients that can read them so: `none`, `low`,
    `medium` or `high`. (HTTP answers are compressed when a client asks for it.)"""
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
    allow_gpu_metrics: bool = True
    """Tell utilization, memory, power and energy of NVIDIA GPUs, where there are any."""
    metrics_interval_ms: int = 2000
    """How often the machine is looked at."""

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

    # The response cache.
    cache_bytes: int = 0
    """Most memory for answers that are kept, of models with `response_cache`; 0 keeps none."""

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
    health_json: bool = False
    """Health endpoints answer in JSON, as KServe's do, and not by the status alone."""
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
    """How long the head of a request may take once it has begun, and each piece of its body.
    Waiting for the body may last that long in all, and 1 s more for each 500 bytes that came."""

    def __post_init__(self) -> None:
        _check_choice("model_control_mode", self.model_control_mode, CONTROL_MODES)
        if self.load_models and self.model_control_mode != "explicit":
            raise InvalidArgument(
                "Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
            )
        if not self.poll_secs > 0:
            raise InvalidArgument(f"option 'poll_secs' is {self.poll_secs}; it must be > 0")
        _check_choice("log_format", self.log_format, LOG_FORMATS)
        _check_choice("rate_limit", self.rate_limit, RATE_LIMITS)
        _check_choice("grpc_compression", self.grpc_compression, COMPRESSION)
        for name in (
            "load_threads",
            "max_request_bytes",
            "max_message_bytes",
            "max_connections",
            "metrics_interval_ms",
            "grpc_keepalive_time_ms",
            "grpc_keepalive_timeout_ms",
            "grpc_max_connection_age_ms",
            "grpc_max_connection_age_grace_ms",
        ):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"option '{name}' is {getattr(self, name)}; it must be >= 1")
        for name in (
            "load_retries",
            "io_threads",
            "cache_bytes",
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
        if self.graphs and not self.allow_http:
            raise InvalidArgument("option 'graphs' needs the HTTP port, where graphs are asked")
        doors(self)

    def load_options(self, cores: int) -> LoadOptions:
        """The part of the options that loading models needs."""
        return LoadOptions(
            auto_complete=not self.disable_auto_complete,
            config_name=self.config_name,
            threads=self.load_threads,
            retries=self.load_retries,
            cores=cores,
            trusted=self.trust,
            caching=self.cache_bytes > 0,
            host_policies=self.host_policies,
            settings=Settings(
                backend_config=self.backend_config,
                rate_limit=self.rate_limit != "off",
                rate_limit_resources=self.rate_limit_resources,
            ),
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgument(
            f"option '{name}' is '{value}'; one of {', '.join(choices)} is expected"
        )
