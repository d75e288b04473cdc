# SPDX-License-Identifier: Apache-2.0
"""One run of a generator against one port, for benches that compare two ways to a model."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benches.load import h2load, payload, wrk
from benches.load.answers import LOOPBACK
from benches.load.cases import Protocol
from benches.load.sample import Load


def load(
    protocol: Protocol, model: str, port: int, concurrency: int, seconds: int, folder: Path
) -> Load:
    """Sixteen floats again and again; `folder` is for the generator's files."""
    url = f"http://{LOOPBACK}:{port}"
    if protocol is Protocol.GRPC:
        frame, log = folder / "frame", folder / "log"
        frame.write_bytes(payload.grpc_request(model))
        log.unlink(missing_ok=True)
        words = h2load.command(url + payload.GRPC_PATH, frame, log, concurrency, seconds)
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        return h2load.parse(printed, log.read_text())
    script = folder / "request.lua"
    script.write_text(wrk.script(payload.http_request(protocol)))
    words = wrk.command(url + payload.http_path(model), script, concurrency, seconds)
    return wrk.parse(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
