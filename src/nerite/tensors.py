# SPDX-License-Identifier: Apache-2.0
"""Data types, shapes and the wire form of BYTES, as Python sees tensors.

The seam's conventions are kept here and nowhere else: a BYTES tensor is an array of `bytes`
objects, a BF16 tensor is an array of its uint16 bit patterns (NumPy has no such type).
Moving tensors between a socket and an array is the data plane's work; nothing here is on the
path of a request except the small lookups.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.errors import InvalidArgument

Array = NDArray[Any]

#: Protocol name -> dtype of the arrays that carry it.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
    "BF16": np.dtype(np.uint16),
}

_BY_KIND = {
    (dtype.kind, dtype.itemsize): name
    for name, dtype in DTYPES.items()
    if name not in ("BF16", "BYTES")
}

_LENGTH = struct.Struct("<I")


def dtype_of(datatype: str) -> np.dtype[Any]:
    """The dtype of arrays of a protocol data type (`FP32`) or of its config name (`TYPE_FP32`)."""
    name = protocol_name(datatype)
    try:
        return DTYPES[name]
    except KeyError:
        raise InvalidArgument(
            f"'{datatype}' is not a data type; one of {', '.join(DTYPES)} is"
        ) from None


def datatype_of(dtype: np.dtype[Any] | type) -> str:
    """The protocol data type that arrays of `dtype` carry; strings and objects are BYTES.

    `ml_dtypes.bfloat16` is BF16; a bare uint16 array is UINT16, whatever it was meant to be.
    """
    found = np.dtype(dtype)
    if found.kind in "OSU":
        return "BYTES"
    if found.name == "bfloat16":
        return "BF16"
    try:
        return _BY_KIND[found.kind, found.itemsize]
    except KeyError:
        raise InvalidArgument(
            f"arrays of dtype '{found}' cannot be tensors; one of {', '.join(DTYPES)} can"
        ) from None


def protocol_name(config_name: str) -> str:
    """`TYPE_STRING` -> `BYTES`, `TYPE_FP32` -> `FP32`; a protocol name stays what it is."""
    name = config_name.removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def config_name(datatype: str) -> str:
    """`BYTES` -> `TYPE_STRING`, `FP32` -> `TYPE_FP32`."""
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Whether an array of `shape` satisfies `declared`, where -1 accepts any size."""
    return len(shape) == len(declared) and all(
        want in (-1, got) for got, want in zip(shape, declared, strict=True)
    )


def shape_text(shape: Iterable[int]) -> str:
    """A shape as Triton prints it in errors: `[-1,4]`."""
    return f"[{','.join(str(size) for size in shape)}]"


def serialize_bytes(tensor: Array) -> bytes:
    """The elements of a string tensor in row-major order, each after its length (uint32, LE)."""
    parts: list[bytes] = []
    for item in tensor.ravel().tolist():
        data = item if isinstance(item, bytes) else str(item).encode()
        parts.append(_LENGTH.pack(len(data)))
        parts.append(data)
    return b"".join(parts)


def deserialize_bytes(data: bytes | bytearray | memoryview) -> Array:
    """The elements of a serialized string tensor, as a flat array of `bytes`.

    Raises:
        InvalidArgument: A length reaches past the end of the data.
    """
    view, at, items = memoryview(data), 0, []
    while at < len(view):
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(view, at)[0] if start <= len(view) else len(view) + 1
        if end > len(view):
            raise InvalidArgument(
                f"BYTES data of {len(view)} bytes ends inside the element that begins at byte {at}"
            )
        items.append(bytes(view[start:end]))
        at = end
    return object_array(items)


def object_array(items: Sequence[Any]) -> Array:
    """A flat object array of exactly these items (`np.array` would look inside them)."""
    array = np.empty(len(items), dtype=np.object_)
    array[:] = items
    return array
