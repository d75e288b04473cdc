# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.kserve`: iris, served by Nerite and by KServe's own Python server.

Both get the same arguments and the same requests: V1 and V2 over REST, V2 over gRPC.
Server CPU per request with 8 requests in flight, the time from start to live and to ready (the
median of some starts, in alternation, on one core, all packages compiled), and how long a probe
waits while a model computes for some seconds. KServe's package is in `.tools/`, where
`make .tools/kserve/.installed` puts it for the tests too.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import nerite
from benches.load import h2load, payload, report, repository, wrk
from benches.load.answers import LOOPBACK, WrongAnswer, get
from benches.load.cpu import cpu_seconds, two_cores
from benches.load.payload import HttpMessage
from benches.load.prepare import TOOLS, Missing, Progress, program
from benches.load.sample import Load
from benches.load.servers import Launch, NotReady, Ports, Running, Server, running

VERSION = "0.21.0"  # as in pyproject.toml
ROW = [5.1, 3.5, 1.4, 0.2]
CONCURRENCY = 8
SLOW_MODEL = """\
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            seconds = pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()
            time.sleep(float(seconds.ravel()[0]))
            tensor = pb_utils.Tensor("DONE", np.zeros((1, 1), np.int64))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
"""
SLOW_CONFIG = """\
backend: "python" max_batch_size: 1
input [ { name: "SECONDS" data_type: TYPE_FP64 dims: [ 1 ] } ]
output [ { name: "DONE" data_type: TYPE_INT64 dims: [ 1 ] } ]
"""


@dataclass(frozen=True, slots=True)
class Iris(Server):
    """Something that serves `iris` from a folder, with KServe's arguments."""

    def arguments(self, folder: Path, ports: Ports) -> list[str]:
        """What a ServingRuntime passes."""
        return [
            *("--model_name", "iris", "--model_dir", str(folder)),
            *("--http_port", str(ports.http), "--grpc_port", str(ports.grpc)),
        ]

    def ready_path(self) -> str:
        """The model's own."""
        return "/v2/models/iris/ready"

    def live_path(self) -> str:
        """What a kubelet asks."""
        return "/v2/health/live"


@dataclass(frozen=True, slots=True)
class Nerite(Iris):
    """`nerite serve` in KServe's mode."""

    def prepare(self, progress: Progress) -> None:
        """Built by `make setup`; compiled, as pip compiled the other's packages."""
        compileall.compile_dir(Path(nerite.__file__).parent, quiet=1)
        compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2)

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """The joblib file, which needs --trust as any pickle does."""
        models = write_model(folder / "model")
        command = [sys.executable, "-m", "nerite", "serve", *self.arguments(models, ports)]
        return Launch([*command, f"--metrics-port={ports.metrics}", "--trust"])


@dataclass(frozen=True, slots=True)
class Slow(Nerite):
    """Nerite with a model that sleeps."""

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """A repository of one Python model."""
        (folder / "models/slow/1").mkdir(parents=True)
        (folder / "models/slow/config.pbtxt").write_text(SLOW_CONFIG)
        (folder / "models/slow/1/model.py").write_text(SLOW_MODEL)
        command = [sys.executable, "-m", "nerite", "serve", str(folder / "models")]
        ported = [f"--http-port={ports.http}", f"--grpc-port={ports.grpc}"]
        return Launch([*command, *ported, f"--metrics-port={ports.metrics}"])

    def ready_path(self) -> str:
        """The model's own."""
        return "/v2/models/slow/ready"


@dataclass(frozen=True, slots=True)
class KServe(Iris):
    """KServe's package, with `peer.py` as its model class."""

    def prepare(self, progress: Progress) -> None:
        """Give its environment the same scikit-learn."""
        if not (environment() / ".installed").exists():
            raise Missing("KServe's package is not installed; run `make .tools/kserve/.installed`")
        progress(f"installing scikit-learn {sklearn.__version__} beside KServe's package")
        wanted = [f"scikit-learn=={sklearn.__version__}", "joblib"]
        pip = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python"]
        command = [*pip, str(environment() / "bin/python"), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"uv cannot install {wanted}: {done.stderr.strip()[-200:]}")
        # By its own Python, and for both: what was never compiled would be at every start.
        compiling = [str(environment() / "bin/python"), "-m", "compileall", "-q", "-q"]
        subprocess.run(
            [*compiling, str(environment() / "lib"), str(Path(__file__).parent)], check=False
        )

    def launch(self, folder: Path, ports: Ports) -> Launch:
        """The same arguments."""
        models = write_model(folder / "model")
        peer = Path(__file__).with_name("peer.py")
        command = [str(environment() / "bin/python"), str(peer), *self.arguments(models, ports)]
        # Its default logs every request; whoever measures turns that off.
        return Launch(
            [*command, "--enable_latency_logging", "false", "--log_config_file", quiet(folder)]
        )


def environment() -> Path:
    """Where KServe's package is installed."""
    return TOOLS / "kserve"


def quiet(folder: Path) -> str:
    """A logging configuration that keeps warnings."""
    path = folder / "logging.json"
    path.write_text(json.dumps({"version": 1, "root": {"level": "WARNING"}}))
    return str(path)


def write_model(folder: Path) -> Path:
    """A folder with iris as a joblib file."""
    folder.mkdir(parents=True)
    rows, classes = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(rows, classes), folder / "model.joblib")
    return folder


@dataclass(frozen=True, slots=True)
class Case:
    """One way to ask for the class of a row."""

    name: str
    path: str
    body: dict[str, Any] | None

    def message(self) -> HttpMessage:
        """The request over HTTP."""
        return HttpMessage({"Content-Type": "application/json"}, json.dumps(self.body).encode())


def _v2(datatype: str) -> dict[str, Any]:
    return {"name": "input-0", "shape": [1, 4], "datatype": datatype, "data": ROW}


CASES = (
    Case("v1", "/v1/models/iris:predict", {"instances": [ROW]}),
    Case("v2", "/v2/models/iris/infer", {"inputs": [_v2("FP32")]}),
    Case("grpc", payload.GRPC_PATH, None),
)


def frame() -> bytes:
    """The V2 request as a gRPC message."""
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest(model_name="iris")
    tensor = message.inputs.add(name="input-0", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend(ROW)
    return payload.framed(message.SerializeToString())


def check(case: Case, ports: Ports) -> None:
    """Raise WrongAnswer unless the class is 0."""
    from tritonclient import grpc

    if case.body is None:
        with grpc.InferenceServerClient(f"{LOOPBACK}:{ports.grpc}") as client:
            tensor = grpc.InferInput("input-0", [1, 4], "FP32")
            tensor.set_data_from_numpy(np.array([ROW], np.float32))
            answer = client.infer("iris", [tensor]).get_response()
            first = answer.outputs[0]
            raw = answer.raw_output_contents
            found = np.frombuffer(raw[0], np.int64)[0] if raw else first.contents.int64_contents[0]
    else:
        answer = _post(ports.http, case)
        found = (
            answer["predictions"][0] if "predictions" in answer else answer["outputs"][0]["data"][0]
        )
    if found != 0:
        raise WrongAnswer(f"{case.name}: {found} instead of class 0")


def _post(port: int, case: Case) -> Any:
    import http.client

    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    message = case.message()
    connection.request("POST", case.path, message.body, message.headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    if response.status != 200:
        raise WrongAnswer(f"{case.name}: {response.status} {text[:200]!r}")
    return json.loads(text)


def load(case: Case, ports: Ports, folder: Path, core: int, seconds: int) -> Load:
    """Eight at a time for so long."""
    pin = [program("taskset"), "-c", str(core)]
    if case.body is None:
        data, log = folder / "frame.bin", folder / "h2load.log"
        data.write_bytes(frame())
        log.unlink(missing_ok=True)
        url = f"http://{LOOPBACK}:{ports.grpc}{case.path}"
        command = h2load.command(url, data, log, CONCURRENCY, seconds)
        return h2load.parse(_run(pin, command), log.read_text())
    script = folder / "script.lua"
    script.write_text(wrk.script(case.message()))
    url = f"http://{LOOPBACK}:{ports.http}{case.path}"
    return wrk.parse(_run(pin, wrk.command(url, script, CONCURRENCY, seconds)))


def _run(pin: list[str], command: list[str]) -> str:
    words = [*pin, program(command[0]), *command[1:]]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def measure(server: Server, cores: tuple[int, int], seconds: int) -> dict[str, Any]:
    """Ready time and CPU per request of each case."""
    print(f"measuring {server.title}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="nerite-kserve-") as name,
        running(server, Path(name) / "served", cores[0]) as live,
    ):
        row: dict[str, Any] = {"server": server.name}
        for case in CASES:
            check(case, live.ports)
            load(case, live.ports, Path(name), cores[1], 1)
            row[case.name] = round(_best(case, live, Path(name), cores[1], seconds), 1)
            check(case, live.ports)
            print(f"  {case.name:5} {row[case.name]:8.1f} us of CPU", flush=True)
        return row


def _best(case: Case, live: Running, folder: Path, core: int, seconds: int) -> float:
    found = []
    for _ in range(2):
        before = cpu_seconds(live.process.pid)
        done = load(case, live.ports, folder, core, seconds)
        if done.failed or not done.requests:
            raise WrongAnswer(f"{case.name}: {done.failed} of {done.requests} requests failed")
        found.append((cpu_seconds(live.process.pid) - before) * 1e6 / done.requests)
    return min(found)


def start(servers: Sequence[Server], core: int, times: int) -> list[dict[str, Any]]:
    """Seconds to live and to ready of each server: all starts and their median."""
    found: dict[str, list[Running]] = {server.name: [] for server in servers}
    for number in range(times + 1):
        for server in servers:
            with (
                tempfile.TemporaryDirectory(prefix="nerite-kserve-") as name,
                running(server, Path(name) / "served", core) as live,
            ):
                # The first start reads files that no start before it has read.
                found[server.name] += [live] if number else []
    return [_medians(found[server.name]) for server in servers]


def _medians(starts: Sequence[Running]) -> dict[str, Any]:
    live = [round(each.live_seconds, 3) for each in starts]
    ready = [round(each.ready_seconds, 3) for each in starts]
    told = {"live_s": round(median(live), 2), "ready_s": round(median(ready), 2)}
    return told | {"starts": {"live_s": live, "ready_s": ready}}


def probe(server: Server, path: str, body: dict[str, Any], seconds: float) -> float:
    """The longest that a liveness probe waited while a model computed, in milliseconds."""
    with (
        tempfile.TemporaryDirectory(prefix="nerite-kserve-") as name,
        running(server, Path(name) / "served", None) as live,
    ):
        case = Case("slow", path, body)
        thread = threading.Thread(target=lambda: _post(live.ports.http, case))
        thread.start()
        worst, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end and thread.is_alive():
            begun = time.monotonic()
            get(live.ports.http, "/v2/health/live")
            worst = max(worst, (time.monotonic() - begun) * 1e3)
            time.sleep(0.02)
        thread.join()
        return round(worst, 1)


def main(arguments: list[str]) -> int:
    """Measure both, print the ratios, and give the exit status."""
    given = _parse(arguments)
    nerite = Nerite("nerite", "Nerite", repository.NATIVE)
    kserve = KServe("kserve", f"KServe {VERSION}", repository.NATIVE)
    slow = Slow("nerite", "Nerite", repository.NATIVE)
    seconds = given.block
    try:
        cores = two_cores()
        os.sched_setaffinity(0, {cores[1]})
        for each in (nerite, kserve):
            each.prepare(print)
        print(f"starting both {given.starts} times", flush=True)
        starts = start((nerite, kserve), cores[0], given.starts)
        rows = [measure(each, (cores[0], cores[1]), given.seconds) for each in (nerite, kserve)]
        rows = [row | started for row, started in zip(rows, starts, strict=True)]
        os.sched_setaffinity(0, set(cores))
        tensor = {"name": "SECONDS", "shape": [1, 1], "datatype": "FP64", "data": [seconds]}
        rows[0]["probe_ms"] = probe(slow, "/v2/models/slow/infer", {"inputs": [tensor]}, seconds)
        asked = {
            "instances": [[min(seconds, 8.0)]]
        }  # its probes would wait for longer than http does
        rows[1]["probe_ms"] = probe(kserve, "/v1/models/slow:predict", asked, seconds)
    except (Missing, NotReady, ValueError, WrongAnswer, subprocess.CalledProcessError) as why:
        print(f"cannot go on: {why}", file=sys.stderr)
        return 1
    print("\n" + table(rows))
    if given.json is not None:
        report.write_json(given.json, report.facts("benches.kserve", arguments) | {"rows": rows})
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    """Both servers and the ratio, as a Markdown table."""
    ours, theirs = rows
    lines = ["| | Nerite | KServe | ratio |", "|---|--:|--:|--:|"]
    titles = {case.name: f"{case.name}, us of CPU" for case in CASES}
    titles |= {
        "live_s": "start to live, s",
        "ready_s": "start to ready, s",
        "probe_ms": "longest probe, ms",
    }
    for key, title in titles.items():
        if key not in ours:  # older results
            continue
        ratio = theirs[key] / ours[key] if ours[key] else float("inf")
        lines.append(f"| {title} | {ours[key]} | {theirs[key]} | {ratio:.1f} |")
    return "\n".join(lines)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.kserve", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=int, default=3, metavar="S", help="a run (default 3)")
    add("--starts", type=int, default=5, metavar="N", help="starts of each server (default 5)")
    add("--block", type=float, default=10.0, metavar="S", help="a model computes (default 10)")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
