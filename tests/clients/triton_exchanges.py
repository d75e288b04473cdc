# SPDX-License-Identifier: Apache-2.0
"""What a test says to a server with each method of Triton's clients.

An exchange is a function of a client (`triton_clients`) and the server that it is connected to.
"""

from __future__ import annotations

import json
import queue
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import tritonclient.grpc.auth
import tritonclient.http.auth
from tests.clients.triton_clients import VALUES, Client, heard
from tritonclient._plugin import InferenceServerClientPlugin
from tritonclient.utils import InferenceServerException, shared_memory

from nerite.server.server import Server

BYTES = VALUES.nbytes
#: All that a request can say beside its tensors.
SAID = {
    "request_id": "seven",
    "sequence_id": 7,
    "sequence_start": True,
    "sequence_end": True,
    "priority": 3,
    "timeout": 5_000_000,
    "parameters": {"colour": "red", "count": 3, "bright": True},
}
TOLD = {
    "id": "seven",
    "sequence": 7,
    "flags": 3,
    "timeout": 5_000_000,
    "parameters": {"colour": "red", "count": 3, "bright": True},
}


def infer(client: Client, _: Server) -> None:
    assert client.told(model_version="1", **SAID) == TOLD
    outputs = [client.module.InferRequestedOutput("TOLD")]
    answer = client.infer("told", client.inputs(), outputs=outputs)
    assert answer.as_numpy("Y") is None
    assert client.told(headers={"x-told": "here"})["parameters"] == {"x-told": "here"}
    if client.is_grpc:
        assert client.told(client_timeout=20, compression_algorithm="gzip", **SAID) == TOLD
        assert client.told(compression_algorithm="deflate", **SAID) == TOLD
    else:
        assert client.told(query_params={"a": 1}, **SAID) == TOLD
        for kind in ("gzip", "deflate"):
            both = {f"{way}_compression_algorithm": kind for way in ("request", "response")}
            assert client.told(**both, **SAID) == TOLD
    with pytest.raises(InferenceServerException, match="unknown model: 'nobody' is not found"):
        client.infer("nobody", client.inputs())


def async_infer(client: Client, _: Server) -> None:
    if client.is_grpc:
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.async_infer(
            "told",
            client.inputs(),
            callback=lambda result, error: came.put((result, error)),
            client_timeout=20,
            compression_algorithm="gzip",
            **SAID,
        )
        result, error = came.get(timeout=10)
        assert error is None
        assert heard(result) == TOLD
    else:
        asked = client.async_infer("told", client.inputs(), **SAID)
        assert heard(asked.get_result()) == TOLD


def stream(client: Client, compression: str | None = None) -> None:
    """Two requests with all that they can say, on a stream with headers."""
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.start_stream(
        lambda result, error: came.put((result, error)),
        stream_timeout=20,
        headers={"x-told": "here"},
        compression_algorithm=compression,
    )
    for last in (False, True):
        client.async_stream_infer("told", client.inputs(), enable_empty_final_response=last, **SAID)
    for _ in range(2):
        result, error = came.get(timeout=10)
        assert error is None
        check_streamed(result)
    client.stop_stream()
    client.start_stream(lambda result, error: None)
    client.stop_stream(cancel_requests=True)


def aio_stream(client: Client, compression: str | None = None) -> None:
    async def asked() -> AsyncIterator[dict[str, Any]]:
        for last in (False, True):
            said = {**SAID, "enable_empty_final_response": last}
            yield {"model_name": "told", "inputs": client.inputs(), **said}

    async def read() -> list[Any]:
        answers = client.plain.stream_infer(
            asked(),
            stream_timeout=20,
            headers={"x-told": "here"},
            compression_algorithm=compression,
        )
        return [each async for each in answers]

    client.called.add("stream_infer")
    answers = client.runner.run(read())
    assert len(answers) == 2
    for result, error in answers:
        assert error is None
        check_streamed(result)


def check_streamed(result: Any) -> None:
    told = heard(result)
    assert told.pop("parameters") == {**TOLD["parameters"], "x-told": "here"}
    assert told.items() <= TOLD.items()
    assert result.get_response().parameters["triton_final_response"].bool_param


STREAMS = {"grpc": stream, "grpc.aio": aio_stream}


def request_body(client: Client, server: Server) -> None:
    outputs = [client.module.InferRequestedOutput(name) for name in ("Y", "TOLD")]
    body, length = client.generate_request_body(client.inputs(), outputs=outputs, **SAID)
    sent = urllib.request.Request(f"{server.http_url}/v2/models/told/infer", body)
    sent.add_header("Inference-Header-Content-Length", str(length))
    with urllib.request.urlopen(sent, timeout=10) as answer:
        header = int(answer.headers["Inference-Header-Content-Length"])
        result = client.parse_response_body(answer.read(), header_length=header)
    assert isinstance(result, client.module.InferResult)
    assert heard(result) == TOLD


class Telling(InferenceServerClientPlugin):
    """Adds a header to every call."""

    def __call__(self, request: Any) -> None:
        request.headers["x-told"] = "by plugin"


def plugins(client: Client, _: Server) -> None:
    assert client.plugin() is None
    telling = Telling()
    client.register_plugin(telling)
    assert client.plugin() is telling
    assert client.told()["parameters"] == {"x-told": "by plugin"}
    client.unregister_plugin()
    assert client.told()["parameters"] == {}


def live(client: Client, _: Server) -> None:
    assert client.is_server_live(headers={"x-told": "here"})


def ready(client: Client, _: Server) -> None:
    assert client.is_server_ready()


def model_ready(client: Client, _: Server) -> None:
    assert client.is_model_ready("told")
    assert client.is_model_ready("told", "1")
    assert not client.is_model_ready("told", "2")
    assert not client.is_model_ready("nobody")


def server_metadata(client: Client, server: Server) -> None:
    told = client.get_server_metadata()
    assert told["name"] == server.options.server_id
    assert "binary_tensor_data" in told["extensions"]


def model_metadata(client: Client, _: Server) -> None:
    told = client.get_model_metadata("told", "1")
    assert (told["name"], told["platform"], told["versions"]) == ("told", "python", ["1"])
    assert [tensor["name"] for tensor in told["outputs"]] == ["Y", "TOLD"]


def model_config(client: Client, _: Server) -> None:
    told = client.get_model_config("told", "1")
    assert (told.get("config") or told)["max_batch_size"] == 8


def repository(client: Client, _: Server) -> None:
    """Index, unload, and load with a configuration and files."""
    config = client.get_model_config("spare")
    config = config.get("config") or config
    client.unload_model("spare", unload_dependents=True)
    assert not client.is_model_ready("spare")
    assert state(client, "spare") in ("UNLOADING", "UNAVAILABLE")
    with pytest.raises(InferenceServerException, match="nowhere"):
        client.load_model("nowhere")
    client.load_model("spare", config=json.dumps({**config, "max_batch_size": 2}))
    assert state(client, "spare") == "READY"
    client.load_model("spare")
    sent = {**config, "name": "sent", "backend": "identity", "output": config["output"][:1]}
    client.load_model("sent", config=json.dumps(sent), files={"file:1/a": b"a"})
    answer = client.infer("sent", client.inputs())
    assert (answer.as_numpy("Y") == VALUES).all()
    client.unload_model("sent")


def state(client: Client, model: str) -> str:
    index = client.get_model_repository_index()
    entries = index["models"] if client.is_grpc else index
    return next(str(entry.get("state")) for entry in entries if entry["name"] == model)


def statistics(client: Client, _: Server) -> None:
    """Behind a restriction, whose header Triton's own plugin sends."""
    with pytest.raises(InferenceServerException, match="is restricted, expecting header"):
        client.get_inference_statistics("told")
    auth = tritonclient.grpc.auth if client.is_grpc else tritonclient.http.auth
    client.register_plugin(auth.BasicAuth("me", "secret"))

    def successes() -> int:
        told = client.get_inference_statistics("told", "1")["model_stats"][0]
        return int(told["inference_stats"].get("success", {}).get("count", 0))

    before = successes()
    client.infer("told", client.inputs())
    assert successes() == before + 1
    names = {each["name"] for each in client.get_inference_statistics()["model_stats"]}
    assert {"told", "spare"} <= names


def value(client: Client, settings: Any, key: str) -> Any:
    """A setting: gRPC wraps each."""
    if not client.is_grpc:
        return settings[key]
    found = settings["settings"][key]
    return found.get("value") or next(iter(found.values()))


def trace(client: Client, _: Server) -> None:
    assert value(client, client.get_trace_settings(), "trace_rate") in ("1000", ["1000"])
    changed = {"trace_rate": "7", "trace_level": ["TIMESTAMPS"]}
    told = client.update_trace_settings(model_name="told", settings=changed)
    assert value(client, told, "trace_rate") in ("7", ["7"])
    assert value(client, client.get_trace_settings(), "trace_rate") in ("1000", ["1000"])
    cleared = {"trace_rate": None, "trace_level": None}
    told = client.update_trace_settings(model_name="told", settings=cleared)
    assert value(client, told, "trace_rate") in ("1000", ["1000"])
    with pytest.raises(InferenceServerException, match="often"):
        client.update_trace_settings(settings={"trace_rate": "often"})


def logging(client: Client, _: Server) -> None:
    key = "log_verbose_level"
    told = client.update_log_settings({key: 2, "log_info": True, "log_format": "ISO8601"})
    for settings in (told, client.get_log_settings()):
        found = settings["settings"][key]["uint32_param"] if client.is_grpc else settings[key]
        assert found == 2
    client.update_log_settings({key: 0, "log_format": "default"})
    with pytest.raises(InferenceServerException, match="log_format"):
        client.update_log_settings({"log_format": "red"})


def system_memory(client: Client, _: Server) -> None:
    """One tensor in and one out through memory that both have, with Triton's own utilities."""
    key = f"/nerite-{uuid4().hex}"
    region = shared_memory.create_shared_memory_region("region", key, 2 * BYTES)
    try:
        assert shared_memory.mapped_shared_memory_regions()
        shared_memory.set_shared_memory_region(region, [VALUES])
        client.register_system_shared_memory("region", key, 2 * BYTES)
        status = client.get_system_shared_memory_status("region")
        regions = list(status["regions"].values()) if client.is_grpc else status
        assert [each["key"] for each in regions] == [key]
        tensor = client.module.InferInput("X", list(VALUES.shape), "FP32")
        tensor.set_shared_memory("region", BYTES)
        output = client.module.InferRequestedOutput("Y")
        output.set_shared_memory("region", BYTES, offset=BYTES)
        client.infer("told", [tensor], outputs=[output])
        back = shared_memory.get_contents_as_numpy(region, np.float32, VALUES.shape, offset=BYTES)
        assert (back == VALUES).all()
        client.unregister_system_shared_memory("region")
        client.unregister_system_shared_memory()
        status = client.get_system_shared_memory_status()
        assert not (status.get("regions") if client.is_grpc else status)
    finally:
        shared_memory.destroy_shared_memory_region(region)


def cuda_memory(client: Client, _: Server) -> None:
    """There is none, which registering one says; asking and letting go are no errors."""
    with pytest.raises(InferenceServerException, match="failed to register shared memory region"):
        client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 64)
    status = client.get_cuda_shared_memory_status()
    assert not (status.get("regions") if client.is_grpc else status)
    client.unregister_cuda_shared_memory()


def close(client: Client, _: Server) -> None:
    assert client.is_server_live()
    client.close()


EXCHANGES: dict[str, Callable[[Client, Server], None]] = {
    "infer": infer,
    "async_infer": async_infer,
    "start_stream": lambda client, _: stream(client),
    "async_stream_infer": lambda client, _: stream(client),
    "stop_stream": lambda client, _: stream(client),
    "stream_infer": lambda client, _: aio_stream(client),
    "generate_request_body": request_body,
    "parse_response_body": request_body,
    "plugin": plugins,
    "register_plugin": plugins,
    "unregister_plugin": plugins,
    "is_server_live": live,
    "is_server_ready": ready,
    "is_model_ready": model_ready,
    "get_server_metadata": server_metadata,
    "get_model_metadata": model_metadata,
    "get_model_config": model_config,
    "get_model_repository_index": repository,
    "load_model": repository,
    "unload_model": repository,
    "get_inference_statistics": statistics,
    "get_trace_settings": trace,
    "update_trace_settings": trace,
    "get_log_settings": logging,
    "update_log_settings": logging,
    "get_system_shared_memory_status": system_memory,
    "register_system_shared_memory": system_memory,
    "unregister_system_shared_memory": system_memory,
    "get_cuda_shared_memory_status": cuda_memory,
    "register_cuda_shared_memory": cuda_memory,
    "unregister_cuda_shared_memory": cuda_memory,
    "close": close,
}
