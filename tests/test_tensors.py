"""Data types and the wire form of strings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerite import tensors
from nerite.errors import InvalidArgument


@pytest.mark.parametrize("name", tensors.DTYPES)
def test_every_data_type_is_known_under_both_names(name: str) -> None:
    dtype = tensors.DTYPES[name]
    assert tensors.dtype_of(name) == tensors.dtype_of(tensors.config_name(name)) == dtype
    assert tensors.protocol_name(tensors.config_name(name)) == name
    if name != "BF16":
        assert tensors.datatype_of(dtype) == name


def test_other_arrays_are_strings_bfloat16_or_refused() -> None:
    import ml_dtypes

    assert tensors.datatype_of(np.dtype("S3")) == tensors.datatype_of(np.dtype("U3")) == "BYTES"
    assert tensors.datatype_of(ml_dtypes.bfloat16) == "BF16"
    with pytest.raises(InvalidArgument, match="complex64"):
        tensors.datatype_of(np.dtype("c8"))
    with pytest.raises(InvalidArgument, match="'FP8' is not a data type; one of BOOL"):
        tensors.dtype_of("FP8")


@given(st.lists(st.binary(max_size=20)))
def test_strings_survive_the_wire(items: list[bytes]) -> None:
    data = tensors.serialize_bytes(tensors.object_array(items))
    assert tensors.deserialize_bytes(data).tolist() == items


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        array = tensors.deserialize_bytes(data)
    except InvalidArgument:
        return
    assert tensors.serialize_bytes(array) == data


def test_strings_that_end_too_early_are_refused_with_the_place() -> None:
    for data in (b"\x01\0\0", b"\x02\0\0\0a"):
        with pytest.raises(InvalidArgument, match="inside the element that begins at byte 0"):
            tensors.deserialize_bytes(data)


def test_shapes_fit_where_sizes_agree_or_are_open() -> None:
    assert tensors.fits((2, 3), (-1, 3))
    assert not tensors.fits((2, 3), (-1, 4))
    assert not tensors.fits((2,), (2, -1))
    assert tensors.shape_text((-1, 4)) == "[-1,4]"
