# SPDX-License-Identifier: Apache-2.0
"""Read the flags about who may ask for what into `AccessOptions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nerite.errors import InvalidArgument

if TYPE_CHECKING:
    from nerite.server.access_options import AccessOptions, Restriction

#: Options whose values are those of fields of `AccessOptions`.
PLAIN = ("api_keys", "remote_management", "http_header_forward", "grpc_header_forward")


def access_options(values: dict[str, Any]) -> AccessOptions:
    """What the flags ask for; takes their values out of `values`.

    Raises:
        InvalidArgument: A restriction is not understood, or a category is in two of them.
    """
    from nerite.server.access_options import GRPC_PREFIX, AccessOptions

    return AccessOptions(
        http_restricted=_restrictions("--http-restricted-api", "", values),
        grpc_restricted=_restrictions("--grpc-restricted-protocol", GRPC_PREFIX, values),
        **{name: values.pop(name) for name in PLAIN if name in values},
    )


def _restrictions(flag: str, prefix: str, values: dict[str, Any]) -> tuple[Restriction, ...]:
    """`CATEGORY[,CATEGORY]:KEY=VALUE` words of a flag."""
    from nerite.server.access_options import Restriction

    words: Sequence[str] = values.pop(flag.removeprefix("--").replace("-", "_"), ())
    made = []
    for number, word in enumerate(words, 1):
        categories, colon, pair = word.partition(":")
        key, equals, value = pair.partition("=")
        if not (categories and colon and key and equals and value):
            # The word holds a secret, so it is not repeated.
            raise InvalidArgument(
                f"{flag}: number {number} is not CATEGORY[,CATEGORY]:KEY=VALUE, "
                "for instance model-repository,logging:admin-key=admin-value"
            )
        made.append(Restriction(tuple(categories.split(",")), prefix + key, value))
    return tuple(made)
