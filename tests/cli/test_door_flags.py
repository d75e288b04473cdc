# SPDX-License-Identifier: Apache-2.0
"""Triton's flags for what lies between socket and route: what they set, and what they say."""

from __future__ import annotations

import pytest

from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import InvalidArgument
from nerite.server.doors import doors

TLS = {
    "--grpc-use-ssl": "1",
    "--grpc-use-ssl-mutual": "true",
    "--grpc-server-cert": "server.pem",
    "--grpc-server-key": "server.key",
    "--grpc-root-cert": "roots.pem",
}


def test_the_flags_of_tls_and_addresses_reach_their_ports() -> None:
    given = {
        **TLS,
        **{name.replace("grpc", "http"): word for name, word in TLS.items() if "root" not in name},
        "--http-use-ssl-mutual": "false",
        "--http-address": "unix:/run/nerite.sock",
        "--reuse-grpc-port": "true",
        "--grpc-port": "9001",
    }
    http, grpc, metrics = doors(server_options(["models"], choose(given)))
    assert (http.address, http.reuse, grpc.port, grpc.reuse) == (
        "unix:/run/nerite.sock",
        False,
        9001,
        True,
    )
    assert [str(path) for path in grpc.tls or ()] == ["server.pem", "server.key", "roots.pem"]
    assert [str(path) for path in http.tls or ()] == ["server.pem", "server.key", "None"]
    assert (metrics.address, metrics.tls) == ("0.0.0.0", None)


def test_times_of_connections_are_milliseconds() -> None:
    given = {
        "--grpc-keepalive-time": "1000",
        "--grpc-keepalive-timeout": "500",
        "--grpc-max-connection-age": "60000",
        "--grpc-max-connection-age-grace": "2147483647",
        "--grpc-infer-response-compression-level": "high",
    }
    options = server_options(["models"], choose(given))
    assert options.grpc_keepalive_time_ms == 1000
    assert options.grpc_keepalive_timeout_ms == 500
    assert options.grpc_max_connection_age_ms == 60_000
    assert options.grpc_max_connection_age_grace_ms == 2_147_483_647
    assert options.grpc_compression == "high"
    for name, word, told in (
        ("--grpc-keepalive-time", "0", "it must be from 1 to 2147483647"),
        ("--grpc-infer-response-compression-level", "max", "'none' or 'low' or 'medium' or 'high'"),
    ):
        with pytest.raises(InvalidArgument, match=told):
            choose({name: word})


def test_flags_about_pings_are_taken_with_a_word_where_they_change_nothing() -> None:
    given = {
        "--grpc-keepalive-permit-without-calls": "true",
        "--grpc-http2-max-pings-without-data": "2",
        "--grpc-http2-min-recv-ping-interval-without-data": "300000",
        "--grpc-http2-max-ping-strikes": "2",
    }
    warnings = choose(given).warnings
    assert [warning.split()[0] for warning in warnings] == [
        "--grpc-http2-max-pings-without-data",
        "--grpc-http2-max-ping-strikes",
    ]
    assert all("has no effect" in warning for warning in warnings)
