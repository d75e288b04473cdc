# SPDX-License-Identifier: Apache-2.0
"""Turn model_config.proto into model_config.binpb, the serialized FileDescriptorSet Nerite loads.

Run `python src/nerite/config/proto/compile.py` after an edit; it needs grpcio-tools, which is a
development tool only. No generated Python is committed: such code refuses to run on protobuf
versions other than its own, a descriptor set runs on all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def compile_schema(target: Path) -> None:
    """Write the descriptor set of the schema beside this file to `target`."""
    from grpc_tools import protoc

    command = [
        "protoc",
        f"--proto_path={FOLDER}",
        f"--descriptor_set_out={target}",
        "model_config.proto",
    ]
    if protoc.main(command) != 0:
        sys.exit("protoc refused model_config.proto; its message stands above")


if __name__ == "__main__":
    compile_schema(FOLDER / "model_config.binpb")
