# SPDX-License-Identifier: Apache-2.0
"""Tensors in shared memory, through tritonclient, and what clients may do wrong with it."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Iterator
from multiprocessing import shared_memory as objects
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, shared_memory

from nerite.server.server import Server
from nerite.testing import serve

IDENTITY = """backend: "identity" max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
FLOATS = np.arange(8, dtype=np.float32).reshape(1, 8)
OBJECTS = Path("/dev/shm")


def write_models(root: Path) -> Path:
    (root / "echo" / "1").mkdir(parents=True)
    (root / "echo" / "config.pbtxt").write_text(IDENTITY)
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(write_models(tmp_path_factory.mktemp("shm")), allow_client_shm=True) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    with spoken(request.param, server) as opened:
        yield opened
        opened.unregister_system_shared_memory()


@contextlib.contextmanager
def spoken(protocol: str, server: Server) -> Iterator[Any]:
    module = tritonclient.http if protocol == "http" else tritonclient.grpc
    url = server.http_url.removeprefix("http://") if protocol == "http" else server.grpc_url
    with module.InferenceServerClient(url) as opened:
        opened.module = module
        yield opened


@pytest.fixture
def key() -> Iterator[str]:
    """The name of an object that is gone after the test."""
    name = f"nerite-{uuid.uuid4().hex}"
    yield name
    (OBJECTS / name).unlink(missing_ok=True)


def ask(client: Any, *, size: int = FLOATS.nbytes, offset: int = 0, into: int | None = None) -> Any:
    """An inference on `size` bytes of region `r`, answered into the same region if told where."""
    tensor = client.module.InferInput("X", [1, size // 4], "FP32")
    tensor.set_shared_memory("r", size, offset)
    wanted = client.module.InferRequestedOutput("Y")
    if into is not None:
        wanted.set_shared_memory("r", size, into)
    return client.infer("echo", [tensor], outputs=[wanted])


def refused(client: Any, **how: Any) -> str:
    with pytest.raises(InferenceServerException) as told:
        ask(client, **how)
    return str(told.value)


def outcome(client: Any) -> str:
    """Whether the region was there; nothing else may happen."""
    try:
        ask(client, into=FLOATS.nbytes)
    except InferenceServerException as why:
        return "unknown" if "Unable to find shared memory region: 'r'" in str(why) else str(why)
    return "written"


def unregistrable(client: Any, key: str, size: int = 64, **how: Any) -> str:
    with pytest.raises(InferenceServerException) as told:
        client.register_system_shared_memory("r", key, size, **how)
    return str(told.value)


def write_object(key: str, data: bytes) -> Path:
    path = OBJECTS / key
    path.write_bytes(data)
    return path


def test_tritonclients_own_regions_carry_inputs_and_outputs(client: Any, key: str) -> None:
    size = FLOATS.nbytes
    region = shared_memory.create_shared_memory_region("r", key, 2 * size)
    try:
        shared_memory.set_shared_memory_region(region, [FLOATS])
        client.register_system_shared_memory("r", key, 2 * size)
        np.testing.assert_array_equal(ask(client).as_numpy("Y"), FLOATS)

        ask(client, into=size)
        written = shared_memory.get_contents_as_numpy(region, np.float32, [1, 8], size)
        np.testing.assert_array_equal(written, FLOATS)
    finally:
        shared_memory.destroy_shared_memory_region(region)


def test_a_region_may_begin_anywhere_in_its_object(client: Any, key: str) -> None:
    write_object(key, bytes(20) + FLOATS.tobytes())
    client.register_system_shared_memory("r", key, FLOATS.nbytes, offset=20)
    np.testing.assert_array_equal(ask(client).as_numpy("Y"), FLOATS)
    np.testing.assert_array_equal(ask(client, size=8, offset=8).as_numpy("Y"), [[2, 3]])


def test_16_mib_go_through(client: Any, key: str) -> None:
    floats = np.random.default_rng(0).random(4 << 20, np.float32)
    path = write_object(key, floats.tobytes() + bytes(floats.nbytes))
    client.register_system_shared_memory("r", key, 2 * floats.nbytes)
    ask(client, size=floats.nbytes, into=floats.nbytes)
    assert path.read_bytes()[floats.nbytes :] == floats.tobytes()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_clients_may_not_register_unless_the_operator_says_so(
    tmp_path: Path, key: str, protocol: str
) -> None:
    write_object(key, bytes(64))
    with (
        serve(write_models(tmp_path)) as closed,
        spoken(protocol, closed) as client,
    ):
        told = unregistrable(client, key)
        assert (
            "Client shared memory is disabled. "
            "Start the server with '--allow-client-shm=true' to enable." in told
        )
        assert "Unable to find shared memory region: 'r'" in refused(client)


@pytest.mark.parametrize(
    "wrong",
    ["../../etc/passwd", "/../../etc/passwd", "a/b", "", "/", ".", "..", "nul\0byte", "no-such"],
)
def test_a_key_is_one_name_among_the_objects(client: Any, wrong: str) -> None:
    assert f"Unable to open shared memory region: '{wrong}'" in unregistrable(client, wrong)


def test_links_pipes_and_folders_are_no_objects(client: Any, key: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    path = OBJECTS / key
    path.symlink_to(secret)
    assert "Unable to open" in unregistrable(client, key)
    path.unlink()
    os.mkfifo(path)
    assert "Unable to open" in unregistrable(client, key)  # and does not wait for a writer


def test_keys_of_tritons_python_backend_are_reserved(client: Any) -> None:
    name = f"triton_python_backend_shm_region_{uuid.uuid4().hex}"
    write_object(name, bytes(64))
    try:
        told = unregistrable(client, f"/{name}")
        assert (
            f"cannot register shared memory region 'r' with key '/{name}' as the key contains the "
            "reserved prefix 'triton_python_backend_shm_region_'" in told
        )
    finally:
        (OBJECTS / name).unlink()


@pytest.mark.parametrize(
    ("size", "offset"), [(65, 0), (64, 1), (1, 64), (0, 0), (2**63, 2**63), (2**64 - 1, 1)]
)
def test_a_region_must_lie_in_its_object(client: Any, key: str, size: int, offset: int) -> None:
    write_object(key, bytes(64))
    told = unregistrable(client, key, size, offset=offset)
    assert "failed to register shared memory region 'r': invalid args" in told


def test_a_tensor_must_lie_in_its_region(client: Any, key: str) -> None:
    write_object(key, bytes(64))
    client.register_system_shared_memory("r", key, 32)
    assert "Invalid offset for shared memory region: 'r'" in refused(client, offset=33)
    assert "Invalid offset + byte size" in refused(client, offset=4)
    assert "Invalid offset + byte size" in refused(client, size=8, into=28)
    told = refused(client, size=8, offset=2**63 - 1)
    assert "Invalid offset for shared memory region: 'r'" in told


def test_an_object_that_was_cut_off_is_an_error_and_the_server_lives(client: Any, key: str) -> None:
    path = write_object(key, FLOATS.tobytes() * 2)
    client.register_system_shared_memory("r", key, 2 * FLOATS.nbytes)
    os.truncate(path, 8)
    assert "cannot be used from byte 0 on: it has 8 bytes now" in refused(client)
    assert "it has 8 bytes now" in refused(client, size=8, into=32)
    assert path.stat().st_size == 8, "the server must not make it longer"
    np.testing.assert_array_equal(ask(client, size=8).as_numpy("Y"), [[0, 1]])


def test_an_object_may_claim_more_than_there_is_memory(client: Any, key: str) -> None:
    path = write_object(key, b"")
    os.truncate(path, 1 << 40)
    client.register_system_shared_memory("r", key, 1 << 40)
    told = refused(client, size=1 << 40)
    assert "request has 1099511627776 bytes in shared memory, at most 2147483648" in told


def test_a_region_that_is_dropped_in_mid_request_is_still_written(server: Server, key: str) -> None:
    write_object(key, FLOATS.tobytes() + bytes(FLOATS.nbytes))
    done = threading.Event()

    def drop() -> None:
        with spoken("grpc", server) as other:
            while not done.is_set():
                other.register_system_shared_memory("r", key, 2 * FLOATS.nbytes)
                other.unregister_system_shared_memory("r")

    thread = threading.Thread(target=drop)
    thread.start()
    answers = {"written": 0, "unknown": 0}
    try:
        with spoken("http", server) as client:
            while min(answers.values()) < 20:
                answers[outcome(client)] += 1
    finally:
        done.set()
        thread.join()
    assert (OBJECTS / key).read_bytes()[FLOATS.nbytes :] == FLOATS.tobytes()


def test_streams_read_and_write_regions_too(server: Server, key: str) -> None:
    path = write_object(key, FLOATS.tobytes() + bytes(FLOATS.nbytes))
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with spoken("grpc", server) as client:
        client.register_system_shared_memory("r", key, 2 * FLOATS.nbytes)
        client.start_stream(lambda result, error: answers.put((result, error)))
        try:
            tensor = tritonclient.grpc.InferInput("X", [1, 8], "FP32")
            tensor.set_shared_memory("r", FLOATS.nbytes)
            wanted = tritonclient.grpc.InferRequestedOutput("Y")
            wanted.set_shared_memory("r", FLOATS.nbytes, FLOATS.nbytes)
            client.async_stream_infer("echo", [tensor], outputs=[wanted])
            result, error = answers.get(timeout=10)
            assert error is None
            assert result.get_response().raw_output_contents == [b""]
            wanted.set_shared_memory("gone", FLOATS.nbytes)
            client.async_stream_infer("echo", [tensor], outputs=[wanted])
            _, error = answers.get(timeout=10)
            assert "Unable to find shared memory region: 'gone'" in str(error)
        finally:
            client.stop_stream()
            client.unregister_system_shared_memory()
    assert path.read_bytes()[FLOATS.nbytes :] == FLOATS.tobytes()


def test_the_status_tells_what_is_registered(client: Any, key: str) -> None:
    region = objects.SharedMemory(key, create=True, size=64)
    try:
        client.register_system_shared_memory("r", f"/{key}", 32, offset=16)
        told = client.get_system_shared_memory_status("r")
        assert str(key) in str(told)
        client.unregister_system_shared_memory("r")
        with pytest.raises(InferenceServerException, match="Unable to find system shared memory"):
            client.get_system_shared_memory_status("r")
    finally:
        region.close()
        region.unlink()
