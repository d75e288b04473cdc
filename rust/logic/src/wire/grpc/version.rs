// SPDX-License-Identifier: Apache-2.0
//! The version that a request asks for.

use crate::error::Error;

/// Reads a version as Triton does, on gRPC and in paths: blanks and a sign before the digits and
/// anything behind them are passed over (`" 1"`, `+1`, `1x` and `1.0` are 1). The empty text asks for
/// the newest version.
///
/// # Errors
/// INVALID_ARG if there is no number, it is negative, or it does not fit into 63 bits.
pub fn parse_version(text: &str) -> Result<Option<u64>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let digits = number.len()
        - number
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .len();
    match number[..digits].parse::<u64>() {
        Ok(0) => Ok(Some(0)),
        Ok(value) if negative && value <= i64::MIN.unsigned_abs() => Err(Error::invalid(format!(
            "invalid model version specified '{text}' , version should be an integral value > 0"
        ))),
        Ok(value) if !negative && i64::try_from(value).is_ok() => Ok(Some(value)),
        _ => Err(Error::invalid(format!(
            "failed to get model version from specified version string '{text}' (details: stol), \
             version should be an integral value > 0"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_stol_reads_them() {
        for (text, expect) in [
            ("", None),
            ("1", Some(1)),
            ("01", Some(1)),
            (" 1", Some(1)),
            ("\t\n+7", Some(7)),
            ("1.0", Some(1)),
            ("1x", Some(1)),
            ("0", Some(0)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(9_223_372_036_854_775_807)),
        ] {
            assert_eq!(parse_version(text), Ok(expect), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused_with_triton_s_words() {
        let stol = |text| {
            format!(
                "failed to get model version from specified version string '{text}' (details: \
                 stol), version should be an integral value > 0"
            )
        };
        let negative = |text| {
            format!(
                "invalid model version specified '{text}' , version should be an integral value > 0"
            )
        };
        for (text, expect) in [
            ("x", stol("x")),
            (" ", stol(" ")),
            ("+-1", stol("+-1")),
            ("9223372036854775808", stol("9223372036854775808")),
            ("99999999999999999999999", stol("99999999999999999999999")),
            ("-9223372036854775809", stol("-9223372036854775809")),
            ("-1", negative("-1")),
            ("-9223372036854775808", negative("-9223372036854775808")),
        ] {
            assert_eq!(parse_version(text), Err(Error::invalid(expect)), "{text:?}");
        }
    }
}
