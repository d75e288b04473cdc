# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.cache`: a request that the response cache answers, and one that it does not.

Each model is there twice, with and without `response_cache`. The server has the first core and its
CPU time is read from /proc; wrk sends one fixed request over 8 connections, so that all but the
first are hits where there is a cache. Compare ratios, within one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benches.load import repository, wrk
from benches.load.answers import LOOPBACK
from benches.load.cpu import cpu_seconds
from benches.load.payload import HttpMessage
from benches.load.servers import Launch, Nerite, Ports, Running, nerite_command, program, running

CONNECTIONS = 8
CONFIG = """backend: "{backend}" max_batch_size: 8
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
"""
CACHES = "response_cache { enable: true }\n"
#: What is asked: a model, and how many floats it is given.
CASES = (("identity", 16), ("identity", 262_144), ("compute", 1_024))


@dataclass(frozen=True, slots=True)
class Caching(Nerite):
    """Nerite with both models, twice."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """Its repository, and 64 MiB of cache."""
        models = folder / "repository"
        for name, backend in (("identity", "identity"), ("compute", "python")):
            for end, more in (("plain", ""), ("cached", CACHES)):
                version = models / f"{name}_{end}/1"
                version.mkdir(parents=True)
                text = CONFIG.format(backend=backend) + more
                (version.parent / "config.pbtxt").write_text(text)
                if backend == "python":
                    shutil.copy(Path(__file__).with_name("model.py"), version)
        return Launch([*nerite_command(models, ports), "--cache-config=local,size=67108864"])

    def ready_path(self) -> str:
        """The server's: it has several models."""
        return "/v2/health/ready"


def main(arguments: list[str]) -> int:
    """Measure the cases and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benches.cache", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    seconds = parser.parse_args(arguments).seconds
    made = Caching("nerite-cache", "Nerite with a cache", repository.NATIVE)
    print("| model | input | CPU us | requests/s | cached: CPU us | requests/s | CPU ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with (
        tempfile.TemporaryDirectory() as folder,
        running(made, Path(folder), core=0) as server,
    ):
        for model, floats in CASES:
            plain = measured(server, f"{model}_plain", floats, Path(folder), seconds)
            cached = measured(server, f"{model}_cached", floats, Path(folder), seconds)
            figures = f"{plain[0]:.1f} | {plain[1]:.0f} | {cached[0]:.1f} | {cached[1]:.0f}"
            print(f"| {model} | {4 * floats:,} B | {figures} | {cached[0] / plain[0]:.2f} |")
    return 0


def measured(
    server: Running, model: str, floats: int, folder: Path, seconds: int
) -> tuple[float, float]:
    """Microseconds of the server's CPU for one request, and requests a second."""
    script = folder / "wrk.lua"
    script.write_text(wrk.script(message(floats)))
    url = f"http://{LOOPBACK}:{server.ports.http}/v2/models/{model}/infer"
    pin = [program("taskset"), "-c", "1"]
    for run_seconds in (1, seconds):
        start = cpu_seconds(server.process.pid)
        command = [*pin, *wrk.command(url, script, CONNECTIONS, run_seconds)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        load = wrk.parse(ended.stdout)
        spent = cpu_seconds(server.process.pid) - start
    if load.failed:
        raise SystemExit(f"{load.failed} requests to '{model}' failed")
    return spent / load.requests * 1e6, load.requests / load.seconds


def message(floats: int) -> HttpMessage:
    """A binary request with so many floats."""
    data = np.linspace(0, 1, floats, dtype=np.float32).tobytes()
    tensor = {
        "name": "INPUT0",
        "shape": [1, floats],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    text = json.dumps(asked).encode()
    return HttpMessage({"Inference-Header-Content-Length": str(len(text))}, text + data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
