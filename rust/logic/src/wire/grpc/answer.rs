// SPDX-License-Identifier: Apache-2.0
//! `ModelInferResponse`, with its frame: one buffer, and large tensors behind it.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use smallvec::SmallVec;

use super::frame::PREFIX;
use crate::error::Error;
use crate::message::{InferResponse, Parameter, Tensor};
use crate::spec::ModelSpec;
use crate::wire::classification::{Labels, classify};

pub use crate::message::Asked;

/// A framed message: the head, and what follows it.
pub type Frame = (Bytes, SmallVec<[Bytes; 2]>);

/// Answers up to this size are one buffer.
const SMALL: usize = 16 << 10;
/// The most that one gRPC message may have.
const MOST: usize = i32::MAX as usize;

/// Writes the answer of version `version` of a model. Tensors are always raw.
///
/// # Errors
/// If a classification is not to be had, or the answer is larger than gRPC can carry.
pub fn encode_infer(
    spec: &ModelSpec,
    version: &str,
    asked: &Asked,
    response: &InferResponse,
    labels: &Labels<'_>,
) -> Result<Frame, Error> {
    encode::<false>(spec, version, asked, response, labels)
}

/// The same; `STREAMED` answers are the field `infer_response` of a `ModelStreamInferResponse`.
#[inline]
pub(super) fn encode<const STREAMED: bool>(
    spec: &ModelSpec,
    version: &str,
    asked: &Asked,
    response: &InferResponse,
    labels: &Labels<'_>,
) -> Result<Frame, Error> {
    let mut tensors: SmallVec<[std::borrow::Cow<'_, Tensor>; 2]> = SmallVec::new();
    for output in &response.outputs {
        let wanted = asked
            .outputs
            .iter()
            .find(|wanted| wanted.name == output.name);
        tensors.push(match wanted.map_or(0, |wanted| wanted.classification) {
            0 => std::borrow::Cow::Borrowed(output),
            k => std::borrow::Cow::Owned(classify(spec, output, k, labels)?),
        });
    }
    let length = text_length(&spec.name)
        + text_length(version)
        + text_length(&asked.id)
        + response
            .parameters
            .iter()
            .map(|(k, v)| block_length(entry_length(k, v)))
            .sum::<usize>()
        + tensors
            .iter()
            .map(|t| block_length(tensor_length(t)) + block_length(t.data.len()))
            .sum::<usize>();
    let framed = if STREAMED {
        block_length(length)
    } else {
        length
    };
    if framed > MOST {
        return Err(Error::invalid(format!(
            "Response has byte size {length} which exceeds gRPC's byte size limit 2147483647."
        )));
    }
    let whole = length <= SMALL;
    let data: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
    let mut out = BytesMut::with_capacity(PREFIX + if whole { framed } else { framed - data });
    out.put_u8(0);
    out.put_u32(u32::try_from(framed).unwrap_or(u32::MAX));
    if STREAMED {
        put_key(&mut out, 2, length);
    }
    put_text(&mut out, 1, &spec.name);
    put_text(&mut out, 2, version);
    put_text(&mut out, 3, &asked.id);
    for (key, value) in &response.parameters {
        put_key(&mut out, 4, entry_length(key, value));
        put_entry(&mut out, key, value);
    }
    for tensor in &tensors {
        put_key(&mut out, 5, tensor_length(tensor));
        put_tensor(&mut out, tensor);
    }
    Ok(put_raw(out, &tensors, whole))
}

/// The raw contents, last: in the buffer, or as slices between which only keys are written.
fn put_raw(mut out: BytesMut, tensors: &[std::borrow::Cow<'_, Tensor>], whole: bool) -> Frame {
    let mut tail = SmallVec::new();
    if whole {
        for tensor in tensors {
            put_key(&mut out, 6, tensor.data.len());
            out.put_slice(&tensor.data);
        }
        return (out.freeze(), tail);
    }
    let mut head = None;
    for tensor in tensors {
        put_key(&mut out, 6, tensor.data.len());
        let piece = out.split().freeze();
        match head {
            None => head = Some(piece),
            Some(_) => tail.push(piece),
        }
        tail.push(tensor.data.clone());
    }
    (head.unwrap_or_else(|| out.freeze()), tail)
}

/// A field of wire type 2: tag, length, content.
fn block_length(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

fn text_length(text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        block_length(text.len())
    }
}

fn put_key(out: &mut BytesMut, field: u8, length: usize) {
    out.put_u8(field << 3 | 2);
    encode_varint(length as u64, out);
}

fn put_text(out: &mut BytesMut, field: u8, text: &str) {
    if !text.is_empty() {
        put_key(out, field, text.len());
        out.put_slice(text.as_bytes());
    }
}

fn dims_length(tensor: &Tensor) -> usize {
    tensor
        .shape
        .iter()
        .map(|dim| encoded_len_varint(dim.cast_unsigned()))
        .sum()
}

fn tensor_length(tensor: &Tensor) -> usize {
    let dims = dims_length(tensor);
    text_length(&tensor.name)
        + text_length(tensor.datatype.name())
        + if dims == 0 { 0 } else { block_length(dims) }
}

fn put_tensor(out: &mut BytesMut, tensor: &Tensor) {
    put_text(out, 1, &tensor.name);
    put_text(out, 2, tensor.datatype.name());
    let dims = dims_length(tensor);
    if dims > 0 {
        put_key(out, 3, dims);
        tensor
            .shape
            .iter()
            .for_each(|dim| encode_varint(dim.cast_unsigned(), out));
    }
}

/// The content of an `InferParameter`: a oneof, so that zero and the empty text are written too.
fn value_length(value: &Parameter) -> usize {
    match value {
        Parameter::Bool(_) => 2,
        Parameter::Int(value) => 1 + encoded_len_varint(value.cast_unsigned()),
        Parameter::Uint(value) => 1 + encoded_len_varint(*value),
        Parameter::Double(_) => 9,
        Parameter::String(text) => block_length(text.len()),
    }
}

fn entry_length(key: &str, value: &Parameter) -> usize {
    block_length(key.len()) + block_length(value_length(value))
}

fn put_entry(out: &mut BytesMut, key: &str, value: &Parameter) {
    put_key(out, 1, key.len());
    out.put_slice(key.as_bytes());
    put_key(out, 2, value_length(value));
    match value {
        Parameter::Bool(value) => out.put_slice(&[1 << 3, u8::from(*value)]),
        Parameter::Int(value) => {
            out.put_u8(2 << 3);
            encode_varint(value.cast_unsigned(), out);
        }
        Parameter::String(text) => {
            put_key(out, 3, text.len());
            out.put_slice(text.as_bytes());
        }
        Parameter::Double(value) => {
            out.put_u8(4 << 3 | 1);
            out.put_f64_le(*value);
        }
        Parameter::Uint(value) => {
            out.put_u8(5 << 3);
            encode_varint(*value, out);
        }
    }
}
