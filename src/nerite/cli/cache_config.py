# SPDX-License-Identifier: Apache-2.0
"""Read `--cache-config` words, and Triton's older flag for the same, into the size of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nerite.cli.options import LARGEST
from nerite.errors import InvalidArgument

_FLAG = "--cache-config"
_ACCEPTED = f"{_FLAG}=local,size=BYTES"


def cache_bytes(values: dict[str, Any]) -> int:
    """Bytes of the response cache, 0 for none; takes what the flags say out of `values`.

    Raises:
        InvalidArgument: A word is not understood, or several caches are asked for.
    """
    older = values.pop("response_cache_byte_size", None)
    words: Sequence[str] = values.pop("cache_config", ())
    if older is not None and words:
        raise InvalidArgument(
            "Error: Incompatible flags --response-cache-byte-size and --cache-config both "
            "provided. Please provide one or the other."
        )
    if not words:
        return older or 0
    parts = [_split(word) for word in words]
    names = {name for name, _, _ in parts}
    if len(names) > 1:
        raise InvalidArgument(
            "found multiple cache configurations, but only a single cache is currently supported"
        )
    if names != {"local"}:
        raise InvalidArgument(
            f"{_FLAG}: there is no cache '{names.pop()}' in Nerite; 'local' is, in this "
            f"process: {_ACCEPTED}"
        )
    sizes = [_size(word, key, value) for word, (_, key, value) in zip(words, parts, strict=True)]
    return sizes[-1]


def _split(word: str) -> tuple[str, str, str]:
    """The cache, the setting and the value of a word."""
    name, comma, pair = word.partition(",")
    if not comma or not name:
        raise InvalidArgument(
            f"No cache specified. {_FLAG} option format is "
            f"<cache name>,<setting>=<value>. Got {word}"
        )
    key, _, value = pair.partition("=")
    if not key or not value:
        raise InvalidArgument(
            f"{_FLAG} option format is '<cache name>,<setting>=<value>'. Got {word}"
        )
    return name, key, value


def _size(word: str, key: str, value: str) -> int:
    if key != "size":
        # Triton's cache takes other settings in silence, and then wants its size.
        raise InvalidArgument(f"{_FLAG}: '{word}' is not offered; {_ACCEPTED} is")
    if not (value.isascii() and value.isdecimal() and 0 < int(value) <= LARGEST):
        raise InvalidArgument(
            f"{_FLAG}: '{word}' has no size; a number of bytes from 1 to {LARGEST} is expected"
        )
    return int(value)
