// SPDX-License-Identifier: Apache-2.0
//! Request, input and output parameters: maps of `InferParameter`, and the keys that the server itself
//! understands (`spec/triton.md` 0.3 and 2.3).

use bytes::Bytes;
use bytestring::ByteString;

use super::reader::{Malformed, Reader, Span, Wire};
use crate::error::Error;
use crate::message::{Control, CorrelationId, Parameter, Parameters, Window};

/// A map as it was sent: of equal keys the last counts, and a value may be missing.
pub type Map = Vec<(ByteString, Option<Parameter>)>;

/// Most entries of one map; looking for equal keys is quadratic.
const MOST: usize = 1024;

/// Adds the entry at `span` to `map`.
pub fn read_entry(message: &Bytes, span: Span, map: &mut Map) -> Result<(), Malformed> {
    let (mut key, mut value) = (ByteString::new(), None);
    let mut reader = Reader::new(message, span)?;
    while let Some((field, wire)) = reader.field()? {
        match (field, wire) {
            (1, Wire::Block) => key = reader.block()?.text(message)?,
            (2, Wire::Block) => value = read_value(message, reader.block()?)?.or(value),
            (1 | 2, _) => return Err(Malformed),
            _ => reader.skip(field, wire)?,
        }
    }
    if let Some((_, known)) = map.iter_mut().find(|(known, _)| *known == key) {
        *known = value;
    } else if map.len() < MOST {
        map.push((key, value));
    } else {
        return Err(Malformed);
    }
    Ok(())
}

fn read_value(message: &Bytes, span: Span) -> Result<Option<Parameter>, Malformed> {
    let mut value = None;
    let mut reader = Reader::new(message, span)?;
    while let Some((field, wire)) = reader.field()? {
        value = Some(match (field, wire) {
            (1, Wire::Varint) => Parameter::Bool(reader.varint()? != 0),
            (2, Wire::Varint) => Parameter::Int(reader.varint()?.cast_signed()),
            (3, Wire::Block) => Parameter::String(reader.block()?.text(message)?),
            (4, Wire::Fixed64) => Parameter::Double(f64::from_le_bytes(reader.fixed()?)),
            (5, Wire::Varint) => Parameter::Uint(reader.varint()?),
            (1..=5, _) => return Err(Malformed),
            _ => {
                reader.skip(field, wire)?;
                continue;
            }
        });
    }
    Ok(value)
}

/// The value of `key`, if it was sent.
pub fn find<'a>(map: &'a Map, key: &str) -> Option<&'a Option<Parameter>> {
    map.iter()
        .find(|(known, _)| *known == key)
        .map(|(_, value)| value)
}

/// The part of shared memory that the parameters of tensor `tensor` name, if they name one.
pub fn window(map: &Map, tensor: &str) -> Result<Option<Window>, Error> {
    const SIZE: &str = "shared_memory_byte_size";
    let region = match find(map, "shared_memory_region") {
        None => return Ok(None),
        Some(Some(Parameter::String(region))) => region.clone(),
        Some(_) => return Err(wrong_type("shared_memory_region", "string_param")),
    };
    let number = |key: &str| match find(map, key) {
        None => Ok(None),
        // Negative ones lie outside of every region.
        Some(Some(Parameter::Int(value))) => Ok(Some(u64::try_from(*value).unwrap_or(u64::MAX))),
        Some(_) => Err(wrong_type(key, "int64_param")),
    };
    let size = number(SIZE)?.ok_or_else(|| {
        Error::invalid(format!(
            "'{SIZE}' must be specified along with 'shared_memory_region' parameter for tensor \
             '{tensor}'"
        ))
    })?;
    let offset = number("shared_memory_offset")?.unwrap_or(0);
    Ok(Some(Window {
        region,
        offset,
        size,
    }))
}

/// Parts what the server understands from what goes to the model.
pub fn split(map: Map) -> Result<(Control, Parameters), Error> {
    let (mut control, mut custom) = (Control::default(), Parameters::new());
    for (key, value) in map {
        match &*key {
            "sequence_id" => control.correlation_id = correlation_id(value)?,
            "sequence_start" => control.sequence_start = flag(&key, value)?,
            "sequence_end" => control.sequence_end = flag(&key, value)?,
            "priority" => control.priority = priority(value)?,
            "timeout" => control.timeout_us = timeout(value)?,
            "triton_enable_empty_final_response" => control.empty_final = flag(&key, value)?,
            reserved if reserved.starts_with("triton_") => {
                return Err(Error::invalid(
                    "parameter keys starting with 'triton_' are reserved for Triton usage. Only the \
                     following keys starting with 'triton_' are allowed: \
                     triton_enable_empty_final_response",
                ));
            }
            _ => match value {
                Some(Parameter::Uint(_)) | None => {
                    return Err(wrong_type(&key, "int64_param, bool_param, or string_param"));
                }
                Some(value) => custom.push((key, value)),
            },
        }
    }
    Ok((control, custom))
}

fn correlation_id(value: Option<Parameter>) -> Result<CorrelationId, Error> {
    match value {
        Some(Parameter::Int(0)) => Ok(CorrelationId::None),
        Some(Parameter::Int(id)) => Ok(CorrelationId::Number(id.cast_unsigned())),
        Some(Parameter::String(id)) if id.is_empty() => Ok(CorrelationId::None),
        Some(Parameter::String(id)) => Ok(CorrelationId::Text(id)),
        _ => Err(wrong_type("sequence_id", "int64_param or string_param")),
    }
}

fn flag(key: &str, value: Option<Parameter>) -> Result<bool, Error> {
    match value {
        Some(Parameter::Bool(value)) => Ok(value),
        _ => Err(wrong_type(key, "bool_param")),
    }
}

fn priority(value: Option<Parameter>) -> Result<u64, Error> {
    match value {
        Some(Parameter::Uint(level)) => Ok(level),
        Some(Parameter::Int(level)) => u64::try_from(level).map_err(|_| {
            Error::invalid(format!(
                "invalid value {level} for 'priority' parameter, expected >= 0"
            ))
        }),
        _ => Err(wrong_type("priority", "int64_param or uint64_param")),
    }
}

fn timeout(value: Option<Parameter>) -> Result<u64, Error> {
    match value {
        // Triton reads a negative timeout as an endless one, which never shortens the model's.
        Some(Parameter::Int(us)) => Ok(u64::try_from(us).unwrap_or(0)),
        _ => Err(wrong_type("timeout", "int64_param")),
    }
}

fn wrong_type(key: &str, expected: &str) -> Error {
    Error::invalid(format!(
        "invalid value type for '{key}' parameter, expected {expected}."
    ))
}
