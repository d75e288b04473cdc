# SPDX-License-Identifier: Apache-2.0
"""What a daemon is told, and where its files are.

Everything lies in one folder of the user's own: the database, the logs, what is laid out for the
servers, and the socket. `nerite.server.environment` says which folder that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nerite.errors import InvalidArgument

# The kernel keeps 108 bytes for a socket's path, one of them for the end.
_LONGEST_SOCKET = 107


@dataclass(frozen=True, slots=True)
class Settings:
    """The daemon's choices."""

    home: Path
    builtin: str = "0.20"
    """The generation of KServe's own runtimes to stand beside those that are applied."""
    trust: bool = False
    claims: Mapping[str, Path] = field(default_factory=dict)
    """Folders that stand for volume claims."""
    shared: bool = False
    """Whether services share processes where they can, unless their annotation says otherwise."""

    @property
    def database(self) -> Path:
        """The file with what was applied."""
        return self.home / "state.db"

    @property
    def logs(self) -> Path:
        """The folder of the components' logs."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """The folder of what lasts only as long as the daemon."""
        return self.home / "run"

    @property
    def volumes(self) -> Path:
        """Where claims are looked for that are mapped to no folder."""
        return self.home / "volumes"

    @property
    def lock(self) -> Path:
        """Held by the daemon for as long as it lives."""
        return self.home / "daemon.lock"


def socket_path(home: Path) -> Path:
    """The daemon's socket; refused where the kernel could not hold the path."""
    path = home / "daemon.sock"
    if len(str(path).encode()) > _LONGEST_SOCKET:
        raise InvalidArgument(
            f"'{path}' is too long for a socket; set NERITE_HOME to a folder with a shorter path"
        )
    return path


def claims_of(words: list[str]) -> dict[str, Path]:
    """`NAME=FOLDER` words as a mapping."""
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise InvalidArgument(f"--pvc '{word}' is not of the form NAME=FOLDER")
        if not Path(folder).is_dir():
            raise InvalidArgument(f"--pvc '{word}': there is no folder '{folder}'")
        found[name] = Path(folder).resolve()
    return found
