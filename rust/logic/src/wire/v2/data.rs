// SPDX-License-Identifier: Apache-2.0
//! A `data` array, flat or nested in any way, straight into a tensor's bytes.

use half::{bf16, f16};

use crate::DataType;
use crate::wire::base64;
use crate::wire::json::{
    MAX_DEPTH, MISS_COMMA_OR_BRACKET, Number, Reader, Syntax, VALUE_INVALID, blank, long_double_at,
    number_at, peek, plain_double, plain_single,
};

/// What is wrong with an element.
pub enum Fault {
    /// The text is not JSON.
    Syntax(Syntax),
    /// The element is of another kind.
    Kind(&'static str),
    /// The element is an integer that the type does not hold.
    Range(Number),
    /// Arrays are nested too deep.
    Depth,
    /// The element is no base64; the text says why.
    Base64(String),
}

impl From<Syntax> for Fault {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

const NON_NUMBER: &str = "Unable to parse 'data': attempt to access JSON non-number as double";
const NON_SIGNED: &str =
    "Unable to parse 'data': attempt to access JSON non-signed-integer as signed-integer";
const NON_UNSIGNED: &str =
    "Unable to parse 'data': attempt to access JSON non-unsigned-integer as unsigned-integer";
const NON_BOOLEAN: &str = "Unable to parse 'data': attempt to access JSON non-boolean as boolean";
const NON_STRING: &str =
    "Unable to parse JSON bytes array: attempt to access JSON non-string as string";

/// The elements of an array in wire layout, and their number.
pub struct Elements {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: usize,
}

/// Reads the array that is next as elements of `datatype`, of which `expected` are likely to come.
///
/// FP16 and BF16, which Triton does not take as JSON, are numbers like any other: the nearest one counts.
pub fn read_array(
    reader: &mut Reader<'_>,
    datatype: DataType,
    expected: usize,
) -> Result<Elements, Fault> {
    // An element takes two bytes of JSON, so that what is reserved is bounded by what was sent.
    let expected = expected.min(reader.remaining() / 2 + 1);
    match datatype {
        DataType::Fp32 => fill(reader, expected, fp32),
        DataType::Fp16 => fill(reader, expected, |bytes, at| {
            let (value, end) = double(bytes, at)?;
            Ok((f16::from_f64(value).to_le_bytes(), end))
        }),
        DataType::Bf16 => fill(reader, expected, |bytes, at| {
            let (value, end) = double(bytes, at)?;
            Ok((bf16::from_f64(value).to_le_bytes(), end))
        }),
        DataType::Fp64 => fill(reader, expected, fp64),
        DataType::Int8 => fill(reader, expected, signed(i8::to_le_bytes)),
        DataType::Int16 => fill(reader, expected, signed(i16::to_le_bytes)),
        DataType::Int32 => fill(reader, expected, signed(i32::to_le_bytes)),
        DataType::Int64 => fill(reader, expected, signed(i64::to_le_bytes)),
        DataType::Uint8 => fill(reader, expected, unsigned(u8::to_le_bytes)),
        DataType::Uint16 => fill(reader, expected, unsigned(u16::to_le_bytes)),
        DataType::Uint32 => fill(reader, expected, unsigned(u32::to_le_bytes)),
        DataType::Uint64 => fill(reader, expected, unsigned(u64::to_le_bytes)),
        DataType::Bool => fill(reader, expected, boolean),
        DataType::Bytes => strings(reader, expected),
    }
}

/// Walks the nested arrays; `each` is called before every element and tells where it ends.
#[inline(always)]
#[allow(clippy::inline_always)]
fn walk(
    reader: &mut Reader<'_>,
    mut each: impl FnMut(&[u8], usize) -> Result<usize, Fault>,
) -> Result<(), Fault> {
    let (bytes, mut at, mut depth) = (reader.bytes(), reader.position(), 0);
    'value: loop {
        at = blank(bytes, at);
        if peek(bytes, at) == b'[' {
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(Fault::Depth);
            }
            at = blank(bytes, at + 1);
            if peek(bytes, at) != b']' {
                continue 'value;
            }
        } else {
            at = each(bytes, at)?;
            // Nearly always.
            if peek(bytes, at) == b',' {
                at += 1;
                continue 'value;
            }
            at = blank(bytes, at);
        }
        loop {
            match peek(bytes, at) {
                b',' => {
                    at += 1;
                    continue 'value;
                }
                b']' => {
                    at += 1;
                    depth -= 1;
                    if depth == 0 {
                        reader.seek(at);
                        return Ok(());
                    }
                    at = blank(bytes, at);
                }
                _ => {
                    return Err(Fault::Syntax(Syntax {
                        what: MISS_COMMA_OR_BRACKET,
                        at,
                    }));
                }
            }
        }
    }
}

/// An element in wire layout, and where it ends.
type Element<const N: usize> = Result<([u8; N], usize), Fault>;

#[inline(always)]
#[allow(clippy::inline_always)]
fn fill<const N: usize>(
    reader: &mut Reader<'_>,
    expected: usize,
    element: impl Fn(&[u8], usize) -> Element<N>,
) -> Result<Elements, Fault> {
    let mut data = Vec::with_capacity(expected * N);
    walk(reader, |bytes, at| {
        let (element, end) = element(bytes, at)?;
        data.extend_from_slice(&element);
        Ok(end)
    })?;
    let count = data.len() / N;
    Ok(Elements { bytes: data, count })
}

/// Each element is at least its length, so `expected` reserves the least that can come.
fn strings(reader: &mut Reader<'_>, expected: usize) -> Result<Elements, Fault> {
    let mut elements = Elements {
        bytes: Vec::with_capacity(expected * 4),
        count: 0,
    };
    let mut inner = Reader::new(reader.bytes());
    walk(reader, |bytes, at| {
        inner.seek(at);
        if peek(bytes, at) != b'"' {
            base64_element(&mut inner, &mut elements.bytes)?;
            elements.count += 1;
            return Ok(inner.position());
        }
        let text = inner.text()?;
        let text = text.bytes();
        // A body of 4 GiB in one string would be needed for it not to fit.
        let length = u32::try_from(text.len()).map_err(|_| Fault::Kind(NON_STRING))?;
        elements.bytes.extend_from_slice(&length.to_le_bytes());
        elements.bytes.extend_from_slice(text);
        elements.count += 1;
        Ok(inner.position())
    })?;
    Ok(elements)
}

/// An element that is an object rather than a string.
#[cold]
fn base64_element(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let (bytes, at) = (reader.bytes(), reader.position());
    if peek(bytes, at) != b'{' {
        return other(bytes, at, NON_STRING);
    }
    base64::read(reader, out).map_err(|fault| match fault {
        base64::Fault::Syntax(syntax) => Fault::Syntax(syntax),
        base64::Fault::Other => Fault::Kind(NON_STRING),
        base64::Fault::Wrong(why) => Fault::Base64(why),
    })
}

/// The fault of an element that is of another kind, or is it no JSON at all?
#[cold]
fn other<T>(bytes: &[u8], at: usize, why: &'static str) -> Result<T, Fault> {
    Err(match peek(bytes, at) {
        0 | b',' | b':' | b']' | b'}' => Fault::Syntax(Syntax {
            what: VALUE_INVALID,
            at,
        }),
        _ => Fault::Kind(why),
    })
}

/// What [`plain_double`] and [`plain_single`] leave over: long numbers, words, and what is no number.
#[cold]
fn rare(bytes: &[u8], at: usize) -> Result<(f64, usize), Fault> {
    match peek(bytes, at) {
        b'0'..=b'9' | b'-' | b'N' | b'I' => Ok(long_double_at(bytes, at)?),
        _ => other(bytes, at, NON_NUMBER),
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn double(bytes: &[u8], at: usize) -> Result<(f64, usize), Fault> {
    plain_double(bytes, at).map_or_else(|| rare(bytes, at), Ok)
}

/// As Triton: through a double, so that 1e39 becomes infinite.
#[inline(always)]
#[allow(clippy::inline_always, clippy::cast_possible_truncation)]
fn fp32(bytes: &[u8], at: usize) -> Element<4> {
    let (value, end) = match plain_single(bytes, at) {
        Some(found) => found,
        None => rare(bytes, at).map(|(value, end)| (value as f32, end))?,
    };
    Ok((value.to_le_bytes(), end))
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn fp64(bytes: &[u8], at: usize) -> Element<8> {
    let (value, end) = double(bytes, at)?;
    Ok((value.to_le_bytes(), end))
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn integer(bytes: &[u8], at: usize, why: &'static str) -> Result<(Number, usize), Fault> {
    match peek(bytes, at) {
        b'0'..=b'9' | b'-' | b'N' | b'I' => Ok(number_at(bytes, at)?),
        _ => other(bytes, at, why),
    }
}

#[inline]
fn signed<T: TryFrom<i64>, const N: usize>(
    layout: fn(T) -> [u8; N],
) -> impl Fn(&[u8], usize) -> Element<N> {
    move |bytes, at| {
        let (number, end) = integer(bytes, at, NON_SIGNED)?;
        let value = number.as_int().ok_or(Fault::Kind(NON_SIGNED))?;
        let value = T::try_from(value).map_err(|_| Fault::Range(number))?;
        Ok((layout(value), end))
    }
}

#[inline]
fn unsigned<T: TryFrom<u64>, const N: usize>(
    layout: fn(T) -> [u8; N],
) -> impl Fn(&[u8], usize) -> Element<N> {
    move |bytes, at| {
        let (number, end) = integer(bytes, at, NON_UNSIGNED)?;
        let value = number.as_uint().ok_or(Fault::Kind(NON_UNSIGNED))?;
        let value = T::try_from(value).map_err(|_| Fault::Range(number))?;
        Ok((layout(value), end))
    }
}

fn boolean(bytes: &[u8], at: usize) -> Element<1> {
    if !matches!(peek(bytes, at), b't' | b'f') {
        return other(bytes, at, NON_BOOLEAN);
    }
    let mut reader = Reader::new(bytes);
    reader.seek(at);
    let value = reader.boolean()?;
    Ok(([u8::from(value)], reader.position()))
}
