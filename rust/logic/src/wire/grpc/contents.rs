// SPDX-License-Identifier: Apache-2.0
//! Typed tensor contents (`InferTensorContents`) as little-endian bytes.
//!
//! Packed 4- and 8-byte floats lie in the message as the tensor wants them and are not copied.

use bytes::Bytes;
use smallvec::SmallVec;

use super::reader::{Malformed, Reader, Span, Wire};
use crate::DataType;
use crate::error::Error;

/// The occurrences of one input's `contents` field, which protobuf merges.
pub type Spans = SmallVec<[Span; 1]>;

/// Contents that are sound protobuf but no data for their input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// They are of this type, and the input is not.
    Type(DataType),
    /// Two fields are filled.
    Twice,
    /// This number does not fit into the input's type.
    Range(i64),
}

impl Mistake {
    /// What the client reads.
    #[must_use]
    pub fn into_error(self, input: &str, model: &str, datatype: Option<DataType>) -> Error {
        let expected = datatype.map_or("<invalid>", DataType::name);
        Error::invalid(match self {
            Self::Type(given) => format!(
                "unexpected explicit tensor data for input tensor '{input}' for model '{model}' of \
                 type '{}', expected datatype '{expected}'",
                given.name()
            ),
            Self::Twice => format!(
                "unexpected explicit tensor data for input tensor '{input}' for model '{model}', \
                 binary data was already supplied."
            ),
            Self::Range(value) => format!(
                "value {value} of input tensor '{input}' for model '{model}' is out of range for \
                 datatype '{expected}'"
            ),
        })
    }
}

/// The fields of `InferTensorContents`: the type each is called in errors, and how one element is sent.
/// The order is that of the field numbers, from 1.
const FIELDS: [(DataType, Wire); 8] = [
    (DataType::Bool, Wire::Varint),
    (DataType::Int32, Wire::Varint),
    (DataType::Int64, Wire::Varint),
    (DataType::Uint32, Wire::Varint),
    (DataType::Uint64, Wire::Varint),
    (DataType::Fp32, Wire::Fixed32),
    (DataType::Fp64, Wire::Fixed64),
    (DataType::Bytes, Wire::Block),
];

/// The data of an input of type `datatype` whose contents lie at `spans`.
///
/// The message is walked twice rather than noted down: a note of every element that comes by itself
/// would be sixteen times its size.
///
/// # Errors
/// Outer: the bytes are no protobuf message. Inner: they do not fit the input.
pub fn read(
    message: &Bytes,
    spans: &[Span],
    datatype: Option<DataType>,
) -> Result<Result<Bytes, Mistake>, Malformed> {
    let mut filled = [false; FIELDS.len()];
    let (mut last, mut count, mut size) = (None, 0_usize, 0_usize);
    each_chunk(message, spans, |index, chunk| {
        filled[index] = true;
        (last, count) = (Some(chunk), count + 1);
        size += datatype.map_or(0, |datatype| bytes_of(message, chunk, datatype));
        Ok(())
    })?;
    let mut fields = (0..FIELDS.len()).filter(|index| filled[*index]);
    let Some(first) = fields.next() else {
        return Ok(Ok(Bytes::new()));
    };
    if !accepts(first, datatype) {
        return Ok(Err(Mistake::Type(FIELDS[first].0)));
    }
    if fields.next().is_some() {
        return Ok(Err(Mistake::Twice));
    }
    let datatype = datatype.unwrap_or(FIELDS[first].0);
    let only = last.filter(|_| count == 1);
    if let Some(span) = only.and_then(|chunk| as_it_is(message, chunk, datatype)) {
        return Ok(Ok(span.slice(message)));
    }
    convert(message, spans, datatype, size)
}

/// One occurrence of a repeated field.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    /// Any number of elements, one behind the other.
    Packed(Span),
    /// A number by itself.
    Varint(u64),
    /// Fixed-size bytes or a string by itself.
    Single(Span),
}

/// Calls `keep` with every occurrence that has elements, and the index of its field.
fn each_chunk(
    message: &Bytes,
    spans: &[Span],
    mut keep: impl FnMut(usize, Chunk) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for span in spans {
        let mut reader = Reader::new(message, *span)?;
        while let Some((field, wire)) = reader.field()? {
            let index = field as usize - 1;
            let Some((_, element)) = FIELDS.get(index) else {
                reader.skip(field, wire)?;
                continue;
            };
            let chunk = read_chunk(&mut reader, wire, *element)?;
            if !matches!(chunk, Chunk::Packed(span) if span.start == span.end) {
                complete(index, chunk, message)?;
                keep(index, chunk)?;
            }
        }
    }
    Ok(())
}

fn read_chunk(reader: &mut Reader<'_>, wire: Wire, element: Wire) -> Result<Chunk, Malformed> {
    match (wire, element) {
        (Wire::Block, Wire::Block) => reader.block().map(Chunk::Single),
        (Wire::Block, _) => reader.block().map(Chunk::Packed),
        (Wire::Varint, Wire::Varint) => reader.varint().map(Chunk::Varint),
        (Wire::Fixed32, Wire::Fixed32) => reader.span::<4>().map(Chunk::Single),
        (Wire::Fixed64, Wire::Fixed64) => reader.span::<8>().map(Chunk::Single),
        _ => Err(Malformed),
    }
}

/// Looks whether the elements of `chunk` are whole, so that a broken message is told apart from a
/// wrong one.
fn complete(index: usize, chunk: Chunk, message: &Bytes) -> Result<(), Malformed> {
    let Chunk::Packed(span) = chunk else {
        return Ok(());
    };
    let length = span.end - span.start;
    let whole = match FIELDS[index].1 {
        Wire::Fixed32 => length.is_multiple_of(4),
        Wire::Fixed64 => length.is_multiple_of(8),
        _ => message.get(span.end - 1).is_some_and(|last| *last < 0x80),
    };
    if whole { Ok(()) } else { Err(Malformed) }
}

/// Whether field `index` can carry `datatype`: small integers travel in the 32-bit fields.
fn accepts(index: usize, datatype: Option<DataType>) -> bool {
    use DataType::{Int8, Int16, Int32, Uint8, Uint16, Uint32};
    datatype.is_some_and(|datatype| match FIELDS[index].0 {
        Int32 => matches!(datatype, Int8 | Int16 | Int32),
        Uint32 => matches!(datatype, Uint8 | Uint16 | Uint32),
        exact => datatype == exact,
    })
}

/// The part of the message that already is the tensor, if it is.
fn as_it_is(message: &Bytes, chunk: Chunk, datatype: DataType) -> Option<Span> {
    let Chunk::Packed(span) = chunk else {
        return None;
    };
    let fits = match datatype {
        DataType::Fp32 | DataType::Fp64 => true,
        DataType::Bool => message
            .get(span.start..span.end)
            .is_some_and(|bytes| bytes.iter().all(|byte| *byte < 2)),
        _ => false,
    };
    fits.then_some(span)
}

fn convert(
    message: &Bytes,
    spans: &[Span],
    datatype: DataType,
    size: usize,
) -> Result<Result<Bytes, Mistake>, Malformed> {
    let mut out = Vec::with_capacity(size);
    let mut mistake = None;
    each_chunk(message, spans, |_, chunk| {
        let span = match chunk {
            Chunk::Varint(value) => {
                mistake = mistake.or(put(&mut out, datatype, value).err());
                return Ok(());
            }
            Chunk::Packed(span) | Chunk::Single(span) => span,
        };
        let bytes = message.get(span.start..span.end).ok_or(Malformed)?;
        match datatype {
            DataType::Fp32 | DataType::Fp64 => out.extend_from_slice(bytes),
            DataType::Bytes => {
                let length = u32::try_from(bytes.len()).map_err(|_| Malformed)?;
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            _ => {
                let mut reader = Reader::new(message, span)?;
                while !reader.is_done() {
                    mistake = mistake.or(put(&mut out, datatype, reader.varint()?).err());
                }
            }
        }
        Ok(())
    })?;
    Ok(mistake.map_or_else(|| Ok(Bytes::from(out)), Err))
}

/// Exactly the bytes that the elements of `chunk` become.
fn bytes_of(message: &Bytes, chunk: Chunk, datatype: DataType) -> usize {
    match (chunk, datatype.size()) {
        (Chunk::Packed(span), Some(size)) if !is_float(datatype) => {
            let bytes = message.get(span.start..span.end).unwrap_or_default();
            bytes.iter().filter(|byte| **byte < 0x80).count() * size
        }
        (Chunk::Packed(span), _) => span.end - span.start,
        (Chunk::Single(span), None) => 4 + span.end - span.start,
        (Chunk::Single(_) | Chunk::Varint(_), size) => size.unwrap_or_default(),
    }
}

const fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp32 | DataType::Fp64)
}

/// Appends a number. Protobuf lets 32-bit fields carry 64 bits, of which the low ones count; but what
/// does not fit into an 8- or 16-bit tensor is a mistake of the client's, unlike in Triton, which wraps
/// (vector `gi_typed_uint8_over`).
#[inline]
#[allow(clippy::cast_possible_truncation)]
fn put(out: &mut Vec<u8>, datatype: DataType, value: u64) -> Result<(), Mistake> {
    let signed = (value as u32).cast_signed();
    let unsigned = value as u32;
    match datatype {
        DataType::Bool => out.push(u8::from(value != 0)),
        DataType::Int8 => out.extend_from_slice(&fit::<i8, _>(signed)?.to_le_bytes()),
        DataType::Int16 => out.extend_from_slice(&fit::<i16, _>(signed)?.to_le_bytes()),
        DataType::Int32 => out.extend_from_slice(&signed.to_le_bytes()),
        DataType::Uint8 => out.push(fit::<u8, _>(unsigned)?),
        DataType::Uint16 => out.extend_from_slice(&fit::<u16, _>(unsigned)?.to_le_bytes()),
        DataType::Uint32 => out.extend_from_slice(&unsigned.to_le_bytes()),
        _ => out.extend_from_slice(&value.to_le_bytes()),
    }
    Ok(())
}

fn fit<To: TryFrom<From>, From: Copy + Into<i64>>(value: From) -> Result<To, Mistake> {
    To::try_from(value).map_err(|_| Mistake::Range(value.into()))
}
