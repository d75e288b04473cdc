// SPDX-License-Identifier: Apache-2.0
//! Writing JSON values as rapidjson's writer does, byte by byte.

use super::string::plain_until;

/// Appends an integer.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a string in quotes. Bytes that are not UTF-8 are written as they are.
#[inline]
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let mut from = 0;
    loop {
        let until = plain_until(bytes, from);
        out.extend_from_slice(&bytes[from..until]);
        match bytes.get(until) {
            None => break,
            Some(byte) => escape(out, *byte),
        }
        from = until + 1;
    }
    out.push(b'"');
}

#[cold]
fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let short = match byte {
        8 => b'b',
        12 => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0..=0x1f => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
        _ => byte,
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a double: shortest digits that lead back to it, always with a point or an exponent; `NaN`
/// and `Infinity` as such, which strict parsers refuse but Triton's clients expect.
#[inline]
pub fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value).as_bytes();
        match if is_plain(value) {
            None
        } else {
            text.iter().rposition(|byte| *byte == b'e')
        } {
            None => out.extend_from_slice(text),
            Some(e) => with_exponent(out, text, e),
        }
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        });
    }
}

/// The texts of [`doubles`] that are passed on together, and the room that the longest of them take.
const BLOCK: usize = 32;
const LONGEST: usize = 24;

/// Appends doubles, each with a comma behind it.
///
/// A block of texts is laid out in an array, where copies of a fixed size may run past a text's end:
/// asking the vector for room, and calling `memmove` for each text, took as long as finding its digits.
pub fn doubles(out: &mut Vec<u8>, values: impl Iterator<Item = f64>) {
    let mut buffer = zmij::Buffer::new();
    let (mut block, mut end) = ([0; BLOCK * (LONGEST + 1)], 0);
    for value in values {
        if end + LONGEST >= block.len() {
            out.extend_from_slice(&block[..end]);
            end = 0;
        }
        if !is_plain(value) {
            out.extend_from_slice(&block[..end]);
            end = 0;
            double(out, value);
            out.push(b',');
            continue;
        }
        let text = buffer.format_finite(value).as_bytes();
        let room = &mut block[end..=end + LONGEST];
        if let (Some(first), Some(last)) = (text.first_chunk::<16>(), text.last_chunk::<8>()) {
            room[..16].copy_from_slice(first);
            room[text.len() - 8..text.len()].copy_from_slice(last);
        } else {
            room[..text.len()].copy_from_slice(text);
        }
        room[text.len()] = b',';
        end += text.len() + 1;
    }
    out.extend_from_slice(&block[..end]);
}

/// Whether zmij writes a number as rapidjson does, without an exponent: told by its size, sooner than
/// by looking for an `e`.
#[inline]
fn is_plain(value: f64) -> bool {
    (1e-5..1e16).contains(&value.abs()) || value == 0.0
}

/// rapidjson writes an exponent only from 1e21 on and below 1e-6, so the others are laid out here.
#[cold]
fn with_exponent(out: &mut Vec<u8>, text: &[u8], e: usize) {
    let exponent = str::from_utf8(&text[e + 1..])
        .ok()
        .and_then(|text| text.parse::<i32>().ok());
    let negative = usize::from(text[0] == b'-');
    let digits = text[negative..e]
        .iter()
        .copied()
        .filter(|byte| *byte != b'.');
    out.extend_from_slice(&text[..negative]);
    match exponent {
        Some(exponent @ 0..21) => {
            let before = exponent.unsigned_abs() as usize + 1;
            let from = out.len();
            out.extend(digits);
            let written = out.len() - from;
            if written > before {
                out.insert(from + before, b'.');
            } else {
                out.resize(from + before, b'0');
                out.extend_from_slice(b".0");
            }
        }
        Some(exponent @ -6..0) => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + exponent.unsigned_abs() as usize - 1, b'0');
            out.extend(digits);
        }
        Some(exponent) => {
            out.extend_from_slice(&text[negative..=e]);
            integer(out, exponent);
        }
        None => out.extend_from_slice(&text[negative..]),
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    fn one_by_one(values: &[f64]) -> String {
        let mut out = Vec::new();
        for value in values {
            double(&mut out, *value);
            out.push(b',');
        }
        String::from_utf8(out).unwrap()
    }

    fn in_blocks(values: &[f64]) -> String {
        let mut out = Vec::new();
        doubles(&mut out, values.iter().copied());
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn blocks_have_the_same_texts(
            doubles: Vec<u64>, singles: Vec<u32>, halves: Vec<u16>, plain in prop::collection::vec(-9e9..9e9, 0..200)
        ) {
            let mut values: Vec<f64> = doubles.into_iter().map(f64::from_bits).collect();
            values.extend(singles.into_iter().map(|bits| f64::from(f32::from_bits(bits))));
            values.extend(halves.into_iter().map(|bits| f16::from_bits(bits).to_f64()));
            values.extend(plain);
            values.extend([0.0, -0.0, 1e-5, 9.999e-6, 1e16, -1e16, f64::NAN, f64::INFINITY, 5e-324]);
            prop_assert_eq!(in_blocks(&values), one_by_one(&values));
            values.reverse();
            prop_assert_eq!(in_blocks(&values), one_by_one(&values));
        }
    }

    #[test]
    fn doubles_look_as_rapidjson_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (f64::from(1.1_f32), "1.100000023841858"),
            (123.123, "123.123"),
            (9_007_199_254_740_992.0, "9007199254740992.0"),
            (1e16, "10000000000000000.0"),
            (-1.5e17, "-150000000000000000.0"),
            (1e20, "100000000000000000000.0"),
            (123_456_789_012_345_680_000.0, "123456789012345680000.0"),
            (1e21, "1e21"),
            (1.5e33, "1.5e33"),
            (1e308, "1e308"),
            (-5e-324, "-5e-324"),
            (0.001, "0.001"),
            (0.000_012, "0.000012"),
            (0.000_001, "0.000001"),
            (0.000_001_25, "0.00000125"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut out = Vec::new();
            double(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_rapidjson_does() {
        let mut out = Vec::new();
        string(
            &mut out,
            "q\"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}/é😀 plain".as_bytes(),
        );
        assert_eq!(
            out,
            "\"q\\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001F/é😀 plain\"".as_bytes()
        );
    }
}
