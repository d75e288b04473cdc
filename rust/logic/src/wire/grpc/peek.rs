// SPDX-License-Identifier: Apache-2.0
//! What must be known of a message before it is known whether its sender may send it.

use bytes::Bytes;
use bytestring::ByteString;

use super::reader::{Reader, Wire};
use crate::error::Error;

/// The text of a field of a message, read as whoever decodes the message later will read it: of a field
/// that was sent more than once the last counts, and one that was not sent is empty.
///
/// # Errors
/// INTERNAL `Unable to parse request` if that would not be possible.
pub fn text_field(message: &Bytes, number: u32) -> Result<ByteString, Error> {
    let mut text = ByteString::new();
    let mut reader = Reader::whole(message);
    while let Some((field, wire)) = reader.field()? {
        if field != number {
            reader.skip(field, wire)?;
        } else if wire == Wire::Block {
            text = reader.block()?.text(message)?;
        } else {
            return Err(super::reader::Malformed.into());
        }
    }
    Ok(text)
}

/// Whether a field of a message was sent.
///
/// # Errors
/// INTERNAL `Unable to parse request` if it is no message.
pub fn has_field(message: &Bytes, number: u32) -> Result<bool, Error> {
    let mut reader = Reader::whole(message);
    while let Some((field, wire)) = reader.field()? {
        if field == number {
            return Ok(true);
        }
        reader.skip(field, wire)?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_field_counts_as_in_every_decoder() {
        let bytes = |text: &'static [u8]| Bytes::from_static(text);
        for (message, number, expect) in [
            (bytes(b"\x0a\x01a"), 1, Ok("a")),
            (bytes(b"\x0a\x01a\x12\x01x\x0a\x01b"), 1, Ok("b")),
            (bytes(b"\x0a\x01a\x0a\x00"), 1, Ok("")),
            (bytes(b"\x12\x01x"), 1, Ok("")),
            (bytes(b"\x0a\x01a\x12\x02bc"), 2, Ok("bc")),
            (bytes(b"\x08\x01"), 1, Err(())),
            (bytes(b"\x0a\x05a"), 1, Err(())),
            (bytes(b"\x0a\x01\xff"), 1, Err(())),
        ] {
            let told = text_field(&message, number).map_err(drop);
            assert_eq!(
                told.as_deref(),
                expect.as_ref().map(|text| *text),
                "{message:?}"
            );
        }
        assert_eq!(has_field(&bytes(b"\x12\x00\x0a\x00"), 1), Ok(true));
        assert_eq!(has_field(&bytes(b"\x12\x00"), 1), Ok(false));
    }
}
