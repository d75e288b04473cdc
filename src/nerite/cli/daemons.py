# SPDX-License-Identifier: Apache-2.0
"""The daemon of this user, as the verbs find it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nerite.local.client import DaemonClient


def daemon_client() -> DaemonClient:
    """A client for the daemon in this user's folder, which may not run."""
    from nerite.local.client import DaemonClient
    from nerite.local.settings import socket_path
    from nerite.server.environment import home_folder

    return DaemonClient(socket_path(home_folder()))


def namespace_of(kind: str, namespace: str) -> str:
    """The namespace to look in: none for kinds that have none."""
    from nerite.kserve.resources import KINDS

    return namespace if kind not in KINDS or KINDS[kind].namespaced else ""
