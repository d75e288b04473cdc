"""The schema's files agree with each other, and its classes live beside a Triton client's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2

from nerite.config import ModelConfig, schema

PROTO = Path(schema.__file__).parent / "proto"


def descriptors(path: Path) -> descriptor_pb2.FileDescriptorSet:
    return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


def test_the_descriptor_set_is_that_of_the_proto_file(tmp_path: Path) -> None:
    """If this fails: run `python src/nerite/config/proto/compile.py`."""
    target = tmp_path / "model_config.binpb"
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}",
        f"--descriptor_set_out={target}", "model_config.proto",
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=20)
    assert descriptors(target) == descriptors(PROTO / "model_config.binpb")


def test_a_triton_client_reads_our_bytes_and_we_read_its() -> None:
    """Both define `inference.ModelConfig`; neither may get in the other's way."""
    from tritonclient.grpc import model_config_pb2

    config = ModelConfig.from_dict(
        {"name": "m", "maxBatchSize": 4, "parameters": {"a": {"stringValue": "b"}}}
    )
    theirs = model_config_pb2.ModelConfig.FromString(config.to_proto())
    assert (theirs.name, theirs.max_batch_size) == ("m", 4)
    assert ModelConfig.from_proto(theirs.SerializeToString()) == config


def test_every_field_has_the_number_a_triton_client_uses() -> None:
    from tritonclient.grpc import model_config_pb2

    ours = descriptors(PROTO / "model_config.binpb").file[0]
    theirs = descriptor_pb2.FileDescriptorProto()
    model_config_pb2.DESCRIPTOR.CopyToProto(theirs)

    def numbers(message: descriptor_pb2.DescriptorProto, path: str) -> dict[str, tuple[int, int]]:
        found = {f"{path}.{f.name}": (f.number, f.type) for f in message.field}
        for nested in message.nested_type:
            found |= numbers(nested, f"{path}.{nested.name}")
        return found

    for their in theirs.message_type:
        our = next(message for message in ours.message_type if message.name == their.name)
        assert numbers(our, our.name).items() >= numbers(their, their.name).items()
