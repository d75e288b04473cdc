# SPDX-License-Identifier: Apache-2.0
"""Words of the flags that say what instances run beside each other, and where on the machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nerite.errors import InvalidArgument
from nerite.models.host_policy import HostPolicy

#: More than any machine has, and few enough to count them.
_MOST_CORES = 65536


def resources(words: Sequence[str]) -> dict[str, int]:
    """`NAME:COUNT` or `NAME:COUNT:DEVICE` -> how much there is of each resource.

    All instances run on the CPU, which is device 0; what other devices have is needed by nobody.

    Raises:
        InvalidArgument: A word is neither.
    """
    counts: dict[str, int] = {}
    for word in words:
        found = re.fullmatch(r"(?P<name>[^:]*):(?P<count>\d{1,9})(:(?P<device>\d{1,9}))?", word)
        if found is None:
            raise InvalidArgument(
                f"--rate-limit-resource: '{word}' is not NAME:COUNT or NAME:COUNT:DEVICE"
            )
        if int(found["device"] or 0) == 0:
            counts[found["name"]] = int(found["count"])
    return counts


def host_policies(words: Sequence[str]) -> dict[str, HostPolicy]:
    """`POLICY,SETTING=VALUE` -> the policies; a policy may be given one setting at a time.

    Raises:
        InvalidArgument: A word is none, or its setting or value is not known.
    """
    policies: dict[str, HostPolicy] = {}
    for word in words:
        name, comma, rest = word.partition(",")
        setting, equals, value = rest.partition("=")
        if not (name and comma and equals):
            raise InvalidArgument(f"--host-policy: '{word}' is not POLICY,SETTING=VALUE")
        policy = policies.get(name, HostPolicy(name))
        if setting == "numa-node" and re.fullmatch(r"\d{1,4}", value):
            policies[name] = replace(policy, numa_node=int(value))
        elif setting == "cpu-cores":
            policies[name] = replace(policy, cores=_cores(value, word))
        elif setting == "numa-node":
            raise InvalidArgument(
                f"--host-policy: '{value}' of '{word}' is not the number of a node"
            )
        else:
            raise InvalidArgument(
                f"--host-policy: '{setting}' of '{word}' is no setting; "
                "'numa-node' and 'cpu-cores' are"
            )
    return policies


def _cores(value: str, word: str) -> tuple[int, ...]:
    cores: set[int] = set()
    for part in value.split(","):
        found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if low > high or high >= _MOST_CORES:
            raise InvalidArgument(
                f"--host-policy: '{value}' of '{word}' are no cores; numbers and ranges as 0-3 are"
            )
        cores.update(range(low, high + 1))
    return tuple(sorted(cores))
