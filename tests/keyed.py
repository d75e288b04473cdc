"""A server with API keys, and the ways in which tests ask it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.utils import InferenceServerException

from nerite.server.access_options import AccessOptions
from nerite.server.key_file import append_key, new_key
from nerite.server.server import Server
from nerite.testing import serve

IDENTITY = """backend: "identity"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
INFER = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]}


@dataclass(frozen=True)
class Keyed:
    """A server with keys, by what they are for."""

    server: Server
    keys: Mapping[str, str]


def make_key(file: Path, name: str, scopes: str, models: str = "*") -> str:
    key, line = new_key(name, scopes.split(","), models.split(","))
    append_key(file, line)
    return key


def write_models(root: Path) -> Path:
    """Three models, two of them with one beginning."""
    for name in ("own-a", "own-b", "other"):
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(IDENTITY)
    return root


@contextmanager
def keyed_server(folder: Path) -> Iterator[Keyed]:
    """A server of those models, with a key for each scope and one for `own-*` only."""
    file = folder / "keys.txt"
    wanted = {
        "infer": ("infer", "*"),
        "manage": ("manage", "*"),
        "metrics": ("metrics", "*"),
        "own": ("infer,manage", "own-*"),
    }
    keys = {name: make_key(file, name, *each) for name, each in wanted.items()}
    with serve(write_models(folder / "models"), access=AccessOptions(api_keys=file)) as server:
        yield Keyed(server, keys)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def asked(
    url: str, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
) -> tuple[int, str]:
    """Status and body of one HTTP exchange."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def called(server: Server, path: str, message: bytes = b"", **metadata: str) -> tuple[str, str]:
    """Status name and details of one gRPC call, whatever the path is."""
    pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    with grpc.insecure_channel(server.grpc_url) as channel:
        try:
            channel.unary_unary(path)(message, metadata=pairs, timeout=10)
        except grpc.RpcError as why:
            return why.code().name, why.details() or ""
    return "OK", ""


def inputs(kind: Any) -> list[Any]:
    tensor = kind.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    return [tensor]


def refusal(call: Callable[[], Any]) -> str:
    """The status with which a client of Triton's was refused; empty if it was not."""
    try:
        call()
    except InferenceServerException as why:
        return str(why.status())
    return ""
