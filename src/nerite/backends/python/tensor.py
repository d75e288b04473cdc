# SPDX-License-Identifier: Apache-2.0
"""`pb_utils.Tensor`: a name and an array.

Made twice per request on the hot path, so it holds the array as it came and works out everything
else when asked. Arrays of `str` become arrays of `bytes` only when they are sent, by the data
plane; arrays that are not C-contiguous are copied there too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nerite.backends.python.failures import TritonModelException
from nerite.tensors import DTYPES

if TYPE_CHECKING:
    from nerite.tensors import Array

_ndarray = np.ndarray

#: What `pb_utils.triton_to_numpy_type` and its inverse count with: numbers of the config's enum.
NUMBERS = {
    1: np.bool_,
    2: np.uint8,
    3: np.uint16,
    4: np.uint32,
    5: np.uint64,
    6: np.int8,
    7: np.int16,
    8: np.int32,
    9: np.int64,
    10: np.float16,
    11: np.float32,
    12: np.float64,
    13: np.object_,
}

_NUMBER_OF = {np.dtype(scalar): number for number, scalar in NUMBERS.items()}


class Tensor:
    """A named tensor on the CPU."""

    __slots__ = ("_array", "_bf16", "_name")

    def __init__(self, name: str, array: Array) -> None:
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        if not isinstance(array, _ndarray):
            raise TritonModelException(
                f"tensor '{name}' is made of a {type(array).__name__}; a numpy.ndarray is expected"
            )
        if array.dtype.kind not in "fiubOSU" and array.dtype.name != "bfloat16":
            raise TritonModelException(
                f"tensor '{name}' has dtype {array.dtype}; one that Triton has a data type for "
                "is expected (numpy.object_ for strings)"
            )
        self._name = name
        self._array = array
        self._bf16 = False

    def name(self) -> str:
        """The name of the tensor."""
        return self._name

    def as_numpy(self) -> Array:
        """The array itself, not a copy. Strings are an array of `bytes` objects.

        BF16, which Triton refuses here, is an array of `ml_dtypes.bfloat16`.
        """
        return _as_bfloat16(self._array) if self._bf16 else self._array

    def triton_dtype(self) -> int:
        """The number of the data type in the configuration's enum (FP32 is 11)."""
        return 14 if self._bf16 else numpy_to_triton_type(self._array.dtype)

    def shape(self) -> list[int]:
        """The sizes of the dimensions."""
        return list(self._array.shape)

    def is_cpu(self) -> bool:
        """Whether `as_numpy` can read it: always, in this version."""
        return True

    def to_dlpack(self) -> Any:
        """A DLPack capsule that shares the memory."""
        return self.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        array = self._array
        if array.dtype.kind in "OSU":
            raise TritonModelException("DLPack does not have support for string tensors.")
        if self._bf16:
            raise TritonModelException("DLPack of BF16 tensors is not supported by this version.")
        # NumPy refuses to export read-only memory, and inputs are read-only: others read them too.
        return (array if array.flags.writeable else array.copy()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    @staticmethod
    def from_dlpack(name: str, source: Any) -> Tensor:
        """A tensor that shares the memory of a DLPack capsule or of an object that exports one."""
        if not hasattr(source, "__dlpack__"):
            source = _Capsule(source)
        try:
            return Tensor(name, np.from_dlpack(source))
        except (BufferError, RuntimeError, TypeError) as why:
            raise TritonModelException(f"tensor '{name}' cannot be read as DLPack: {why}") from why


class _Capsule:
    """What NumPy wants to see round a bare capsule on the CPU."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def _as_bfloat16(bits: Array) -> Array:
    try:
        import ml_dtypes
    except ModuleNotFoundError as why:
        raise TritonModelException(
            "as_numpy() of a BF16 tensor needs the package 'ml_dtypes'; run: pip install ml_dtypes"
        ) from why
    return bits.view(ml_dtypes.bfloat16)


def incoming(name: str, array: Array, datatype: str = "") -> Tensor:
    """A tensor of a request, whose array is known to be good."""
    tensor = Tensor.__new__(Tensor)
    tensor._name = name
    tensor._array = array
    tensor._bf16 = datatype == "BF16"
    return tensor


def numpy_to_triton_type(dtype: Any) -> int:
    """The number of the data type that arrays of `dtype` have."""
    found = np.dtype(dtype)
    if found.kind in "OSU":
        return 13
    if found.name == "bfloat16":
        return 14
    if found not in _NUMBER_OF:
        raise TritonModelException(f"no data type has arrays of dtype {found}")
    return _NUMBER_OF[found]


def triton_to_numpy_type(number: int) -> Any:
    """The NumPy scalar type of a data type's number; None if there is none (BF16)."""
    return NUMBERS.get(number)


def triton_string_to_numpy(name: str) -> Any:
    """`TYPE_FP32` -> `numpy.float32`; raises KeyError for a name that is none."""
    if name == "TYPE_STRING":
        return np.object_
    if name == "TYPE_BF16" or not name.startswith("TYPE_"):
        raise KeyError(name)
    return DTYPES[name.removeprefix("TYPE_")].type
