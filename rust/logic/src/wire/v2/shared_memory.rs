// SPDX-License-Identifier: Apache-2.0
//! What a client says of a region of shared memory when it registers one (`spec/triton.md` 1.8).

use super::request::first;
use super::{Failure, NON_STRING, NON_UNSIGNED};
use crate::error::Error;
use crate::wire::json::{self, Kind, Reader};

/// The body of a request to register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The name of the shared memory object.
    pub key: String,
    /// Where the region begins in it, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub byte_size: u64,
}

/// Reads the body of a request to register system shared memory.
///
/// # Errors
/// If it is not JSON, lacks `key` or `byte_size`, or one of them is of the wrong kind, in Triton's words.
pub fn parse_registration(body: &[u8]) -> Result<Registration, Error> {
    json::validate(body)?;
    read(body).map_err(|failure| failure.told(body))
}

fn read(body: &[u8]) -> Result<Registration, Failure> {
    let mut json = Reader::new(body);
    let (mut key, mut offset, mut size) = (None, None, None);
    let (mut has_key, mut has_offset, mut has_size) = (false, false, false);
    if json.kind() == Kind::Object {
        json.enter();
        let mut start = true;
        while let Some(member) = json.member(&mut start)? {
            match member.bytes() {
                b"key" if first(&mut has_key) => key = Some(text(&mut json)?),
                b"offset" if first(&mut has_offset) => offset = Some(unsigned(&mut json)?),
                b"byte_size" if first(&mut has_size) => size = Some(unsigned(&mut json)?),
                _ => json.skip()?,
            }
        }
    }
    Ok(Registration {
        key: key.ok_or_else(|| missing("key"))?,
        offset: offset.unwrap_or(0),
        byte_size: size.ok_or_else(|| missing("byte_size"))?,
    })
}

fn missing(field: &str) -> Error {
    Error::invalid(format!(
        "Shared memory register request has no '{field}' field"
    ))
}

fn text(json: &mut Reader<'_>) -> Result<String, Failure> {
    match json.kind() {
        Kind::String => Ok(String::from_utf8_lossy(json.text()?.bytes()).into_owned()),
        _ => Err(Error::invalid(NON_STRING).into()),
    }
}

fn unsigned(json: &mut Reader<'_>) -> Result<u64, Failure> {
    let number = match json.kind() {
        Kind::Number => json.number()?.as_uint(),
        _ => None,
    };
    number.ok_or_else(|| Error::invalid(NON_UNSIGNED).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_names_key_and_size() {
        let read = |text: &str| parse_registration(text.as_bytes());
        let full = read(r#"{"key":"/a","offset":16,"byte_size":32,"color":[1]}"#).unwrap();
        assert_eq!((&*full.key, full.offset, full.byte_size), ("/a", 16, 32));
        assert_eq!(read(r#"{"byte_size":3,"key":"k"}"#).unwrap().offset, 0);
        for (text, told) in [
            (r#"{"byte_size":3}"#, "has no 'key' field"),
            (r#"{"key":"k"}"#, "has no 'byte_size' field"),
            ("[]", "has no 'key' field"),
            (r#"{"key":1,"byte_size":3}"#, NON_STRING),
            (r#"{"key":"k","byte_size":-1}"#, NON_UNSIGNED),
            (r#"{"key":"k","byte_size":3,"offset":"1"}"#, NON_UNSIGNED),
            (
                "",
                "failed to parse the request JSON buffer: The document is empty. at 0",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.ends_with(told), "{text}: {error}");
        }
    }
}
