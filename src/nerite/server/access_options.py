# SPDX-License-Identifier: Apache-2.0
"""Who may ask a server for what, as it is chosen at the start (`spec` 1.10, 2.5).

The data plane enforces it; keys are read by `key_file`. Values that open something are kept out of
every `repr`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerite.errors import InvalidArgument

#: What a restriction can name, Triton's words.
CATEGORIES = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)

#: What stands before the key of a restricted protocol in a call's metadata.
GRPC_PREFIX = "triton-grpc-protocol-"

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Restriction:
    """Endpoints that answer only to requests with a header."""

    categories: tuple[str, ...]
    header: str
    value: str = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As the engine takes it."""
        return {
            "categories": list(self.categories),
            "header": self.header,
            "value": self.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessOptions:
    """Keys, restrictions, management, and which headers models see."""

    api_keys: str | Path = ""
    """A file of API keys; with one, everything but health needs a key that it has."""
    remote_management: bool = False
    """Answer management to other machines too, without a key."""
    http_restricted: tuple[Restriction, ...] = ()
    grpc_restricted: tuple[Restriction, ...] = ()
    """Headers with `triton-grpc-protocol-` before the key."""
    http_header_forward: str = ""
    """A regular expression: headers whose names fit are request parameters; empty is none."""
    grpc_header_forward: str = ""

    def __post_init__(self) -> None:
        _check("api", self.http_restricted)
        _check("protocol", self.grpc_restricted)

    def engine_options(self) -> dict[str, Any]:
        """The part that the engine is made with; keys come later, for they change."""
        return {
            "http_restricted": [each.to_dict() for each in self.http_restricted],
            "grpc_restricted": [each.to_dict() for each in self.grpc_restricted],
            "remote_management": self.remote_management,
            "http_header_forward": self.http_header_forward,
            "grpc_header_forward": self.grpc_header_forward,
        }


def _check(kind: str, groups: Sequence[Restriction]) -> None:
    taken: set[str] = set()
    for group in groups:
        if not _HEADER.fullmatch(group.header):
            raise InvalidArgument(
                f"restricted {kind}: '{group.header}' cannot be the name of a header"
            )
        for category in group.categories:
            if category not in CATEGORIES:
                raise InvalidArgument(
                    f"unknown restricted {kind} '{category}'; one of {', '.join(CATEGORIES)} "
                    "is expected"
                )
            if category in taken:
                raise InvalidArgument(
                    f"restricted {kind} '{category}' can not be specified in multiple config groups"
                )
            taken.add(category)
