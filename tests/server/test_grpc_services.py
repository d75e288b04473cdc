# SPDX-License-Identifier: Apache-2.0
"""The services of gRPC beside inference: health as it changes, and reflection."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from scripts import make_descriptors
from tests.http2 import called
from tritonclient.grpc import model_config_pb2, service_pb2

from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: 0
input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
SLOW = """
import nerite_test_loading as loading


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(0)
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]})
        return config

    def initialize(self, args):
        assert loading.done.wait(15)

    def execute(self, requests):
        return []
"""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = {
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What the slow model waits for."""
    module = types.ModuleType("nerite_test_loading")
    module.done = threading.Event()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nerite_test_loading", module)
    yield module.done
    module.done.set()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("services")
    (root / "echo/1").mkdir(parents=True)
    (root / "echo/config.pbtxt").write_text(CONFIG)
    with serve(root) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_url) as made:
        yield made


def watch(channel: grpc.Channel, **options: Any) -> Any:
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), **options)


def test_a_watch_is_told_every_change_and_the_end(tmp_path: Path, loading: threading.Event) -> None:
    (tmp_path / "slow/1").mkdir(parents=True)
    (tmp_path / "slow/1/model.py").write_text(SLOW)
    with serve(tmp_path, wait=None) as server, grpc.insecure_channel(server.grpc_url) as channel:
        told = watch(channel, timeout=15)
        assert next(told).status == NOT_SERVING
        loading.set()
        assert next(told).status == SERVING
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert next(told).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(told)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in ended.value.details()
        stopping.join(10)
        assert not stopping.is_alive()  # a watch does not keep a server from stopping


def test_a_watch_ends_with_its_client_and_with_its_deadline(
    server: Server, channel: grpc.Channel
) -> None:
    told = watch(channel)
    assert next(told).status == SERVING
    told.cancel()
    path = "/grpc.health.v1.Health/Watch"
    host, _, port = server.grpc_url.partition(":")
    for limit in ("50m", "1u"):
        fields, data = called((host, int(port)), path, bytes(5), {"grpc-timeout": limit})
        assert (fields["grpc-status"], fields["grpc-message"]) == ("4", "Deadline Exceeded")
        assert data in (b"", b"\0\0\0\0\2\x08\1")


def test_reflection_describes_every_service(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == SERVICES
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    known = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert [m.name for m in service.methods] == [m.name for m in known.methods]
    for name in SERVICES:
        assert pool.FindServiceByName(name).methods
    # Who knows nothing but the address can call it.
    metadata = service.methods_by_name["ModelMetadata"]
    request = GetMessageClass(metadata.input_type)(name="echo")
    call = channel.unary_unary(
        f"/{service.full_name}/{metadata.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(metadata.output_type).FromString,
    )
    assert [tensor.name for tensor in call(request, timeout=10).inputs] == ["X"]
    assert pool.FindMessageTypeByName("inference.ModelConfig").fields_by_name["max_batch_size"]


def test_reflection_describes_every_message_of_every_service_to_the_last_field(
    channel: grpc.Channel,
) -> None:
    """As `grpcurl describe` walks: from services to messages, and on to those in their fields."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    waiting = [
        kind.full_name
        for name in SERVICES
        for method in pool.FindServiceByName(name).methods
        for kind in (method.input_type, method.output_type)
    ]
    seen: dict[str, list[tuple[str, int, int]]] = {}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        found = pool.FindMessageTypeByName(name)
        seen[name] = [(field.name, field.number, field.type) for field in found.fields]
        waiting += [f.message_type.full_name for f in found.fields if f.message_type is not None]
    assert len(seen) > 80
    for file in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            known = [(field.name, field.number, field.type) for field in message.fields]
            # Ours may be newer; what the client has must be as it has it.
            assert set(known) <= set(seen.get(message.full_name, known)), message.full_name
    assert "inference.ModelInferRequest.InferInputTensor" in seen
    assert "inference.ModelSequenceBatching.StrategyOldest" in seen


def asked(channel: grpc.Channel, version: str, *questions: Any, **options: Any) -> list[Any]:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter(questions), timeout=10, **options))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_answer_question_by_question(channel: grpc.Channel, version: str) -> None:
    questions = [
        reflection_pb2.ServerReflectionRequest(host="h", list_services="*"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="grpc_service.proto"),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="inference.GRPCInferenceService.ModelInfer"
        ),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="inference.ModelInferRequest.InferInputTensor"
        ),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="inference.Nothing"),
        reflection_pb2.ServerReflectionRequest(
            all_extension_numbers_of_type="inference.ModelConfig"
        ),
        reflection_pb2.ServerReflectionRequest(file_by_filename="nothing.proto"),
        reflection_pb2.ServerReflectionRequest(),
    ]
    answers = asked(channel, version, *questions)
    assert [answer.original_request for answer in answers] == questions
    compressed = asked(channel, version, *questions, compression=grpc.Compression.Gzip)
    assert compressed == answers
    assert answers[0].valid_host == "h"
    assert {s.name for s in answers[0].list_services_response.service} == SERVICES
    files = [a.file_descriptor_response.file_descriptor_proto for a in answers[1:4]]
    assert [len(found) for found in files] == [2, 2, 2]  # the service, and what it needs
    assert answers[5].all_extension_numbers_response.base_type_name == "inference.ModelConfig"
    told = [(a.error_response.error_code, a.error_response.error_message) for a in answers]
    assert told[4] == (5, "type 'inference.Nothing' is not known")
    assert told[6] == (5, "file 'nothing.proto' is not known")
    assert told[7][0] == 3


def test_the_descriptors_shipped_are_those_that_the_script_makes() -> None:
    shipped = make_descriptors.FileDescriptorSet.FromString(make_descriptors.TARGET.read_bytes())
    assert shipped == make_descriptors.descriptors()
