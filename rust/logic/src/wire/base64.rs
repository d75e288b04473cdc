// SPDX-License-Identifier: Apache-2.0
//! BYTES elements as `{"b64": "..."}`: JSON for bytes that are no text, as TensorFlow Serving and KServe's V1
//! have it. Padding may be missing; the alphabet is the standard one.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};

use super::json::{Kind, Reader, Syntax};

const CODEC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The only member of such an object.
const MEMBER: &[u8] = b"b64";

/// What is not such an element.
pub enum Fault {
    /// The text is not JSON.
    Syntax(Syntax),
    /// An object of another kind.
    Other,
    /// The object is wrong in a way that the text tells.
    Wrong(String),
}

impl From<Syntax> for Fault {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

/// Whether the object that is next may be such an element: its first member is called so.
pub fn is_next(json: &Reader<'_>) -> bool {
    let mut ahead = Reader::new(json.bytes());
    ahead.seek(json.position());
    ahead.kind() == Kind::Object && {
        ahead.enter();
        matches!(ahead.member(&mut true), Ok(Some(name)) if name.bytes() == MEMBER)
    }
}

/// Reads the object that is next as an element in wire layout.
pub fn read(json: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !is_next(json) {
        json.skip()?;
        return Err(Fault::Other);
    }
    json.enter();
    let (mut start, at) = (true, out.len());
    while let Some(name) = json.member(&mut start)? {
        if name.bytes() != MEMBER || out.len() > at || json.kind() != Kind::String {
            let text = "is an object with \"b64\", which must be a string and the only member";
            return Err(Fault::Wrong(text.to_owned()));
        }
        let text = json.text()?;
        out.extend_from_slice(&[0; LENGTH]);
        CODEC
            .decode_vec(text.bytes(), out)
            .map_err(|why| wrong(&why))?;
    }
    // A body of more than 4 GiB would be needed for it not to fit.
    let length = u32::try_from(out.len() - at - LENGTH).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + LENGTH) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// The bytes of an element's length.
const LENGTH: usize = size_of::<u32>();

#[cold]
fn wrong(why: &DecodeError) -> Fault {
    let why = match why {
        DecodeError::InvalidByte(at, byte) => {
            format!("{:?} at {at} is none of its letters", char::from(*byte))
        }
        DecodeError::InvalidLength(_) => "it ends in the middle of a byte".to_owned(),
        DecodeError::InvalidLastSymbol { .. } => "its last letter has bits left over".to_owned(),
        DecodeError::InvalidPadding => "it is padded wrongly".to_owned(),
    };
    Fault::Wrong(format!("is no base64: {why}"))
}

/// Writes the bytes of an element.
pub fn write(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"b64\":\"");
    let at = out.len();
    let length = base64::encoded_len(bytes.len(), true).unwrap_or(0);
    out.resize(at + length, 0);
    // There is room for exactly this.
    let written = out
        .get_mut(at..)
        .and_then(|place| CODEC.encode_slice(bytes, place).ok());
    out.truncate(at + written.unwrap_or(0));
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<Vec<u8>, String> {
        let mut out = b"before".to_vec();
        let mut json = Reader::new(text.as_bytes());
        match read(&mut json, &mut out) {
            Ok(()) => {
                assert_eq!(json.remaining(), 0, "{text}");
                Ok(out.split_off(6))
            }
            Err(Fault::Syntax(syntax)) => Err(syntax.what.to_owned()),
            Err(Fault::Other) => Err("other".to_owned()),
            Err(Fault::Wrong(text)) => Err(text),
        }
    }

    #[test]
    fn every_length_comes_back() {
        for length in 0..70_u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37) ^ 0x80).collect();
            let mut text = Vec::new();
            write(&mut text, &bytes);
            let element = told(str::from_utf8(&text).unwrap()).unwrap();
            assert_eq!(element[..4], u32::from(length).to_le_bytes());
            assert_eq!(element[4..], bytes);
        }
        assert_eq!(
            told(r#" { "b64" : "\u002f\/8" } "#.trim()).unwrap(),
            b"\x02\0\0\0\xff\xff"
        );
    }

    #[test]
    fn what_is_no_such_element_is_told() {
        for (text, why) in [
            (r#"{"a": 1}"#, "other"),
            ("{}", "other"),
            (r#"{"b64": 5}"#, "must be a string and the only member"),
            (r#"{"b64": "", "b64": ""}"#, "the only member"),
            (r#"{"b64": "", "a": ""}"#, "the only member"),
            (
                r#"{"b64": "a_=="}"#,
                "is no base64: '_' at 1 is none of its letters",
            ),
            (r#"{"b64": "abcde"}"#, "it ends in the middle of a byte"),
            (r#"{"b64": "ab"}"#, "its last letter has bits left over"),
            (r#"{"b64": "YQ=a"}"#, "is no base64"),
            (r#"{"b64": "YQ=="#, "Missing a closing quotation mark"),
        ] {
            let refused = told(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
