# SPDX-License-Identifier: Apache-2.0
"""KServe's own client (`InferenceRESTClient`, `InferenceGRPCClient`), unmodified.

It runs in an environment of its own, which `make test` builds; see `kserve_exchanges`. One server
is `nerite serve` with the arguments of a KServe runtime, the other has TLS and keys.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.keyed import make_key
from tests.server.test_tls import Pems
from tests.serving import FREE_PORTS, served

from nerite.server.access_options import AccessOptions
from nerite.testing import serve

pytestmark = pytest.mark.timeout(120)  # the client's package alone takes seconds to be imported
HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".tools/kserve/bin/python"
CONFIG = """backend: "identity"
input [ {{ name: "X" data_type: TYPE_{0} dims: [ -1 ] }} ]
output [ {{ name: "Y" data_type: TYPE_{0} dims: [ -1 ] }} ]
"""


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mnt") / "models"
    folder.mkdir()
    rows, classes = load_iris(return_X_y=True)
    skops.io.dump(LogisticRegression(max_iter=500).fit(rows, classes), folder / "model.skops")
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    # The last one waits for a second request, which does not come.
    waits = "max_batch_size: 2 dynamic_batching { max_queue_delay_microseconds: 600000000 }"
    for name, kind, more in (
        ("words", "STRING", ""),
        ("halves", "FP16", ""),
        ("waiting", "FP16", waits),
    ):
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(CONFIG.format(kind) + more)
    return root


@pytest.fixture(scope="module")
def outcome(iris: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What came of every exchange; the client is started once, since it takes seconds to."""
    assert PYTHON.exists(), "run the tests with `make test`, which gets KServe's package"
    folder = tmp_path_factory.mktemp("secrets")
    pems, keys = Pems(folder), folder / "keys.txt"
    secured = {**pems.options("http"), **pems.options("grpc", mutual=True)}
    words = [*FREE_PORTS, "--model_name=iris", f"--model_dir={iris}", "--drain-delay=0"]
    words.append(f"--log-file={folder / 'log'}")
    key = make_key(keys, "client", "infer")
    with (
        served([sys.executable, "-m", "nerite", "serve", *words]) as shown,
        serve(repository, access=AccessOptions(api_keys=keys), **secured) as server,
    ):
        places = {
            "iris_http": re.findall(r"http://127\.0\.0\.1:\d+", shown)[0],
            "iris_grpc": re.findall(r"GRPC\w+ at ([\d.:]+)", (folder / "log").read_text())[0],
            "tls_http": f"https://localhost:{server.ports['http'][1]}",
            "tls_grpc": f"localhost:{server.ports['grpc'][1]}",
            "key": key,
            "roots": str(pems.roots),
            "client": str(pems.client),
            "client_key": str(pems.client_key),
        }
        script = [PYTHON, HERE / "kserve_exchanges.py", json.dumps(places)]
        done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_no_method_is_left_out(outcome: dict[str, Any]) -> None:
    assert len(outcome["methods"]) == 11
    assert outcome["not called"] == []


TWO = [0, 2]
ROWS = {"model": "iris", "shape": [2], "datatype": "INT64", "values": TWO}
WORDS = {"shape": [2], "datatype": "BYTES", "values": ["", "größe"]}
HALVES = {"shape": [2], "datatype": "FP16", "numpy": "float16", "values": [0.5, -2.0]}
EXPECTED: dict[str, Any] = {
    "v1/live": True,
    "v1/ready": {"raised": "UnsupportedProtocol"},  # V1 has none; the client says so itself
    "v1/model": True,
    "v1/no-model": {"status": 404},
    "v1/infer": {"predictions": TWO},
    "v1/bad": {"status": 400},
    "v1/explain": {"status": 501},
    "v1/graph": {"predictions": TWO},
    "v1/closed": "Cannot send a request, as the client has been closed.",
    "v2/live": True,
    "v2/ready": True,
    "v2/model": True,
    "v2/no-model": False,
    "v2/explain": {"raised": "UnsupportedProtocol"},
    "v2/infer-json": {**ROWS, "id": "seven"},
    "v2/infer-bytes": {**ROWS, "id": "seven"},
    "v2/bad": {"status": 400},
    "v2/gzip": {**ROWS, "encoding": "gzip"},
    "tls/timeout": {"raised": "TimeoutException"},
    "tls/no-key": {"status": 401},
    "tls/words-json": WORDS,
    "tls/words-bytes": WORDS,
    "tls/halves": HALVES,
    "tls/all-binary": WORDS,
    "tls/grpc": HALVES,
    "tls/grpc-no-key": {"status": "UNAUTHENTICATED"},
    "grpc/live": True,
    "grpc/ready": True,
    "grpc/model": True,
    "grpc/no-model": False,
    "grpc/infer-raw": {**ROWS, "id": "seven"},
    "grpc/infer-typed": {**ROWS, "id": "seven"},
    "grpc/bad": {"status": "INVALID_ARGUMENT"},
    "tls/grpc-timeout": {"status": "DEADLINE_EXCEEDED"},
    "grpc/gzip": {**ROWS, "version": "1"},
}


def test_no_exchange_is_left_out(outcome: dict[str, Any]) -> None:
    assert outcome["exchanges"].keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_an_exchange(outcome: dict[str, Any], name: str) -> None:
    came, expected = outcome["exchanges"][name], EXPECTED[name]
    if isinstance(expected, dict) and isinstance(came, dict):
        came = {key: came[key] for key in expected}
    assert came == expected
