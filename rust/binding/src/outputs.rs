// SPDX-License-Identifier: Apache-2.0
//! What a backend returned, as one outcome for each request.
//!
//! Small outputs are copied once for the whole batch; large ones are borrowed from Python, and let go by
//! whoever writes the last byte of them (PyO3 then drops the reference when the GIL is next held).

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use nerite_engine::Version;
use nerite_engine::gather::client_shape;
use nerite_engine::lane::{Outcome, Pending};
use nerite_logic::message::{InferResponse, Parameter, Parameters, RequestedOutput, Shape, Tensor};
use nerite_logic::schedulers::Ticket;
use nerite_logic::spec::IoSpec;
use nerite_logic::{DataType, Error};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyMapping, PyString, PyTuple};

use crate::errors::from_exception;

/// Outputs up to this size are copied: cheaper than a reference that another thread must give back.
pub const COPIED: usize = 64 << 10;

type Tickets = [Ticket<Box<Pending>>];

/// One outcome for each request of the batch.
pub fn outcomes(version: &Version, tickets: &Tickets, executed: &Bound<'_, PyAny>) -> Vec<Outcome> {
    let whole = if let Ok(outputs) = executed.cast::<PyDict>() {
        Some((outputs.clone(), None))
    } else {
        pair(executed)
    };
    let result = match whole {
        Some((outputs, parameters)) => joined(version, tickets, &outputs, parameters.as_ref()),
        None => one_by_one(version, tickets, executed),
    };
    result.unwrap_or_else(|why| tickets.iter().map(|_| Err(why.clone())).collect())
}

/// Outputs with response parameters: a tuple of two mappings.
fn pair<'py>(
    value: &Bound<'py, PyAny>,
) -> Option<(Bound<'py, PyDict>, Option<Bound<'py, PyMapping>>)> {
    let tuple = value
        .cast::<PyTuple>()
        .ok()
        .filter(|tuple| tuple.len() == 2)?;
    let outputs = tuple.get_item(0).ok()?.cast_into::<PyDict>().ok()?;
    let parameters = tuple.get_item(1).ok()?.cast_into::<PyMapping>().ok()?;
    Some((outputs, Some(parameters)))
}

fn joined(
    version: &Version,
    tickets: &Tickets,
    outputs: &Bound<'_, PyDict>,
    parameters: Option<&Bound<'_, PyMapping>>,
) -> Result<Vec<Outcome>, Error> {
    let parameters = parameters.map_or(Ok(Vec::new()), read_parameters)?;
    let mut responses: Vec<InferResponse> = tickets
        .iter()
        .map(|_| InferResponse {
            parameters: parameters.clone(),
            ..InferResponse::default()
        })
        .collect();
    let rows: u32 = tickets.iter().map(|ticket| ticket.rows).sum();
    for (name, value) in outputs.iter() {
        let output = Output::read(version, &name, &value)?;
        let mut parts = output.split(version, tickets, rows)?;
        for ((ticket, response), part) in tickets.iter().zip(&mut responses).zip(parts.drain(..)) {
            if is_asked(&ticket.payload.request.outputs, &part.name) {
                response.outputs.push(part);
            }
        }
    }
    Ok(responses.into_iter().map(Ok).collect())
}

fn one_by_one(
    version: &Version,
    tickets: &Tickets,
    executed: &Bound<'_, PyAny>,
) -> Result<Vec<Outcome>, Error> {
    let model = &version.spec.name;
    let length = executed.len().map_err(|_| {
        Error::internal(format!(
            "backend of model '{model}' returned a {}, expected a dict of arrays or a list with one \
             answer per request",
            executed.get_type()
        ))
    })?;
    if length != tickets.len() {
        return Err(Error::internal(format!(
            "backend of model '{model}' returned {length} answers for {} requests",
            tickets.len()
        )));
    }
    let answer = |(index, ticket): (usize, &Ticket<Box<Pending>>)| {
        let value = executed
            .get_item(index)
            .map_err(|why| Error::internal(why.to_string()))?;
        single(version, &ticket.payload.request.outputs, &value)
    };
    Ok(tickets.iter().enumerate().map(answer).collect())
}

/// The outcome of one request of which these outputs were `asked`.
#[inline]
pub fn single(version: &Version, asked: &[RequestedOutput], value: &Bound<'_, PyAny>) -> Outcome {
    if value.is_instance_of::<PyBaseException>() {
        return Err(from_exception(value));
    }
    let (outputs, parameters) = match value.cast::<PyDict>() {
        Ok(outputs) => (outputs.clone(), None),
        Err(_) => pair(value).ok_or_else(|| {
            Error::internal(format!(
                "backend of model '{}' answered a request with a {}, expected a dict of arrays",
                version.spec.name,
                value.get_type()
            ))
        })?,
    };
    let mut response = InferResponse {
        parameters: parameters
            .as_ref()
            .map_or(Ok(Vec::new()), read_parameters)?,
        ..InferResponse::default()
    };
    for (name, value) in outputs.iter() {
        let output = Output::read(version, &name, &value)?;
        if is_asked(asked, &output.name) {
            response.outputs.push(output.whole(version)?);
        }
    }
    Ok(response)
}

fn is_asked(asked: &[RequestedOutput], name: &ByteString) -> bool {
    asked.is_empty() || asked.iter().any(|output| output.name == *name)
}

/// An output as the backend gave it.
struct Output<'a> {
    declared: Option<&'a IoSpec>,
    name: ByteString,
    datatype: DataType,
    shape: Shape,
    data: Bytes,
    /// BYTES: where each element ends.
    ends: Vec<usize>,
}

impl<'a> Output<'a> {
    fn read(
        version: &'a Version,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> Result<Self, Error> {
        let name = name
            .cast::<PyString>()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.map_err(|_| Error::internal("the name of an output must be a str"))?;
        let spec = &version.spec;
        let declared = spec.output(&name);
        if declared.is_none() && !spec.outputs.is_empty() {
            let known: Vec<&str> = spec.outputs.iter().map(|output| &*output.name).collect();
            return Err(Error::internal(format!(
                "model '{}' returned output '{name}', which its configuration does not declare; \
                 declared are {known:?}",
                spec.name
            )));
        }
        let failed = |why: PyErr| {
            Error::internal(format!("output '{name}' of model '{}': {why}", spec.name))
        };
        let array = contiguous(value).map_err(failed)?;
        let datatype = datatype_of(&array, declared).map_err(failed)?;
        let shape = array
            .shape()
            .iter()
            .map(|n| i64::try_from(*n).unwrap_or(i64::MAX))
            .collect();
        let (data, ends) = match datatype {
            DataType::Bytes => serialize(&array).map_err(failed)?,
            _ => (bytes_of(&array), Vec::new()),
        };
        if let Some(declared) = declared.filter(|declared| declared.datatype != datatype) {
            return Err(Error::internal(format!(
                "output '{name}' of model '{}' has data-type {}, but its configuration says {}",
                spec.name,
                datatype.name(),
                declared.datatype.name()
            )));
        }
        let name = declared.map_or_else(|| name.into(), |declared| declared.name.clone());
        Ok(Self {
            declared,
            name,
            datatype,
            shape,
            data,
            ends,
        })
    }

    /// The output as the answer of one request.
    fn whole(self, version: &Version) -> Result<Tensor, Error> {
        let shape = self.checked_shape(version, &self.shape)?;
        Ok(Tensor {
            name: self.name,
            datatype: self.datatype,
            shape,
            data: self.data,
        })
    }

    /// The output's rows for each request.
    fn split(self, version: &Version, tickets: &Tickets, rows: u32) -> Result<Vec<Tensor>, Error> {
        let spec = &version.spec;
        if !spec.batches() {
            return Ok(vec![self.whole(version)?]);
        }
        if self.shape.first() != Some(&i64::from(rows)) {
            return Err(Error::internal(format!(
                "output '{}' of model '{}' has shape {:?}, but the batch has {rows} rows",
                self.name, spec.name, self.shape
            )));
        }
        let elements: usize = match self.datatype {
            DataType::Bytes => self.ends.len(),
            _ => self.data.len(),
        };
        let per_row = elements.checked_div(rows as usize).unwrap_or(0);
        let mut begin = 0;
        let mut parts = Vec::with_capacity(tickets.len());
        let mut shape = self.checked_shape(version, &self.shape)?;
        for ticket in tickets {
            let end = begin + per_row * ticket.rows as usize;
            if let Some(first) = shape.first_mut() {
                *first = i64::from(ticket.rows);
            }
            parts.push(Tensor {
                name: self.name.clone(),
                datatype: self.datatype,
                shape: shape.clone(),
                data: self.data.slice(self.offset(begin)..self.offset(end)),
            });
            begin = end;
        }
        Ok(parts)
    }

    /// Where element `index` begins: an index of bytes, or of strings.
    fn offset(&self, index: usize) -> usize {
        match self.datatype {
            DataType::Bytes => index
                .checked_sub(1)
                .map_or(0, |i| self.ends.get(i).copied().unwrap_or(0)),
            _ => index,
        }
    }

    /// The shape that clients see.
    fn checked_shape(&self, version: &Version, shape: &[i64]) -> Result<Shape, Error> {
        let Some(declared) = self.declared else {
            return Ok(Shape::from_slice(shape));
        };
        let seen = client_shape(&version.spec, declared, shape);
        let dims = version.spec.answered_dims(declared);
        let sizes = seen
            .get(usize::from(version.spec.batches())..)
            .unwrap_or_default();
        let fits = sizes.len() == dims.len()
            && sizes
                .iter()
                .zip(dims)
                .all(|(size, dim)| *dim == -1 || size == dim);
        if fits {
            return Ok(seen);
        }
        Err(Error::internal(format!(
            "output '{}' of model '{}' has shape {shape:?}, which does not fit the configured dims \
             {:?}{}",
            self.name,
            version.spec.name,
            dims,
            if version.spec.batches() {
                " behind the batch dimension"
            } else {
                ""
            }
        )))
    }
}

/// The value as an array whose elements lie one behind the other in this machine's byte order.
fn contiguous<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    if let Ok(array) = value.cast::<PyUntypedArray>()
        && array.is_c_contiguous()
        && array.dtype().is_native_byteorder().unwrap_or(true)
    {
        return Ok(array.clone());
    }
    let py = value.py();
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("asarray", (value,))?;
    let dtype = array
        .getattr("dtype")?
        .call_method1("newbyteorder", ("=",))?;
    // `ascontiguousarray` would make one dimension of a scalar.
    let array = array
        .call_method("astype", (dtype,), None)?
        .call_method1("copy", ("C",))?;
    Ok(array.cast_into::<PyUntypedArray>()?)
}

fn datatype_of(array: &Bound<'_, PyUntypedArray>, declared: Option<&IoSpec>) -> PyResult<DataType> {
    let dtype = array.dtype();
    let declared = declared.map(|declared| declared.datatype);
    Ok(match (dtype.kind(), dtype.itemsize()) {
        (b'f', 4) => DataType::Fp32,
        (b'f', 8) => DataType::Fp64,
        (b'f', 2) => DataType::Fp16,
        (b'b', _) => DataType::Bool,
        (b'u', 2) if declared == Some(DataType::Bf16) => DataType::Bf16,
        (b'u', 1) => DataType::Uint8,
        (b'u', 2) => DataType::Uint16,
        (b'u', 4) => DataType::Uint32,
        (b'u', 8) => DataType::Uint64,
        (b'i', 1) => DataType::Int8,
        (b'i', 2) => DataType::Int16,
        (b'i', 4) => DataType::Int32,
        (b'i', 8) => DataType::Int64,
        (b'O' | b'S' | b'U' | b'T', _) => DataType::Bytes,
        (_, 2) if dtype.str()?.to_string_lossy() == "bfloat16" => DataType::Bf16,
        _ => {
            let text = format!("NumPy type {} is none of the protocol's", dtype.str()?);
            return Err(pyo3::exceptions::PyTypeError::new_err(text));
        }
    })
}

/// An array's memory, held by a reference to the array.
struct Held {
    start: *const u8,
    length: usize,
    _array: Py<PyUntypedArray>,
}

// SAFETY: the memory is read-only by contract while the reference lives (`Outputs` in the stub), and the
// reference itself may be dropped on any thread: PyO3 defers that to the next holder of the GIL.
unsafe impl Send for Held {}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `_array` keeps `length` bytes at `start` alive.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

fn bytes_of(array: &Bound<'_, PyUntypedArray>) -> Bytes {
    let length = array.len() * array.dtype().itemsize();
    if length == 0 {
        return Bytes::new();
    }
    // SAFETY: the pointer is to a live array object; `data` is its first byte, valid for `length` bytes as
    // the array is C-contiguous (`contiguous`).
    let start = unsafe {
        (*array.as_array_ptr())
            .fields
            .data
            .cast_const()
            .cast::<u8>()
    };
    let held = Held {
        start,
        length,
        _array: array.clone().unbind(),
    };
    match length <= COPIED {
        true => Bytes::copy_from_slice(held.as_ref()),
        false => Bytes::from_owner(held),
    }
}

/// BYTES in wire layout, and where each element ends.
fn serialize(array: &Bound<'_, PyUntypedArray>) -> PyResult<(Bytes, Vec<usize>)> {
    let elements = array.call_method0("ravel")?.call_method0("tolist")?;
    let mut wire = BytesMut::new();
    let mut ends = Vec::with_capacity(array.len());
    for element in elements.try_iter()? {
        let element = element?;
        if let Ok(bytes) = element.cast::<PyBytes>() {
            put(&mut wire, bytes.as_bytes());
        } else {
            put(&mut wire, element.str()?.to_string_lossy().as_bytes());
        }
        ends.push(wire.len());
    }
    Ok((wire.freeze(), ends))
}

fn put(wire: &mut BytesMut, element: &[u8]) {
    // An element of 4 GiB has no wire form; it cannot come from a message either.
    wire.put_u32_le(u32::try_from(element.len()).unwrap_or(u32::MAX));
    wire.put_slice(element);
}

fn read_parameters(mapping: &Bound<'_, PyMapping>) -> Result<Parameters, Error> {
    let read = || -> PyResult<Parameters> {
        let mut parameters = Vec::new();
        for item in mapping.items()?.iter() {
            let (name, value): (String, Bound<'_, PyAny>) = item.extract()?;
            let value = if value.is_instance_of::<PyBool>() {
                Parameter::Bool(value.extract()?)
            } else if value.is_instance_of::<PyInt>() {
                Parameter::Int(value.extract()?)
            } else if value.is_instance_of::<PyFloat>() {
                Parameter::Double(value.extract()?)
            } else {
                Parameter::String(value.extract::<String>()?.into())
            };
            parameters.push((name.into(), value));
        }
        Ok(parameters)
    };
    read().map_err(|why| Error::internal(format!("response parameters: {why}")))
}
