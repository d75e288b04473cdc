# SPDX-License-Identifier: Apache-2.0
"""Every flag of `nerite serve`, as data: Triton's own under their names, and the few that are ours.

A flag either works, or is accepted with a warning that says what replaces it: none is refused, and
none ignored in silence. This module only tells; `options` reads values, `serve` acts. Asking for
what is so anyway is no reason to warn: see `idle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "list", "int", "float", "bool", "switch", "level"]
Fate = Literal["works", "warned"]

REPOSITORY = "Model repository"
HTTP = "HTTP"
GRPC = "gRPC"
METRICS = "Metrics"
CLOUDS = "SageMaker and Vertex AI"
LOGGING = "Logging"
TRACING = "Tracing"
ACCESS = "Access"
SERVER = "Server"
BACKENDS = "Backends"
TLS = "TLS"
ACCEPTED = "Accepted, with a warning that says what replaces it"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag, and what becomes of it."""

    name: str
    kind: Kind
    help: str
    group: str
    fate: Fate = "works"
    default: str = ""
    """As it is written on the command line; empty if there is none."""
    option: str = ""
    """The name under which `options` finds the value of a flag that works."""
    idle: tuple[str, ...] = ()
    """Values that ask for what is so anyway: accepted without a warning."""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None

    @property
    def variable(self) -> str:
        """The flag as a Python name."""
        return self.name.removeprefix("--").replace("-", "_")


def _warned(name: str, kind: Kind, sentence: str, *idle: str) -> Flag:
    return Flag(name, kind, sentence, ACCEPTED, "warned", idle=idle)


_LARGEST_PORT = 65535
_YEAR_SECS = 365 * 24 * 60 * 60
_LONGEST_MILLIS = 2**31 - 1


def _reuse(protocol: str) -> Flag:
    return Flag(
        f"--reuse-{protocol}-port",
        "bool",
        "Share the port with other servers that set this too; connections are dealt out.",
        HTTP if protocol == "http" else GRPC,
        default="false",
        option=f"reuse_{protocol}_port",
    )


def _millis(name: str, sentence: str, default: str = "") -> Flag:
    variable = name.removeprefix("--").replace("-", "_")
    return Flag(
        name,
        "int",
        f"{sentence} In milliseconds; {_LONGEST_MILLIS} is never.",
        GRPC,
        default=default,
        option=f"{variable}_ms",
        minimum=1,
        maximum=_LONGEST_MILLIS,
    )


def _tls(protocol: str) -> tuple[Flag, ...]:
    """The flags of TLS: Triton's for gRPC, and the same for HTTP."""
    name = {"http": "HTTP", "grpc": "gRPC"}[protocol]
    described = {
        "use-ssl": f"Speak TLS on the {name} port.",
        "use-ssl-mutual": f"Ask clients of the {name} port for a certificate too; implies TLS.",
        "server-cert": "PEM file with the server's certificate and those between it and its root.",
        "server-key": "PEM file with the key of that certificate, without a password.",
        "root-cert": "PEM file with the roots that clients' certificates must lead to.",
    }
    return tuple(
        Flag(
            f"--{protocol}-{word}",
            "bool" if word.startswith("use") else "text",
            sentence,
            TLS,
            default="false" if word.startswith("use") else "",
            option=f"{protocol}_{word.replace('-', '_')}",
        )
        for word, sentence in described.items()
    )


_PINGS = "the pings of clients are answered, however many, and cost them nothing"
_NO_GPU = "there is no GPU memory pool: backends manage the memory of their devices"

FLAGS: tuple[Flag, ...] = (
    # Model repository.
    Flag(
        "--model-repository",
        "list",
        "Folder of models; may be repeated.",
        REPOSITORY,
        option="repositories",
    ),
    Flag(
        "--model-store",
        "list",
        "The older name of --model-repository.",
        REPOSITORY,
        option="repositories",
    ),
    Flag(
        "--model-name",
        "text",
        "Serve the one model that is there under this name.",
        REPOSITORY,
        option="model_name",
    ),
    Flag(
        "--graph",
        "list",
        "YAML with InferenceGraphs to run in the server, each at /graphs/NAMESPACE/NAME; services "
        "that steps name are models of this server. May be repeated.",
        REPOSITORY,
        option="graphs",
    ),
    Flag(
        "--model-control-mode",
        "text",
        "none: all models are loaded at the start; explicit: those of --load-model, and what "
        "clients load and unload; poll: all, and again what changes on disk.",
        REPOSITORY,
        default="none",
        option="model_control_mode",
        choices=("none", "poll", "explicit"),
    ),
    Flag(
        "--load-model",
        "list",
        "Load this model at the start, * for all; with --model-control-mode=explicit.",
        REPOSITORY,
        option="load_models",
    ),
    Flag(
        "--model-namespacing",
        "bool",
        "Let each repository have models of the same name.",
        REPOSITORY,
        default="false",
        option="model_namespacing",
    ),
    Flag(
        "--repository-poll-secs",
        "int",
        "How often --model-control-mode=poll looks; a change counts once two looks agree.",
        REPOSITORY,
        default="15",
        option="poll_secs",
        minimum=1,
    ),
    Flag(
        "--disable-auto-complete-config",
        "switch",
        "Take configurations exactly as written.",
        REPOSITORY,
        option="disable_auto_complete",
    ),
    Flag(
        "--strict-readiness",
        "bool",
        "The server is ready only when every model is.",
        REPOSITORY,
        default="true",
        option="strict_readiness",
    ),
    Flag(
        "--exit-on-error",
        "bool",
        "End if a model fails to load at the start; otherwise the others serve.",
        REPOSITORY,
        default="false",
        option="exit_on_error",
    ),
    Flag(
        "--model-config-name",
        "text",
        "Use configs/NAME.pbtxt of each model where it exists.",
        REPOSITORY,
        option="config_name",
    ),
    Flag(
        "--model-load-thread-count",
        "int",
        "Models that load at the same time.",
        REPOSITORY,
        default="4",
        option="load_threads",
        minimum=1,
        maximum=1024,
    ),
    Flag(
        "--model-load-retry-count",
        "int",
        "Further tries for a model that fails to load.",
        REPOSITORY,
        default="0",
        option="load_retries",
        minimum=0,
        maximum=1000,
    ),
    Flag(
        "--trust",
        "switch",
        "Load files that can run code: pickle, joblib, unknown types in skops.",
        REPOSITORY,
        option="trust",
    ),
    # HTTP.
    Flag("--allow-http", "bool", "Open the HTTP port.", HTTP, default="true", option="allow_http"),
    Flag(
        "--http-address",
        "text",
        "Address that HTTP listens on; unix:/PATH is a socket in the file system.",
        HTTP,
        default="0.0.0.0",  # noqa: S104
        option="http_address",
    ),
    Flag(
        "--http-port",
        "int",
        "HTTP port; 0 takes a free one.",
        HTTP,
        default="8000",
        option="http_port",
        minimum=0,
        maximum=_LARGEST_PORT,
    ),
    Flag(
        "--http-max-input-size",
        "int",
        "Largest request body in bytes, decompressed; short compressed gRPC messages too.",
        HTTP,
        default="67108864",
        option="max_request_bytes",
        minimum=1,
    ),
    Flag(
        "--http-restricted-api",
        "list",
        "CATEGORY[,CATEGORY]:KEY=VALUE: these endpoints want the header KEY with VALUE.",
        HTTP,
        option="http_restricted_api",
    ),
    Flag(
        "--http-header-forward-pattern",
        "text",
        "Headers whose names fit this regular expression are request parameters.",
        HTTP,
        option="http_header_forward",
    ),
    _reuse("http"),
    # gRPC.
    Flag("--allow-grpc", "bool", "Open the gRPC port.", GRPC, default="true", option="allow_grpc"),
    Flag(
        "--grpc-address",
        "text",
        "Address that gRPC listens on; unix:/PATH is a socket in the file system.",
        GRPC,
        default="0.0.0.0",  # noqa: S104
        option="grpc_address",
    ),
    Flag(
        "--grpc-port",
        "int",
        "gRPC port; 0 takes a free one.",
        GRPC,
        default="8001",
        option="grpc_port",
        minimum=0,
        maximum=_LARGEST_PORT,
    ),
    Flag(
        "--grpc-restricted-protocol",
        "list",
        "CATEGORY[,CATEGORY]:KEY=VALUE: these calls want triton-grpc-protocol-KEY with VALUE.",
        GRPC,
        option="grpc_restricted_protocol",
    ),
    Flag(
        "--grpc-header-forward-pattern",
        "text",
        "Metadata whose names fit this regular expression are request parameters.",
        GRPC,
        option="grpc_header_forward",
    ),
    _reuse("grpc"),
    _millis(
        "--grpc-keepalive-time", "Ask a silent peer after this long whether it is there.", "7200000"
    ),
    _millis("--grpc-keepalive-timeout", "How long it may take to answer.", "20000"),
    _millis(
        "--grpc-max-connection-age",
        "How long a connection takes new calls, give or take a tenth; for ever if left out.",
    ),
    _millis(
        "--grpc-max-connection-age-grace",
        "How long its last calls may take after that; for ever if left out.",
    ),
    Flag(
        "--grpc-infer-response-compression-level",
        "text",
        "How hard answers are compressed, for clients that can read them so.",
        GRPC,
        default="none",
        option="grpc_compression",
        choices=("none", "low", "medium", "high"),
    ),
    *_tls("grpc"),
    *_tls("http"),
    # SageMaker and Vertex AI.
    Flag(
        "--allow-sagemaker",
        "bool",
        "Open the port of SageMaker.",
        CLOUDS,
        default="false",
        option="allow_sagemaker",
    ),
    Flag(
        "--sagemaker-port",
        "int",
        "Its number; 0 takes a free one.",
        CLOUDS,
        default="8080",
        option="sagemaker_port",
        minimum=0,
        maximum=_LARGEST_PORT,
    ),
    Flag(
        "--sagemaker-safe-port-range",
        "text",
        "FIRST-LAST: --sagemaker-port must be one of these.",
        CLOUDS,
        option="sagemaker_safe_port_range",
    ),
    Flag(
        "--allow-vertex-ai",
        "bool",
        "Open the port of Vertex AI; so it is if AIP_MODE is PREDICTION.",
        CLOUDS,
        option="allow_vertex_ai",
    ),
    Flag(
        "--vertex-ai-port",
        "int",
        "Its number; AIP_HTTP_PORT unless given.",
        CLOUDS,
        default="8080",
        option="vertex_ai_port",
        minimum=0,
        maximum=_LARGEST_PORT,
    ),
    Flag(
        "--vertex-ai-default-model",
        "text",
        "The model of predictions; the only one unless given.",
        CLOUDS,
        option="vertex_ai_default_model",
    ),
    # Metrics.
    Flag(
        "--allow-metrics",
        "bool",
        "Open the metrics port.",
        METRICS,
        default="true",
        option="allow_metrics",
    ),
    Flag(
        "--metrics-address",
        "text",
        "Address of the metrics; that of HTTP if left out.",
        METRICS,
        option="metrics_address",
    ),
    Flag(
        "--metrics-port",
        "int",
        "Metrics port; 0 takes a free one.",
        METRICS,
        default="8002",
        option="metrics_port",
        minimum=0,
        maximum=_LARGEST_PORT,
    ),
    Flag(
        "--metrics-config",
        "list",
        "counter_latencies, histogram_latencies or summary_latencies=true|false; "
        "summary_quantiles=0.5:0.05,0.9:0.01,...",
        METRICS,
        option="metrics_config",
    ),
    Flag(
        "--allow-cpu-metrics",
        "bool",
        "Tell processor and memory of the machine.",
        METRICS,
        default="true",
        option="allow_cpu_metrics",
    ),
    Flag(
        "--allow-gpu-metrics",
        "bool",
        "Tell utilization, memory, power and energy of NVIDIA GPUs; needs the extra 'gpu'.",
        METRICS,
        default="true",
        option="allow_gpu_metrics",
    ),
    Flag(
        "--metrics-interval-ms",
        "int",
        "How often processor and memory are looked at.",
        METRICS,
        default="2000",
        option="metrics_interval_ms",
        minimum=1,
        maximum=24 * 60 * 60 * 1000,
    ),
    # Logging.
    Flag(
        "--log-verbose",
        "level",
        "Verbosity, from 0; true is 1.",
        LOGGING,
        default="0",
        option="log_verbose",
    ),
    Flag("--log-info", "bool", "Log what happens.", LOGGING, default="true", option="log_info"),
    Flag(
        "--log-warning", "bool", "Log what is odd.", LOGGING, default="true", option="log_warning"
    ),
    Flag("--log-error", "bool", "Log what fails.", LOGGING, default="true", option="log_error"),
    Flag(
        "--log-format",
        "text",
        "default, ISO8601 or json.",
        LOGGING,
        default="default",
        option="log_format",
        choices=("default", "ISO8601", "json"),
    ),
    Flag("--log-file", "text", "Write the log to this file.", LOGGING, option="log_file"),
    Flag(
        "--access-log",
        "text",
        "Write a line for each answered request or ended stream to this file; - is standard error.",
        LOGGING,
        option="access_log",
    ),
    # Traces.
    Flag(
        "--trace-config",
        "list",
        "rate=N, level=TIMESTAMPS|TENSORS|OFF, count=N, mode=triton|opentelemetry; triton,file=F, "
        "triton,log-frequency=N; opentelemetry,url=U, opentelemetry,resource=K=V.",
        TRACING,
        option="trace_config",
    ),
    # Access.
    Flag(
        "--api-keys",
        "text",
        "A file of API keys (nerite keys new); all but health needs one; read again if it changes.",
        ACCESS,
        option="api_keys",
    ),
    Flag(
        "--allow-remote-management",
        "switch",
        "Answer calls that change the server to other machines too, without a key.",
        ACCESS,
        option="remote_management",
    ),
    # Server.
    Flag(
        "--id",
        "text",
        "Name that the server gives itself.",
        SERVER,
        default="nerite",
        option="server_id",
    ),
    Flag(
        "--exit-timeout-secs",
        "int",
        "How long accepted requests may take after a stop signal.",
        SERVER,
        default="30",
        option="exit_timeout_secs",
        minimum=0,
        maximum=_YEAR_SECS,
    ),
    Flag(
        "--allow-client-shm",
        "bool",
        "Clients may register shared memory of this machine.",
        SERVER,
        default="false",
        option="allow_client_shm",
    ),
    Flag(
        "--cache-config",
        "list",
        "local,size=BYTES: keep answers of models with response_cache, the last used, so large.",
        SERVER,
        option="cache_config",
    ),
    Flag(
        "--health-json",
        "bool",
        'Answer health with {"live":true} or {"ready":true}, as KServe does, not with nothing.',
        SERVER,
        default="false",
        option="health_json",
    ),
    Flag(
        "--drain-delay",
        "float",
        "Seconds to go on serving after a stop signal while not ready any more.",
        SERVER,
        default="0",
        option="drain_delay_secs",
        minimum=0,
        maximum=3600,
    ),
    Flag(
        "--io-threads",
        "int",
        "Threads that serve sockets; 0: one per usable core.",
        SERVER,
        default="0",
        option="io_threads",
        minimum=0,
        maximum=256,
    ),
    Flag(
        "--max-connections",
        "int",
        "Connections open at once, of all ports.",
        SERVER,
        default="16384",
        option="max_connections",
        minimum=1,
    ),
    # Backends.
    Flag(
        "--backend-config",
        "list",
        "BACKEND,KEY=VALUE: a setting of a backend; may be repeated.",
        BACKENDS,
        option="backend_config",
    ),
    # What instances run beside each other, and where.
    Flag(
        "--rate-limit",
        "text",
        "execution_count: instances hold the resources of their rate_limiter while they execute, "
        "and the one that has executed least goes first.",
        BACKENDS,
        default="off",
        option="rate_limit",
        choices=("off", "execution_count"),
    ),
    Flag(
        "--rate-limit-resource",
        "list",
        "NAME:COUNT[:DEVICE]: how much there is of a resource; otherwise as much as one instance "
        "needs; may be repeated.",
        BACKENDS,
        option="rate_limit_resources",
    ),
    Flag(
        "--host-policy",
        "list",
        "POLICY,cpu-cores=0-3 or POLICY,numa-node=0: where the instances of the policy run; 'cpu' "
        "is that of groups which name none; may be repeated.",
        BACKENDS,
        option="host_policies",
    ),
    # Accepted: the effect that was wanted is there by other means, or there is nothing to set.
    _warned(
        "--http-thread-count",
        "int",
        "I/O threads serve both protocols; set their number with --io-threads",
    ),
    _warned(
        "--grpc-infer-thread-count",
        "int",
        "I/O threads serve both protocols; set their number with --io-threads",
    ),
    _warned(
        "--grpc-infer-allocation-pool-size",
        "int",
        "buffers are pooled per model instance and size themselves",
    ),
    _warned(
        "--grpc-max-response-pool-size",
        "int",
        "buffers are pooled per model instance and size themselves",
    ),
    _warned(
        "--sagemaker-thread-count",
        "int",
        "I/O threads serve all ports; set their number with --io-threads",
    ),
    _warned(
        "--vertex-ai-thread-count",
        "int",
        "I/O threads serve all ports; set their number with --io-threads",
    ),
    _warned(
        "--buffer-manager-thread-count", "int", "batches are gathered by the model's instances"
    ),
    _warned("--pinned-memory-pool-byte-size", "int", _NO_GPU, "0"),
    _warned("--cuda-memory-pool-byte-size", "list", _NO_GPU),
    _warned("--cuda-virtual-address-size", "list", _NO_GPU),
    _warned("--min-supported-compute-capability", "float", _NO_GPU),
    _warned("--enable-peer-access", "bool", _NO_GPU, "false"),
    _warned("--model-load-gpu-limit", "list", _NO_GPU),
    _warned(
        "--backend-directory",
        "text",
        'backends are Python modules: name one as `backend: "module:Class"` in a configuration',
    ),
    _warned(
        "--cache-directory",
        "text",
        "native caches are not loaded: the one of --cache-config=local,size=BYTES is built in",
    ),
    _warned(
        "--repoagent-directory",
        "text",
        "native agents are not loaded: `checksum` is built in, others are named module:Class",
    ),
    _warned(
        "--grpc-keepalive-permit-without-calls",
        "bool",
        "peers without calls are asked whether they are there too",
        "true",
    ),
    _warned(
        "--grpc-http2-max-pings-without-data",
        "int",
        "a silent peer is asked every --grpc-keepalive-time, whether or not there is data",
        "0",
    ),
    _warned("--grpc-http2-min-recv-ping-interval-without-data", "int", _PINGS, "300000"),
    _warned("--grpc-http2-max-ping-strikes", "int", _PINGS, "0"),
    # Deprecated by Triton itself.
    Flag(
        "--strict-model-config",
        "bool",
        "The older word for --disable-auto-complete-config.",
        REPOSITORY,
        default="false",
        option="strict_model_config",
    ),
    Flag(
        "--response-cache-byte-size",
        "int",
        "The older word for --cache-config=local,size=BYTES.",
        SERVER,
        option="response_cache_byte_size",
        minimum=0,
    ),
    Flag(
        "--trace-file",
        "text",
        "The older word for --trace-config=triton,file=F.",
        TRACING,
        option="trace_file",
    ),
    Flag(
        "--trace-level",
        "list",
        "The older word for --trace-config=level=L.",
        TRACING,
        option="trace_level",
    ),
    Flag(
        "--trace-rate",
        "int",
        "The older word for --trace-config=rate=N.",
        TRACING,
        option="trace_rate",
        minimum=0,
    ),
    Flag(
        "--trace-count",
        "int",
        "The older word for --trace-config=count=N.",
        TRACING,
        option="trace_count",
        minimum=-1,
    ),
    Flag(
        "--trace-log-frequency",
        "int",
        "The older word for --trace-config=triton,log-frequency=N.",
        TRACING,
        option="trace_log_frequency",
        minimum=0,
    ),
)

BY_NAME = {flag.name: flag for flag in FLAGS}
