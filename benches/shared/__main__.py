# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.shared`: four scikit-learn services in one process, and in one each.

They are applied one after the other to a daemon of their own. Timed is from `apply` to the
condition Ready; the first one includes the start of a process and the import of scikit-learn. The
memory is the sum of what each process has for itself and of its share of what it shares (PSS).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from nerite.kserve.documents import Document, Object
from nerite.local.daemon import Daemon
from nerite.local.front import Front
from nerite.local.settings import Settings

SERVICES = 4
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds to ready for each service in turn, and what all processes hold."""

    seconds: tuple[float, ...]
    processes: int
    megabytes: float


def measure(folder: Path, model: Path, shared: bool) -> Measured:
    """A daemon from its start to four services that answer."""
    front = Front(0, 0)
    daemon = Daemon(Settings(folder, trust=True, shared=shared), dict(os.environ), gateway=front)
    daemon.start()
    try:
        seconds = tuple(_until_ready(daemon, f"irises-{i}", model) for i in range(SERVICES))
        pids: set[int] = set()
        for i in range(SERVICES):
            _ask(front, f"irises-{i}")
            components = daemon.details("default", f"irises-{i}")["components"]
            pids |= {pid for component in components for pid in component["pids"]}
        return Measured(seconds, len(pids), sum(map(_megabytes, pids)))
    finally:
        daemon.stop()


def _until_ready(daemon: Daemon, name: str, model: Path) -> float:
    start = time.perf_counter()
    daemon.apply([Document(_service(name, model), "bench.yaml")], {})
    for _ in daemon.changes():
        (value,) = daemon.objects("InferenceService", "default", name)
        conditions = value["status"].get("conditions", [])
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            break
    return time.perf_counter() - start


def _service(name: str, model: Path) -> Object:
    source = {"modelFormat": {"name": "sklearn"}, "storageUri": str(model)}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": source}},
    }


def _ask(front: Front, name: str) -> None:
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
    url = f"{front.url('default', name)}/v1/models/{name}:predict"
    with urlopen(Request(url, body), timeout=30) as answer:
        if json.load(answer) != {"predictions": [0]}:
            raise SystemExit(f"{name} answers something else")


def _megabytes(pid: int) -> float:
    found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main(arguments: list[str]) -> int:
    """Measure and print a table; status 1 if a second service needs more than its goal."""
    parser = argparse.ArgumentParser(prog="python -m benches.shared", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="daemons of each kind, in turn")
    parser.add_argument("--goal", type=float, default=0.3, help="seconds for a service that shares")
    chosen = parser.parse_args(arguments)
    runs: dict[bool, list[Measured]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "irises"
        model.mkdir()
        flowers, kinds = load_iris(return_X_y=True)
        fitted = LogisticRegression(max_iter=500).fit(flowers, kinds)
        joblib.dump(fitted, model / "model.joblib")
        for number in range(chosen.repetitions):
            for shared, found in runs.items():
                found.append(measure(Path(scratch) / f"{shared}-{number}", model, shared))
    print("| four services | first ready s | each further s | processes | memory MB |")
    print("|---|--:|--:|--:|--:|")
    for shared, found in runs.items():
        first = statistics.median(each.seconds[0] for each in found)
        further = statistics.median(s for each in found for s in each.seconds[1:])
        memory = statistics.median(each.megabytes for each in found)
        name = "in one process" if shared else "in one each"
        print(f"| {name} | {first:.2f} | {further:.3f} | {found[0].processes} | {memory:.0f} |")
    further = statistics.median(s for each in runs[True] for s in each.seconds[1:])
    return int(further > chosen.goal)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
