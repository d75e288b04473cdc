# SPDX-License-Identifier: Apache-2.0
"""gRPC as the vectors write it: messages as bytes, statuses by name, streams by script."""

from __future__ import annotations

import base64
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

TIMEOUT = 15.0
SERVICE = "inference.GRPCInferenceService"


def call(url: str, step: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a recorded call: status, details and messages as dictionaries or bytes."""
    rpc = step["rpc"]
    path = f"/{rpc}" if "/" in rpc else f"/{SERVICE}/{rpc}"
    metadata = [(name.lower(), value) for name, value in dict(step.get("metadata", {})).items()]
    with grpc.insecure_channel(url, options=[("grpc.max_receive_message_length", -1)]) as channel:
        if "script" in step:
            return _stream(channel, path, metadata, step["script"])
        return _unary(channel, path, metadata, base64.b64decode(step["request_b64"]))


def _unary(
    channel: grpc.Channel, path: str, metadata: list[tuple[str, str]], message: bytes
) -> dict[str, Any]:
    try:
        if path.endswith("/Watch"):  # it was refused when it was recorded; here it goes on
            replies = channel.unary_stream(path)(message, metadata=metadata, timeout=TIMEOUT)
            reply = next(replies)
            replies.cancel()
        else:
            reply = channel.unary_unary(path)(message, metadata=metadata, timeout=TIMEOUT)
    except grpc.RpcError as why:
        return {"code": why.code().name, "details": why.details()}
    return {"code": "OK", "response": readable(path.rpartition("/")[2], reply)}


def _stream(
    channel: grpc.Channel, path: str, metadata: list[tuple[str, str]], script: Any
) -> dict[str, Any]:
    came = threading.Semaphore(0)
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    replies = channel.stream_stream(path)(
        iter(outgoing.get, None), metadata=metadata, timeout=TIMEOUT
    )
    responses: list[Any] = []
    ended: dict[str, Any] = {}

    def read() -> None:
        try:
            for reply in replies:
                responses.append(readable("ModelStreamInfer", reply))
                came.release()
            ended.update(code="OK", details="")
        except grpc.RpcError as why:
            ended.update(code=why.code().name, details=why.details())

    reader = threading.Thread(target=read)
    reader.start()
    for word in script:
        if "send_b64" in word:
            outgoing.put(base64.b64decode(word["send_b64"]))
        for _ in range(word.get("wait", 0) - _seen(came, responses)):
            came.acquire(timeout=TIMEOUT)
        if "sleep_ms" in word:
            reader.join(word["sleep_ms"] / 1000)
    outgoing.put(None)
    reader.join(TIMEOUT)
    return {**ended, "responses": responses}


def _seen(came: threading.Semaphore, responses: list[Any]) -> int:
    while came.acquire(blocking=False):
        pass
    return len(responses)


def readable(rpc: str, message: bytes) -> Any:
    """A reply as a dictionary, if its RPC is one of the service; otherwise its bytes."""
    kind = _reply_type(rpc)
    if kind is None:
        return base64.b64encode(message).decode()
    parsed = kind.FromString(message)
    return json_format.MessageToDict(parsed, preserving_proto_field_name=True)


def _reply_type(rpc: str) -> type[Message] | None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    method = service.methods_by_name.get(rpc)
    return None if method is None else getattr(service_pb2, method.output_type.name)


def expected_messages(step: Mapping[str, Any]) -> dict[str, Any]:
    """What was recorded for a step, in the form in which `call` answers."""
    expect = dict(step["expect"])
    rpc = step["rpc"].rpartition("/")[2]
    one, many = expect.pop("response_b64", None), expect.pop("responses_b64", None)
    if one is not None:
        expect["response"] = readable(rpc, base64.b64decode(one))
    if many is not None:
        expect["responses"] = [readable(rpc, base64.b64decode(each)) for each in many]
    return expect


def each_message(answer: Mapping[str, Any]) -> Iterator[Any]:
    """The messages of an answer."""
    if "response" in answer:
        yield answer["response"]
    yield from answer.get("responses", ())
