# SPDX-License-Identifier: Apache-2.0
"""The flags of KServe's model servers, as data: what each becomes here.

They are written with underscores, which none of Nerite's own is; whoever gives one of them starts
Nerite as KServe starts a server. How a command line is translated is in `kserve_arguments`.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What holds where nothing is said: the ports of KServe's servers, and what a rollout needs.
DEFAULTS = {
    "--http-port": "8080",
    "--grpc-port": "8081",
    # Requests are still routed here for some seconds after the stop signal (1.10): together with
    # the time for what was accepted this stays below the 30 s that Kubernetes grants.
    "--drain-delay": "5",
    "--exit-timeout-secs": "20",
    # KServe's own client reads the body of a health check.
    "--health-json": "true",
}

#: `--framework` -> the backend that a model file of it needs.
FRAMEWORKS = {
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "onnx": "onnxruntime",
}


#: Booleans as KServe's servers read them.
WORDS_FOR_BOOL = dict.fromkeys(("y", "yes", "t", "true", "on", "1"), "true") | dict.fromkeys(
    ("n", "no", "f", "false", "off", "0"), "false"
)


@dataclass(frozen=True, slots=True)
class KServeFlag:
    """One flag of KServe's, and its fate: a flag of Nerite's, a warning, or a refusal."""

    name: str
    becomes: str = ""
    """The flag of Nerite's that means the same."""
    ignored: str = ""
    """Why it has no effect."""
    refused: str = ""
    """Why nobody should rely on it."""
    idle: tuple[str, ...] = ()
    """Values that ask for what is so anyway: neither told of nor refused."""
    switch: bool = False
    """It takes no value."""


_TRUE = ("true", "True", "1")
_FALSE = ("false", "False", "0")
_THREADS = "one process serves all requests with as many threads as there are cores"
_TRANSFORMER = "a server does not call a predictor: name the model's own server"
_MESSAGES = "gRPC messages may have up to 2147483647 bytes"
_TLS = "TLS is not offered yet; end it in the mesh or in a proxy"

KSERVE_FLAGS = {
    flag.name: flag
    for flag in (
        KServeFlag("--model_name"),
        KServeFlag("--model_dir"),
        KServeFlag("--framework"),
        KServeFlag("--http_port", "--http-port"),
        KServeFlag("--grpc_port", "--grpc-port"),
        KServeFlag("--enable_grpc", "--allow-grpc"),
        KServeFlag("--max_buffer_size", "--http-max-input-size"),
        KServeFlag(
            "--workers",
            ignored=f"{_THREADS}; count instances of a model with instance_group",
            idle=("1",),
        ),
        KServeFlag("--nthread", ignored=_THREADS, idle=("1",)),
        KServeFlag("--max_threads", ignored=_THREADS, idle=("4",)),
        KServeFlag("--max_asyncio_workers", ignored=_THREADS),
        KServeFlag("--grpc_max_send_message_length", ignored=_MESSAGES, idle=("8388608",)),
        KServeFlag("--grpc_max_receive_message_length", ignored=_MESSAGES, idle=("8388608",)),
        KServeFlag("--enable_docs_url", ignored="there is no page of documentation", idle=_FALSE),
        KServeFlag(
            "--enable_latency_logging",
            ignored="latencies are metrics; see --access-log",
            idle=_TRUE,
        ),
        KServeFlag("--configure_logging", ignored="see --log-format and --log-info", idle=_TRUE),
        KServeFlag("--log_config_file", ignored="see --log-format and --log-file"),
        KServeFlag("--access_log_format", ignored="see --access-log"),
        KServeFlag("--event-loop", ignored="there is no event loop of Python's", idle=("auto",)),
        KServeFlag("--timeout-keep-alive", ignored="idle connections stay open", idle=("65",)),
        KServeFlag("--protocol", ignored="all protocols are served at once", idle=("v1", "v2")),
        KServeFlag("--predictor_host", refused=_TRANSFORMER, idle=("",)),
        KServeFlag("--predictor_protocol", ignored=_TRANSFORMER),
        KServeFlag("--predictor_use_ssl", ignored=_TRANSFORMER, idle=_FALSE),
        KServeFlag("--predictor_request_timeout_seconds", ignored=_TRANSFORMER),
        KServeFlag("--predictor_request_retries", ignored=_TRANSFORMER, idle=("0",)),
        KServeFlag("--enable_predictor_health_check", ignored=_TRANSFORMER, switch=True),
        KServeFlag("--ssl_certfile", refused=_TLS, idle=("",)),
        KServeFlag("--ssl_keyfile", refused=_TLS, idle=("",)),
    )
}
