# SPDX-License-Identifier: Apache-2.0
"""Every public method of Triton's four Python clients, unmodified, against one server.

The methods come from the classes themselves: a new release of tritonclient that has another one
fails here until there is an exchange for it. What one looks like is in `triton_exchanges`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.clients.triton_clients import FLAVOURS, Flavour, methods
from tests.clients.triton_exchanges import EXCHANGES, STREAMS

from nerite.server.access_options import AccessOptions, Restriction
from nerite.server.server import Server
from nerite.server.trace_options import TraceOptions
from nerite.testing import serve

#: Answers with what it was told about the request.
TOLD = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        told = {
            "id": request.request_id(),
            "sequence": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "parameters": json.loads(request.parameters()),
        }
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        text = np.array([json.dumps(told)] * len(x), dtype=np.object_).reshape(-1, 1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x), pb_utils.Tensor("TOLD", text)])
"""
BASIC = "Basic bWU6c2VjcmV0"
CONFIG = """backend: "python" max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("methods")
    for name in ("told", "spare"):
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(CONFIG)
        (root / name / "1/model.py").write_text(TOLD)
    private = (Restriction(("statistics",), "authorization", BASIC),)
    access = AccessOptions(
        http_header_forward="x-told",
        grpc_header_forward="x-told",
        http_restricted=private,
        grpc_restricted=private,
    )
    tracing = TraceOptions(file=str(root.with_name("traces.json")))
    explicit = {"model_control_mode": "explicit", "load_models": ("*",)}
    with serve(root, allow_client_shm=True, access=access, tracing=tracing, **explicit) as running:
        yield running


CASES = [(flavour, method) for flavour in FLAVOURS for method in methods(flavour)]


@pytest.mark.parametrize(
    ("flavour", "method"), CASES, ids=[f"{f.name}-{method}" for f, method in CASES]
)
def test_a_method(server: Server, flavour: Flavour, method: str) -> None:
    assert method in EXCHANGES, f"{flavour.name} has a method without an exchange: {method}"
    with flavour.connected(server) as client:
        EXCHANGES[method](client, server)
    assert method in client.called


def test_no_exchange_is_for_a_method_that_is_not_there() -> None:
    assert EXCHANGES.keys() == {method for _, method in CASES}
    counts = {flavour.name: len(methods(flavour)) for flavour in FLAVOURS}
    assert counts.keys() == {"http", "http.aio", "grpc", "grpc.aio"}
    assert min(counts.values()) >= 26


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("flavour", FLAVOURS[2:], ids=lambda flavour: flavour.name)
def test_a_stream_carries_everything(
    server: Server, flavour: Flavour, compression: str | None
) -> None:
    with flavour.connected(server) as client:
        STREAMS[flavour.name](client, compression)


@pytest.mark.parametrize("flavour", FLAVOURS[2:], ids=lambda flavour: flavour.name)
def test_a_stream_ends_at_its_timeout(server: Server, flavour: Flavour) -> None:
    with flavour.connected(server) as client:
        assert "Deadline Exceeded" in client.stream_failure(timeout=0.2)
