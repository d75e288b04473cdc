"""Headers as request parameters, and the flags that decide who may ask for what."""

from __future__ import annotations

import dataclasses
import json
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tests.model_folders import write_model
from tests.server.test_tls import Pems
from tritonclient.utils import InferenceServerException

from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import InvalidArgument
from nerite.server.access_options import AccessOptions, Restriction
from nerite.server.server import Server
from nerite.testing import LOOPBACK, serve

ECHO = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [1]})
        config.add_output({"name": "Y", "data_type": "TYPE_STRING", "dims": [1]})
        return config

    def execute(self, requests):
        told = [np.array([r.parameters().encode()], dtype=object) for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", each)]) for each in told]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("echo")
    (root / "echo/1").mkdir(parents=True)
    (root / "echo/1/model.py").write_text(ECHO)
    gate = Restriction(("trace",), "X-Gate", "open")
    access = AccessOptions(
        http_header_forward=".*",
        grpc_header_forward="^(my-|auth|triton|x-)",
        http_restricted=(gate,),
    )
    with serve(root, access=access) as running:
        yield running


def parameters(server: Server, kind: Any, headers: dict[str, str], **more: Any) -> dict[str, Any]:
    """The parameters that the model sees of a request with these headers."""
    tensor = kind.InferInput("X", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    url = server.grpc_url if kind is grpcclient else server.http_url.removeprefix("http://")
    with kind.InferenceServerClient(url) as client:
        answer = client.infer("echo", [tensor], headers=headers, **more)
    seen: dict[str, Any] = json.loads(answer.as_numpy("Y")[0])
    return seen


def test_http_headers_keep_their_spelling_and_secrets_stay_behind(server: Server) -> None:
    secret = {"Authorization": "Bearer x", "Cookie": "c", "x-gate": "open"}
    seen = parameters(server, httpclient, {"My-Key": "v1", "UPPER": "v2", **secret})
    assert seen["My-Key"] == "v1"
    assert seen["UPPER"] == "v2"
    assert not {"authorization", "cookie", "x-gate"} & {name.lower() for name in seen}


def test_headers_keep_their_spelling_inside_tls_too(tmp_path: Path) -> None:
    write_model(tmp_path / "models/echo", {"1/model.py": ECHO})
    pems = Pems(tmp_path)
    access = AccessOptions(http_header_forward="^(my-|upper)")
    with serve(tmp_path / "models", access=access, **pems.options("http")) as running:
        trusted = ssl.create_default_context(cafile=pems.roots)
        port = running.ports["http"][1]
        connection = HTTPSConnection("localhost", port, context=trusted, timeout=20)
        tensor = {"name": "X", "datatype": "FP32", "shape": [1], "data": [1]}
        body = json.dumps({"inputs": [tensor]})
        # More than one record, and a kept connection.
        for padding, names in ((0, ("My-Key", "UPPER")), (40_000, ("mY-kEY", "Upper"))):
            headers = {name: f"v{index}" for index, name in enumerate(names)}
            connection.request("POST", "/v2/models/echo/infer", body + " " * padding, headers)
            (output,) = json.loads(connection.getresponse().read())["outputs"]
            assert json.loads(output["data"][0]) == headers
        connection.close()


def test_metadata_is_forwarded_in_lower_case_and_secrets_stay_behind(server: Server) -> None:
    secret = {"authorization": "Bearer x", "triton-grpc-protocol-k": "v", "x-gate": "open"}
    seen = parameters(server, grpcclient, {"my-key": "v1", "other": "v2", **secret})
    assert seen == {"my-key": "v1"}
    more = {"parameters": {"my-key": "of the body", "mine": 7}}
    assert parameters(server, grpcclient, {"my-key": "v1"}, **more) == {"my-key": "v1", "mine": 7}


def test_a_header_cannot_pose_as_what_the_server_understands(server: Server) -> None:
    for name in ("sequence_id", "priority", "timeout", "triton_final_response"):
        with pytest.raises(InferenceServerException) as caught:
            parameters(server, httpclient, {name: "1"})
        assert caught.value.status() == "400"
        assert caught.value.message() == (
            f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
        )


def options_of(*words: str) -> AccessOptions:
    given: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        given.setdefault(name, []).append(value)
    flags = {name: each if "restricted" in name else each[0] for name, each in given.items()}
    return server_options(["models"], choose(flags)).access


def test_restrictions_are_written_as_triton_takes_them() -> None:
    chosen = options_of(
        "--http-restricted-api=model-repository,logging:k1=v=1:x",
        "--http-restricted-api=health:k2=v2",
        "--grpc-restricted-protocol=inference:k3=v3",
    )
    assert chosen.http_restricted == (
        Restriction(("model-repository", "logging"), "k1", "v=1:x"),
        Restriction(("health",), "k2", "v2"),
    )
    assert chosen.grpc_restricted == (Restriction(("inference",), "triton-grpc-protocol-k3", "v3"),)
    assert "v=1:x" not in repr(chosen)
    assert "v3" not in repr(chosen)


@pytest.mark.parametrize(
    ("words", "expect"),
    [
        (["--http-restricted-api=nope:k=v"], "unknown restricted api 'nope'"),
        (["--grpc-restricted-protocol=nope:k=v"], "unknown restricted protocol 'nope'"),
        (
            ["--http-restricted-api=trace:k=v", "--http-restricted-api=health,trace:q=v"],
            "restricted api 'trace' can not be specified in multiple config groups",
        ),
        (
            ["--grpc-restricted-protocol=trace,trace:k=v"],
            "restricted protocol 'trace' can not be specified in multiple config groups",
        ),
        (["--http-restricted-api=trace,k=secret"], "number 1 is not CATEGORY[,CATEGORY]:KEY=VALUE"),
        (["--http-restricted-api=trace:k"], "number 1 is not CATEGORY[,CATEGORY]:KEY=VALUE"),
        (["--http-restricted-api=trace:k=secret", "--http-restricted-api=:k=v"], "number 2 is not"),
        (["--http-restricted-api=trace:a b=v"], "'a b' cannot be the name of a header"),
    ],
)
def test_a_wrong_restriction_is_told_without_its_secret(words: list[str], expect: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        options_of(*words)
    assert expect in caught.value.message
    assert "secret" not in caught.value.message


def test_a_pattern_that_is_none_ends_the_start(tmp_path: Path) -> None:
    access = AccessOptions(grpc_header_forward="my-(")
    options = server_options([str(tmp_path)], choose({}))
    ports = {name: getattr(LOOPBACK, name) for name in ("http_port", "grpc_port", "metrics_port")}
    server = Server(dataclasses.replace(options, access=access, **ports))
    with pytest.raises(InvalidArgument, match=r"--grpc-header-forward-pattern: 'my-\(' is"):
        server.start()
