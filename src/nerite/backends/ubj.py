# SPDX-License-Identifier: Apache-2.0
"""Whether a file is whole UBJSON, as XGBoost writes it: a walk over its outline, nothing more.

XGBoost reads past the end of a cut-off file, which ends the process every tenth time. This looks at
lengths only, skips over typed arrays (which is where a model's bytes are) and keeps nothing.
"""

from __future__ import annotations

import struct
from typing import Final

_SIZES: Final = {
    b"Z": 0,
    b"N": 0,
    b"T": 0,
    b"F": 0,
    b"i": 1,
    b"U": 1,
    b"C": 1,
    b"I": 2,
    b"l": 4,
    b"d": 4,
    b"L": 8,
    b"D": 8,
}
_COUNT: Final = struct.Struct(">q")
#: Deeper than any model, and far from the end of Python's stack.
_DEPTH: Final = 64


def is_whole(data: bytes) -> bool:
    """Whether `data` is one UBJSON object from its first byte to its last."""
    walk = _Walk(data)
    try:
        walk.value(_DEPTH)
    except (ValueError, struct.error):
        return False
    return data[:1] == b"{" and walk.at == len(data)


class _Walk:
    """A position in the data, moved over one value at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def value(self, depth: int) -> None:
        """Moves over the value that begins here."""
        if not depth:
            raise ValueError("too deep")
        marker = self._take(1)
        if marker == b"{":
            while self._data[self.at : self.at + 1] != b"}":
                self._skip(self._count())
                self.value(depth - 1)
            self.at += 1
        elif marker == b"[":
            self._array(depth)
        elif marker == b"S":
            self._skip(self._count())
        else:
            self._skip(_size(marker))

    def _array(self, depth: int) -> None:
        first = self._data[self.at : self.at + 1]
        if first == b"$":
            self.at += 1
            size = _size(self._take(1))
            self._expect(b"#")
            self._skip(size * self._count())
        elif first == b"#":
            self.at += 1
            for _ in range(min(self._count(), len(self._data))):
                self.value(depth - 1)
        else:
            while self._data[self.at : self.at + 1] != b"]":
                self.value(depth - 1)
            self.at += 1

    def _count(self) -> int:
        self._expect(b"L")
        (count,) = _COUNT.unpack(self._take(_COUNT.size))
        if count < 0:
            raise ValueError("negative length")
        return int(count)

    def _expect(self, marker: bytes) -> None:
        if self._take(1) != marker:
            raise ValueError("unexpected marker")

    def _take(self, size: int) -> bytes:
        start = self.at
        self._skip(size)
        return self._data[start : self.at]

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise ValueError("the end")


def _size(marker: bytes) -> int:
    if marker not in _SIZES:
        raise ValueError("unknown marker")
    return _SIZES[marker]
