# SPDX-License-Identifier: Apache-2.0
"""Host policies: the cores and the memory of an instance's thread (`--host-policy`).

Threads and memory that the instance's libraries take while it loads are bound with it, since Linux
has them inherit both. A group names its policy (`host_policy`), or has the one that is called as
its kind is: `cpu`, `model` or `gpu_{number}`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nerite.config import InstanceGroup
from nerite.errors import InvalidArgument

_log = logging.getLogger(__name__)

_NODES: Final = Path("/sys/devices/system/node")
#: The number of the system call `set_mempolicy`, which the C library has no function for.
_SET_MEMPOLICY: Final = {"x86_64": 238, "aarch64": 237}
_BIND: Final = 2
_WORD_BITS: Final = 8 * ctypes.sizeof(ctypes.c_ulong)


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """Where on the machine the instances of some groups run."""

    name: str
    cores: tuple[int, ...] = ()
    """The cores that they may use; empty is any."""
    numa_node: int | None = None
    """The node that their memory comes from."""


def policy_name(group: InstanceGroup, gpu: int = 0) -> str:
    """The policy of an instance of this group."""
    if group.host_policy:
        return group.host_policy
    return {"KIND_MODEL": "model", "KIND_GPU": f"gpu_{gpu}"}.get(group.kind, "cpu")


def enter(policy: HostPolicy, who: str) -> None:
    """Binds the calling thread, and those that it starts; `who` is its instance.

    Raises:
        InvalidArgument: A core cannot be used by this process.
    """
    if policy.cores:
        _pin(policy, who)
    if policy.numa_node is not None:
        why = _bind(policy.numa_node)
        if why:
            _log.warning(
                "host policy '%s' of instance '%s': memory is not bound to numa-node %d: %s",
                policy.name,
                who,
                policy.numa_node,
                why,
            )


def _pin(policy: HostPolicy, who: str) -> None:
    if not hasattr(os, "sched_setaffinity"):
        _log.warning(
            "host policy '%s' of instance '%s': this system pins no threads to cpu-cores",
            policy.name,
            who,
        )
        return
    usable = os.sched_getaffinity(os.getpid())
    missing = [core for core in policy.cores if core not in usable]
    if missing:
        raise InvalidArgument(
            f"host policy '{policy.name}' of instance '{who}' has cpu-cores "
            f"{_listed(policy.cores)}, of which this process may not use {_listed(missing)}; "
            f"it may use {_listed(sorted(usable))}"
        )
    os.sched_setaffinity(0, policy.cores)


def _bind(node: int) -> str:
    """Has the thread take its memory from a node; why it does not, if so."""
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return "this system offers no way to do so"
    if not (_NODES / f"node{node}").is_dir():
        known = sorted(path.name.removeprefix("node") for path in _NODES.glob("node[0-9]*"))
        return f"there is no such node; there is {', '.join(known) or 'none'}"
    words = node // _WORD_BITS + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // _WORD_BITS] = 1 << node % _WORD_BITS
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_long(_BIND), ctypes.byref(mask), ctypes.c_ulong(words * _WORD_BITS + 1))
    if libc.syscall(ctypes.c_long(number), *arguments) == 0:
        return ""
    return os.strerror(ctypes.get_errno())


def _listed(cores: tuple[int, ...] | list[int]) -> str:
    return ", ".join(str(core) for core in cores)
