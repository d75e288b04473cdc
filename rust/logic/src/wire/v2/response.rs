// SPDX-License-Identifier: Apache-2.0
//! An answer: one buffer of JSON, and the outputs that go as bytes behind it.

use bytes::Bytes;
use half::{bf16, f16};
use smallvec::SmallVec;

use crate::DataType;
use crate::check::element_count;
use crate::error::Error;
use crate::message::{Asked, Form, InferResponse, Parameter, Parameters, Tensor};
use crate::spec::ModelSpec;
use crate::wire::base64;
use crate::wire::classification::{Labels, classify};
use crate::wire::json::write::{double, doubles, integer, string};

/// Answers up to this size are one buffer: copying is cheaper than a second piece to write.
const SMALL: usize = 4096;

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The JSON, and if the answer is small, all that follows it.
    pub head: Bytes,
    /// What follows the head.
    pub tail: SmallVec<[Bytes; 2]>,
    /// The value of `Inference-Header-Content-Length`: the length of the JSON if bytes follow it.
    pub header_length: Option<usize>,
}

/// `{"error":"..."}`
#[must_use]
pub fn encode_error(message: &str) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 16);
    out.extend_from_slice(b"{\"error\":");
    string(&mut out, message.as_bytes());
    out.push(b'}');
    out.into()
}

/// Writes the answer of version `version` of a model to a request.
///
/// # Errors
/// If an output cannot be had as it was asked for, or has not the size that its shape says.
pub fn encode_response(
    spec: &ModelSpec,
    version: &str,
    asked: &Asked,
    response: &InferResponse,
    labels: &Labels<'_>,
) -> Result<Answer, Error> {
    let mut tail = SmallVec::new();
    let mut out = Vec::with_capacity(capacity(response));
    out.push(b'{');
    if !asked.id.is_empty() {
        out.extend_from_slice(b"\"id\":");
        string(&mut out, asked.id.as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(b"\"model_name\":");
    string(&mut out, spec.name.as_bytes());
    out.extend_from_slice(b",\"model_version\":");
    string(&mut out, version.as_bytes());
    parameters(&mut out, &response.parameters);
    out.extend_from_slice(b",\"outputs\":[");
    for (index, tensor) in response.outputs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let listed = asked
            .outputs
            .iter()
            .find(|output| output.name == tensor.name);
        let (form, classes) = listed.map_or((asked.default_form, 0), |output| {
            (output.form, output.classification)
        });
        if listed.is_some_and(|output| output.window.is_some()) {
            head(&mut out, tensor);
            out.extend_from_slice(b"]}");
        } else if classes > 0 {
            output(
                &mut out,
                &classify(spec, tensor, classes, labels)?,
                form,
                &mut tail,
            )?;
        } else {
            output(&mut out, tensor, form, &mut tail)?;
        }
    }
    out.extend_from_slice(b"]}");
    Ok(seal(out, tail))
}

/// About how many bytes the head will have, but for large tensors: these ask for room if they are text.
pub(super) fn capacity(response: &InferResponse) -> usize {
    let outputs = response
        .outputs
        .iter()
        .map(|tensor| 128 + tensor.name.len() + 5 * tensor.data.len().min(SMALL));
    256 + 64 * response.parameters.len() + outputs.sum::<usize>()
}

fn seal(mut out: Vec<u8>, mut tail: SmallVec<[Bytes; 2]>) -> Answer {
    let header_length = (!tail.is_empty()).then_some(out.len());
    let size = out.len() + tail.iter().map(Bytes::len).sum::<usize>();
    if size <= SMALL {
        for piece in tail.drain(..) {
            out.extend_from_slice(&piece);
        }
    }
    Answer {
        head: out.into(),
        tail,
        header_length,
    }
}

fn parameters(out: &mut Vec<u8>, parameters: &Parameters) {
    for (index, (name, value)) in parameters.iter().enumerate() {
        out.extend_from_slice(if index == 0 {
            b",\"parameters\":{"
        } else {
            b","
        });
        string(out, name.as_bytes());
        out.push(b':');
        self::value(out, value);
    }
    if !parameters.is_empty() {
        out.push(b'}');
    }
}

#[inline]
pub(super) fn value(out: &mut Vec<u8>, value: &Parameter) {
    match value {
        Parameter::Bool(value) => boolean(out, *value),
        Parameter::Int(value) => integer(out, *value),
        Parameter::Uint(value) => integer(out, *value),
        Parameter::Double(value) => double(out, *value),
        Parameter::String(value) => string(out, value.as_bytes()),
    }
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn output(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    form: Form,
    tail: &mut SmallVec<[Bytes; 2]>,
) -> Result<(), Error> {
    head(out, tensor);
    if form == Form::Binary {
        out.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
        integer(out, tensor.data.len());
        out.extend_from_slice(b"}}");
        if !tensor.data.is_empty() {
            tail.push(tensor.data.clone());
        }
        return Ok(());
    }
    out.extend_from_slice(b"],\"data\":[");
    data(out, tensor, form)?;
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

/// What stands before an output's data, up to the end of its shape.
fn head(out: &mut Vec<u8>, tensor: &Tensor) {
    out.extend_from_slice(b"{\"name\":");
    string(out, tensor.name.as_bytes());
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(tensor.datatype.name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":[");
    for (index, dim) in tensor.shape.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        integer(out, *dim);
    }
}

/// The elements, each with a comma behind it.
pub(super) fn data(out: &mut Vec<u8>, tensor: &Tensor, form: Form) -> Result<(), Error> {
    match tensor.datatype {
        DataType::Bool => numbers(out, tensor, |out, [byte]| boolean(out, byte != 0)),
        DataType::Uint8 => numbers(out, tensor, |out, n| integer(out, u8::from_le_bytes(n))),
        DataType::Uint16 => numbers(out, tensor, |out, n| integer(out, u16::from_le_bytes(n))),
        DataType::Uint32 => numbers(out, tensor, |out, n| integer(out, u32::from_le_bytes(n))),
        DataType::Uint64 => numbers(out, tensor, |out, n| integer(out, u64::from_le_bytes(n))),
        DataType::Int8 => numbers(out, tensor, |out, n| integer(out, i8::from_le_bytes(n))),
        DataType::Int16 => numbers(out, tensor, |out, n| integer(out, i16::from_le_bytes(n))),
        DataType::Int32 => numbers(out, tensor, |out, n| integer(out, i32::from_le_bytes(n))),
        DataType::Int64 => numbers(out, tensor, |out, n| integer(out, i64::from_le_bytes(n))),
        DataType::Fp32 => floats(out, tensor, |n| f64::from(f32::from_le_bytes(n))),
        DataType::Fp64 => floats(out, tensor, f64::from_le_bytes),
        DataType::Fp16 => floats(out, tensor, |n| f16::from_le_bytes(n).to_f64()),
        DataType::Bf16 => floats(out, tensor, |n| bf16::from_le_bytes(n).to_f64()),
        DataType::Bytes if form == Form::Base64 => strings(out, tensor, base64::write),
        DataType::Bytes => strings(out, tensor, string),
    }
}

#[inline]
fn numbers<const N: usize>(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    write: impl Fn(&mut Vec<u8>, [u8; N]),
) -> Result<(), Error> {
    let elements = elements(tensor)?;
    out.reserve((2 * N + 2) * elements.len());
    for element in elements {
        write(out, *element);
        out.push(b',');
    }
    Ok(())
}

#[inline]
fn floats<const N: usize>(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    value: impl Fn([u8; N]) -> f64,
) -> Result<(), Error> {
    let elements = elements(tensor)?;
    // Most have 17 digits, a point, a zero before it and a comma.
    out.reserve(20 * elements.len());
    doubles(out, elements.iter().map(|element| value(*element)));
    Ok(())
}

/// The elements, which must be as many as the shape says.
fn elements<const N: usize>(tensor: &Tensor) -> Result<&[[u8; N]], Error> {
    let (elements, rest) = tensor.data.as_chunks::<N>();
    if !rest.is_empty() || element_count(&tensor.shape) != i64::try_from(elements.len()).ok() {
        return Err(wrong_size(tensor));
    }
    Ok(elements)
}

fn strings(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    write: impl Fn(&mut Vec<u8>, &[u8]),
) -> Result<(), Error> {
    let (mut data, mut count) = (&*tensor.data, 0);
    while !data.is_empty() {
        let (length, rest) = data
            .split_first_chunk::<4>()
            .ok_or_else(|| wrong_size(tensor))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, next) = rest
            .split_at_checked(length)
            .ok_or_else(|| wrong_size(tensor))?;
        write(out, text);
        out.push(b',');
        (data, count) = (next, count + 1);
    }
    if element_count(&tensor.shape) != Some(count) {
        return Err(wrong_size(tensor));
    }
    Ok(())
}

#[cold]
fn wrong_size(tensor: &Tensor) -> Error {
    let name = &tensor.name;
    Error::internal(format!(
        "output tensor shape does not match size of output for '{name}'"
    ))
}
