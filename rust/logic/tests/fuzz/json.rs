// SPDX-License-Identifier: Apache-2.0
//! JSON by itself: numbers against the standard library, strings and whole texts there and back.

use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::json::{Number, Reader, validate, write};

use crate::hunt::hunt;
use crate::memory::most;
use crate::seeds;

const NUMBERS: [&[u8]; 16] = [
    b"0",
    b"-",
    b".",
    b"e",
    b"E+",
    b"-Inf",
    b"NaN",
    b"Infinity",
    b"9999999999999999999",
    b"00000000",
    b"e-400",
    b"e308",
    b"18446744073709551615",
    b"9223372036854775808",
    b"0.1",
    b"5e-324",
];

/// The word that JSON's number must be a part of: what the standard library reads, it must read alike.
fn number(text: &[u8]) -> String {
    let mut reader = Reader::new(text);
    let number = match reader.number() {
        Ok(number) => number,
        Err(syntax) => return syntax.what.into(),
    };
    let read = str::from_utf8(
        &text[text.len() - reader.remaining() - consumed(text, &reader)..reader.position()],
    )
    .unwrap();
    let value = number.as_double();
    let expected: f64 = read.parse().unwrap();
    assert!(
        value.to_bits() == expected.to_bits()
            || value.is_nan() && expected.is_nan()
            || value == 0.0 && expected == 0.0,
        "{read}"
    );
    match number {
        Number::Uint(whole) => assert_eq!(read.trim_start_matches('-').parse::<u64>(), Ok(whole)),
        Number::Int(whole) => assert_eq!(read.parse::<i64>(), Ok(whole)),
        Number::Double(_) => {}
    }
    let mut out = Vec::new();
    write::double(&mut out, value);
    let again = Reader::new(&out).number().unwrap().as_double();
    assert!(
        again.to_bits() == value.to_bits() || again.is_nan(),
        "{read}"
    );
    format!("{number:?}")
        .chars()
        .filter(char::is_ascii_alphabetic)
        .collect()
}

/// A byte-order mark is passed over, and is no part of what was read.
fn consumed(text: &[u8], reader: &Reader<'_>) -> usize {
    let mark = if text.starts_with(b"\xEF\xBB\xBF") {
        3
    } else {
        0
    };
    reader.position() - mark
}

#[test]
fn numbers_are_those_of_the_standard_library() {
    let seeds = NUMBERS.iter().map(|seed| seed.to_vec()).collect();
    hunt("numbers", seeds, &NUMBERS, |text, _| number(text));
}

#[test]
fn any_bytes_in_a_string_come_back() {
    let spoilers: [&[u8]; 6] = [b"\"", b"\\", b"\\u12", b"\0", b"\xff\xfe", b"\x1f"];
    let seeds = seeds::bodies();
    hunt("strings", seeds, &spoilers, |bytes, _| {
        let mut out = Vec::new();
        write::string(&mut out, bytes);
        assert_eq!(Reader::new(&out).text().unwrap().bytes(), bytes);
        match Reader::new(bytes).kind() {
            nerite_logic::wire::json::Kind::String => {
                match Reader::new(bytes.trim_ascii_start()).text() {
                    Ok(text) => format!("text {}", text.bytes().is_ascii()),
                    Err(syntax) => syntax.what.into(),
                }
            }
            kind => format!("{kind:?}"),
        }
    });
}

#[test]
fn whole_texts_are_valid_where_another_parser_says_so() {
    let spoilers: [&[u8]; 10] = [
        b"{", b"[", b"]", b"}", b",", b":", b"\"", b"null", b"\\ud800", b"1e",
    ];
    hunt("texts", seeds::bodies(), &spoilers, |text, _| {
        let (valid, bytes) = most(|| validate(text));
        assert!(
            bytes <= 4 * text.len() + 256,
            "{bytes} bytes for {}",
            text.len()
        );
        // Ours takes what rapidjson takes, which is more than the standard: NaN, a mark, any bytes.
        if serde_json::from_slice::<serde_json::Value>(text).is_ok() {
            assert_eq!(valid, Ok(()));
        }
        valid.map_or_else(|syntax| syntax.what.into(), |()| "valid".into())
    });
}

#[test]
fn any_configuration_is_a_model_or_refused() {
    let spoilers: [&[u8]; 10] = [
        b"-1",
        b"4294967296",
        b"1e400",
        b"null",
        b"[",
        b"{",
        b"\"TYPE_INVALID\"",
        b"\"\"",
        b"18446744073709551615",
        b"[]",
    ];
    hunt(
        "configurations",
        seeds::configurations(),
        &spoilers,
        |text, _| {
            let Ok(text) = str::from_utf8(text) else {
                return "no text".into();
            };
            match ModelSpec::from_config_json(text) {
                Ok(spec) => format!("a model {}", spec.batches()),
                Err(error) => error.message.into_owned(),
            }
        },
    );
}
