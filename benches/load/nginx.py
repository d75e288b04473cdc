# SPDX-License-Identifier: Apache-2.0
"""The floor: nginx giving a fixed answer, which is what a server cannot do without.

It answers the same requests with the bytes of a right answer, over HTTP/1.1 and over cleartext
HTTP/2 with gRPC's trailers, so that what it spends is the kernel and the protocol only.
"""

from __future__ import annotations

import os
from pathlib import Path

from benches.load import payload
from benches.load.cases import Protocol

# One location cannot answer JSON with JSON and binary with binary without an `if` per request.
MODELS = {
    Protocol.HTTP_BINARY: "identity",
    Protocol.HTTP_JSON: "identity_json",
    Protocol.GRPC: "identity",
}


def write_config(folder: Path, http_port: int, grpc_port: int) -> Path:
    """Write `nginx.conf` into the folder, which is also where nginx keeps its own files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nginx.conf"
    path.write_bytes(config(folder, http_port, grpc_port))
    return path


def config(folder: Path, http_port: int, grpc_port: int) -> bytes:
    """One worker, no logs, connections that are never closed."""
    # Started by root, a worker would otherwise become a user who may not read the checkout.
    user = b"user root;" if os.geteuid() == 0 else b""
    locations = b"\n".join(
        _http_location(protocol) for protocol in (Protocol.HTTP_BINARY, Protocol.HTTP_JSON)
    )
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return b"""%(user)s
worker_processes 1;
pid %(folder)s/nginx.pid;
events { worker_connections 8192; }
http {
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    server_tokens off;
%(temporary)s
    server {
        listen 127.0.0.1:%(http_port)d backlog=4096;
        location / { return 200; }
%(locations)s
    }
    server {
        listen 127.0.0.1:%(grpc_port)d http2;
        location / {
            default_type application/grpc;
            add_trailer grpc-status 0;
            return 200 '%(frame)s';
        }
    }
}
""" % {
        b"user": user,
        b"folder": str(folder).encode(),
        b"temporary": temporary.encode(),
        b"http_port": http_port,
        b"grpc_port": grpc_port,
        b"locations": locations,
        b"frame": quotable(payload.grpc_response(MODELS[Protocol.GRPC])),
    }


def quotable(body: bytes) -> bytes:
    """The body, if it can stand in single quotes in nginx's configuration as it is."""
    for forbidden in b"$'\\":
        if forbidden in body:
            raise ValueError(f"nginx cannot return a body that contains {chr(forbidden)!r}")
    return body


def _http_location(protocol: Protocol) -> bytes:
    model = MODELS[protocol]
    answer = payload.http_response(protocol, model)
    headers = dict(answer.headers)
    kind = headers.pop("Content-Type")
    added = " ".join(f"add_header {name} {value};" for name, value in headers.items())
    head = f"location = {payload.http_path(model)} {{ default_type {kind}; {added} return 200 '"
    return b"        " + head.encode() + quotable(answer.body) + b"'; }"
