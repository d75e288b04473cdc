# SPDX-License-Identifier: Apache-2.0
"""Ports as sockets in the file system, and ports that servers share."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from tests.serving import served

from nerite.errors import InvalidArgument, Unavailable
from nerite.server.options import ServerOptions
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ports")
    (root / "echo/1").mkdir(parents=True)
    (root / "echo/config.pbtxt").write_text(CONFIG)
    return root


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


class FileConnection(http.client.HTTPConnection):
    """HTTP to a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def got(path: Path, where: str) -> Any:
    connection = FileConnection(path)
    connection.request("GET", where)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def echoed(url: str) -> bool:
    array = np.arange(300_000, dtype=np.float32)
    tensor = tritonclient.grpc.InferInput("X", [300_000], "FP32")
    tensor.set_data_from_numpy(array)
    with tritonclient.grpc.InferenceServerClient(url) as client:
        return np.array_equal(client.infer("echo", [tensor]).as_numpy("Y"), array)


@pytest.mark.parametrize("io_threads", [1, 3])
def test_both_protocols_through_files(repository: Path, folder: Path, io_threads: int) -> None:
    paths = {"http": folder / "http.sock", "grpc": folder / "grpc.sock"}
    addresses = {f"{name}_address": f"unix:{path}" for name, path in paths.items()}
    with serve(repository, io_threads=io_threads, **addresses) as server:
        for _ in range(4):  # each thread has one
            assert got(paths["http"], "/v2/models/echo")["name"] == "echo"
            assert echoed(server.grpc_url)
        assert server.grpc_url == f"unix:{paths['grpc']}"
        assert server.http_url == "http+unix://" + str(paths["http"]).replace("/", "%2F")
        assert server.metrics_url.startswith("http://127.0.0.1:")
    assert list(folder.iterdir()) == []


def test_the_command_says_how_to_reach_a_file(repository: Path, folder: Path) -> None:
    path = folder / "http.sock"
    words = ("--http-address", f"unix:{path}", "--allow-grpc=false", "--metrics-port=0")
    with served((sys.executable, "-m", "nerite", "serve", str(repository), *words)) as shown:
        assert f"curl --unix-socket {path} http://localhost/v2/models/echo" in shown
        assert got(path, "/v2/models/echo")["versions"] == ["1"]
    assert not path.exists()


def test_what_a_server_left_is_replaced_and_nothing_else(repository: Path, folder: Path) -> None:
    path = folder / "grpc.sock"
    options = {"grpc_address": f"unix:{path}"}
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with serve(repository, **options) as server:
        assert echoed(server.grpc_url)
        with pytest.raises(Unavailable, match=f"listen on unix:{path}: another server listens"):
            serve(repository, **options).__enter__()
        assert echoed(server.grpc_url)
    path.write_text("dear diary")
    with pytest.raises(Unavailable, match="a file that is no socket lies there"):
        serve(repository, **options).__enter__()
    assert path.read_text() == "dear diary"


def test_a_file_that_another_server_has_taken_over_stays(repository: Path, folder: Path) -> None:
    path = folder / "grpc.sock"
    with serve(repository, grpc_address=f"unix:{path}"):
        path.unlink()
        with serve(repository, grpc_address=f"unix:{path}") as second:
            os.stat(path)
            first_is_gone = second
    assert not path.exists()
    assert first_is_gone.options.grpc_address == f"unix:{path}"


def test_paths_that_cannot_be_are_told(repository: Path, folder: Path) -> None:
    for path, why in (
        (folder / ("x" * 120), "must be shorter than SUN_LEN"),
        (folder / "no/folder", "No such file"),
    ):
        with pytest.raises(Unavailable, match=f"cannot listen on unix:{path}: .*{why}"):
            serve(repository, http_address=f"unix:{path}").__enter__()
    with pytest.raises(InvalidArgument, match="a path must follow"):
        ServerOptions(http_address="unix:")
    with pytest.raises(InvalidArgument, match="each protocol has a port of its own"):
        ServerOptions(http_address="unix:/a", grpc_address="unix:/a")


def test_a_port_is_shared_only_by_those_who_want_it(repository: Path) -> None:
    with serve(repository, reuse_grpc_port=True) as first:
        port = first.ports["grpc"][1]
        with serve(repository, grpc_port=port, reuse_grpc_port=True) as second:
            assert second.ports["grpc"][1] == port
            first.stop()
            assert echoed(second.grpc_url)
            with pytest.raises(Unavailable, match=f"port {port}: Address already in use"):
                serve(repository, grpc_port=port).__enter__()
