// SPDX-License-Identifier: Apache-2.0
//! Tensors as NumPy arrays: read-only views of the data plane's memory.

use bytes::Bytes;
use nerite_logic::DataType;
use nerite_logic::Error;
use numpy::npyffi::{self, NPY_ARRAY_CARRAY_RO, npy_intp};
use numpy::{PY_ARRAY_API, PyArrayDescr, PyArrayDescrMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList};

use crate::errors::to_python;

/// The owner of an array's memory: as long as NumPy holds it, the buffer is not used again.
#[pyclass(frozen, module = "nerite._core", name = "_Slab")]
struct Slab(#[allow(dead_code)] Bytes);

/// The NumPy type of each element type, made once; BYTES is an array of objects, BF16 one of bits.
pub fn descriptor(py: Python<'_>, datatype: DataType) -> PyResult<Bound<'_, PyArrayDescr>> {
    static KNOWN: PyOnceLock<Vec<Py<PyArrayDescr>>> = PyOnceLock::new();
    let known = KNOWN.get_or_try_init(py, || {
        let make = |datatype| PyArrayDescr::new(py, numpy_name(datatype)).map(Bound::unbind);
        DataType::ALL
            .into_iter()
            .map(make)
            .collect::<PyResult<Vec<_>>>()
    })?;
    let index = DataType::ALL
        .into_iter()
        .position(|known| known == datatype)
        .unwrap_or(0);
    known
        .get(index)
        .map(|descriptor| descriptor.bind(py).clone())
        .ok_or_else(|| to_python(py, &Error::internal("an element type has no NumPy type")))
}

const fn numpy_name(datatype: DataType) -> &'static str {
    match datatype {
        DataType::Bool => "?",
        DataType::Uint8 => "u1",
        DataType::Uint16 | DataType::Bf16 => "u2",
        DataType::Uint32 => "u4",
        DataType::Uint64 => "u8",
        DataType::Int8 => "i1",
        DataType::Int16 => "i2",
        DataType::Int32 => "i4",
        DataType::Int64 => "i8",
        DataType::Fp16 => "f2",
        DataType::Fp32 => "f4",
        DataType::Fp64 => "f8",
        DataType::Bytes => "O",
    }
}

/// A read-only array over `data`, which stays alive with it. No copy is made.
///
/// # Errors
/// If `data` is not as long as shape and type say, or NumPy has no memory for the array's head.
pub fn view<'py>(
    py: Python<'py>,
    datatype: DataType,
    shape: &[i64],
    data: Bytes,
) -> PyResult<Bound<'py, PyAny>> {
    let size = datatype.size().unwrap_or(0);
    let count: i64 = shape.iter().product();
    if usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(size))
        != Some(data.len())
    {
        let text = format!("{} bytes are no tensor of shape {shape:?}", data.len());
        return Err(to_python(py, &Error::internal(text)));
    }
    let mut dims: smallvec::SmallVec<[npy_intp; 6]> = shape
        .iter()
        .map(|size| npy_intp::try_from(*size).unwrap_or(0))
        .collect();
    let start = data.as_ptr().cast_mut().cast();
    let descriptor = descriptor(py, datatype)?;
    let slab = Bound::new(py, Slab(data))?;
    // SAFETY: the memory holds exactly as many bytes as shape and type say (checked above), it is kept
    // alive by `slab`, which becomes the array's base, and it is never written to: the flags say
    // read-only. `PyArray_NewFromDescr` takes over a reference to the descriptor, `SetBaseObject` one to
    // the base, also when they fail.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            npyffi::get_type_object(py, npyffi::NpyTypes::PyArray_Type),
            descriptor.into_dtype_ptr(),
            i32::try_from(dims.len()).unwrap_or(0),
            dims.as_mut_ptr(),
            std::ptr::null_mut(),
            start,
            NPY_ARRAY_CARRAY_RO,
            std::ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        let based = PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), slab.into_ptr());
        if based < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(array)
    }
}

/// An array of `bytes` objects of the elements of `parts`, one after the other.
///
/// # Errors
/// If the parts do not hold as many elements as the shape says.
pub fn strings<'py>(
    py: Python<'py>,
    shape: &[i64],
    parts: impl Iterator<Item = Bytes>,
) -> PyResult<Bound<'py, PyAny>> {
    let list = PyList::empty(py);
    for part in parts {
        let mut rest: &[u8] = &part;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let (element, after) = after.split_at(length.min(after.len()));
            list.append(PyBytes::new(py, element))?;
            rest = after;
        }
    }
    let array = py
        .import("numpy")?
        .call_method1("empty", (list.len(), "O"))?;
    array.set_item(pyo3::types::PySlice::full(py), list)?;
    array.call_method1("reshape", (shape.to_vec(),))
}
