# SPDX-License-Identifier: Apache-2.0
"""A server that is told to stop goes on serving for a while: its clients do not know yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import InvalidArgument
from nerite.server.server import Server
from nerite.testing import serve

IDENTITY = """backend: "identity" max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
LONG = 3600.0
X = np.array([[1.5, 2.5]], np.float32)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "same/1").mkdir(parents=True)
    (tmp_path / "same/config.pbtxt").write_text(IDENTITY)
    return tmp_path


@contextmanager
def stopping(server: Server) -> Iterator[Future[bool]]:
    """The server while it is being stopped, from when it is not ready any more."""
    with ThreadPoolExecutor(1) as pool, http(server) as client:
        assert client.is_server_ready()
        stopped = pool.submit(server.stop)
        while client.is_server_ready():
            assert not stopped.done()
        yield stopped


def http(server: Server) -> httpclient.InferenceServerClient:
    return httpclient.InferenceServerClient(server.http_url.removeprefix("http://"))


def test_a_request_that_arrives_during_the_delay_is_answered(repository: Path) -> None:
    with serve(repository, drain_delay_secs=LONG) as server, stopping(server) as stopped:
        with http(server) as client:  # a connection that is made only now
            assert client.is_server_live()
            tensor = httpclient.InferInput("X", [1, 2], "FP32").set_data_from_numpy(X)
            np.testing.assert_array_equal(client.infer("same", [tensor]).as_numpy("Y"), X)
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            assert not client.is_server_ready()
            tensor = grpcclient.InferInput("X", [1, 2], "FP32").set_data_from_numpy(X)
            np.testing.assert_array_equal(client.infer("same", [tensor]).as_numpy("Y"), X)
        address = server.http_url.removeprefix("http://")
        assert not stopped.done()
        assert server.end_delay()
        assert stopped.result(30)
        assert not server.end_delay()
        with (
            httpclient.InferenceServerClient(address) as client,
            pytest.raises((OSError, InferenceServerException)),
        ):
            client.is_server_live()


def test_the_delay_ends_by_itself(repository: Path) -> None:
    with serve(repository, drain_delay_secs=0.01) as server:
        assert server.stop()
        assert not server.end_delay()


def test_a_server_that_was_not_ready_does_not_wait(repository: Path) -> None:
    (repository / "broken").mkdir()
    with serve(repository, wait=None, drain_delay_secs=LONG) as server:
        server.wait_loaded(10)
        assert not server.ready
        done = threading.Event()
        thread = threading.Thread(target=lambda: (server.stop(), done.set()))
        thread.start()
        assert done.wait(15)
        thread.join()


def test_the_flag_is_in_seconds() -> None:
    assert server_options(["x"], choose({"--drain-delay": "2.5"})).drain_delay_secs == 2.5
    for word in ("-1", "nan", "1e9"):
        with pytest.raises(InvalidArgument, match=r"--drain-delay: .* must be from 0 to 3600"):
            choose({"--drain-delay": word})
