# SPDX-License-Identifier: Apache-2.0
"""Makes the descriptors that gRPC server reflection hands out, from the packages that define them.

Triton's own are those of its client; the model configuration is ours, which knows newer fields.
"""

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

CHECKOUT = Path(__file__).parents[1]
TARGET = CHECKOUT / "rust/logic/src/wire/grpc/descriptors.binpb"
CONFIG = CHECKOUT / "src/nerite/config/proto/model_config.binpb"


def described(module: object) -> FileDescriptorProto:
    """The file of a generated module."""
    return FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def descriptors() -> FileDescriptorSet:
    """All files, the services of this server first."""
    config = FileDescriptorSet.FromString(CONFIG.read_bytes()).file[0]
    service = described(service_pb2)
    alpha = described(reflection_pb2)
    # The two versions differ in their names alone.
    stable = FileDescriptorProto.FromString(alpha.SerializeToString())
    stable.name = "grpc/reflection/v1/reflection.proto"
    stable.package = "grpc.reflection.v1"
    stable.ClearField("options")
    renamed = [stable.message_type, *(message.nested_type for message in stable.message_type)]
    for message in (message for group in renamed for message in group):
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for method in stable.service[0].method:
        method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
        method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    return FileDescriptorSet(file=[service, config, described(health_pb2), stable, alpha])


if __name__ == "__main__":
    TARGET.write_bytes(descriptors().SerializeToString(deterministic=True))
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
