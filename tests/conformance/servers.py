# SPDX-License-Identifier: Apache-2.0
"""Servers of the recorded profiles: the recorded model folders, the recorded flags, free ports."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.vectors import Profile
from tests.model_folders import write_model

from nerite.cli.flags import BY_NAME
from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.server.server import Server
from nerite.testing import LOOPBACK

PORTS = {
    field: getattr(LOOPBACK, field)
    for field in ("http_address", "http_port", "grpc_address", "grpc_port", "metrics_port")
}


@dataclass(frozen=True)
class Running:
    """A server and the folder that `{dir}` stands for; its repository is `{dir}/repo`."""

    server: Server
    folder: Path

    @property
    def repository(self) -> Path:
        """Where the model folders are."""
        return self.folder / "repo"

    def stop(self) -> None:
        """Ends the server and removes its folder."""
        self.server.stop(5)
        shutil.rmtree(self.folder)


def start(profile: Profile) -> Running:
    """A server of a profile, once every load has ended."""
    folder = Path(tempfile.mkdtemp(prefix="nerite-conformance-")).resolve()
    repository = folder / "repo"
    repository.mkdir()
    for model, files in profile.models.items():
        write_model(repository / model, files)
    words: dict[str, Any] = {"--id": "triton"}
    for flag in profile.flags:
        name, _, value = flag.replace("{dir}", str(folder)).partition("=")
        if BY_NAME[name].kind == "list":
            words.setdefault(name, []).append(value)
        else:
            words[name] = value
    options = server_options([str(repository)], choose(words))
    # Triton would leave where a model fails; the recorded servers were started so that it does not.
    # Shared memory was open to all clients then; newer Tritons want a flag for it, as Nerite does.
    options = dataclasses.replace(
        options, exit_on_error=False, io_threads=1, allow_client_shm=True, **PORTS
    )
    server = Server(options)
    server.start()
    server.wait_loaded(60)
    return Running(server, folder)
