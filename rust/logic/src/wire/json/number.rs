// SPDX-License-Identifier: Apache-2.0
//! Numbers: nearly all take a short way that looks at each byte once; the rest, good or bad, takes the
//! long one. What the digits are worth is in [`super::decimal`].

use super::decimal::{FARTHEST, digits, nearest, nearest_single};
use super::{Reader, Syntax, VALUE_INVALID, peek};

const TOO_BIG: &str = "Number too big to be stored in double.";
const MISS_FRACTION: &str = "Miss fraction part in number.";
const MISS_EXPONENT: &str = "Miss exponent in number.";

/// A number, as the kind that rapidjson would take it for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer from 0 on.
    Uint(u64),
    /// A negative integer.
    Int(i64),
    /// Everything else, with `NaN` and infinities.
    Double(f64),
}

impl Number {
    /// The nearest double.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub const fn as_double(self) -> f64 {
        match self {
            Self::Uint(value) => value as f64,
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }

    /// The value, if it is an integer from 0 on.
    #[must_use]
    pub const fn as_uint(self) -> Option<u64> {
        match self {
            Self::Uint(value) => Some(value),
            _ => None,
        }
    }

    /// The value, if it is an integer that an `i64` holds.
    #[must_use]
    pub fn as_int(self) -> Option<i64> {
        match self {
            Self::Uint(value) => i64::try_from(value).ok(),
            Self::Int(value) => Some(value),
            Self::Double(_) => None,
        }
    }
}

/// What one look at the text tells: the number is `mantissa * 10^exponent`, unless `unusual`.
struct Scan {
    start: usize,
    negative: bool,
    mantissa: u64,
    exponent: i32,
    /// There are more digits than `mantissa` holds, or it is `NaN` or infinite.
    unusual: bool,
    integer: bool,
}

/// A number without exponent and with at most 19 digits, as nearly all are: `mantissa / 10^places`.
struct Plain {
    negative: bool,
    mantissa: u64,
    places: usize,
    end: usize,
}

/// The plain number at `at`; `None` for all else, good or bad, which [`Reader::scan`] looks at.
///
/// Positions are values here and not fields of a reader: in a loop over an array they stay in registers.
#[inline(always)]
#[allow(clippy::inline_always)]
fn plain(bytes: &[u8], at: usize) -> Option<Plain> {
    let negative = peek(bytes, at) == b'-';
    let first = at + usize::from(negative);
    // One digit before the point is common enough to be guessed.
    let digit = peek(bytes, first).wrapping_sub(b'0');
    let short = digit < 10 && peek(bytes, first + 1) == b'.';
    let mut mantissa = if short { u64::from(digit) } else { 0 };
    let mut end = if short {
        first + 1
    } else {
        digits(bytes, first, &mut mantissa)
    };
    let mut count = end - first;
    if count == 0 || (count > 1 && bytes[first] == b'0') {
        return None;
    }
    let mut places = 0;
    if peek(bytes, end) == b'.' {
        let fraction = end + 1;
        end = digits(bytes, fraction, &mut mantissa);
        places = end - fraction;
        count += places;
        if places == 0 {
            return None;
        }
    }
    let usual = count <= 19 && peek(bytes, end) | 0x20 != b'e';
    usual.then_some(Plain {
        negative,
        mantissa,
        places,
        end,
    })
}

/// The double at `at`, and where it ends, if it is plain.
#[inline(always)]
#[allow(clippy::inline_always, clippy::cast_possible_wrap)]
pub(crate) fn plain_double(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let plain = plain(bytes, at)?;
    // At most 19 places, so it cannot wrap.
    let size = nearest(plain.mantissa, -(plain.places as i32));
    let sign = u64::from(plain.negative) << 63;
    Some((f64::from_bits(size.to_bits() | sign), plain.end))
}

/// The single that the double at `at` rounds to, and where it ends, if it is plain.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(crate) fn plain_single(bytes: &[u8], at: usize) -> Option<(f32, usize)> {
    let plain = plain(bytes, at)?;
    let size = nearest_single(plain.mantissa, plain.places);
    // Half of all signs are negative: no branch that is mispredicted as often.
    let sign = u32::from(plain.negative) << 31;
    Some((f32::from_bits(size.to_bits() | sign), plain.end))
}

/// The double at `at`, plain or not, and where it ends.
///
/// # Errors
/// If what is there is not a number or too big.
#[cold]
pub(crate) fn long_double_at(bytes: &[u8], at: usize) -> Result<(f64, usize), Syntax> {
    slow(bytes, at, Reader::long_double)
}

/// The number at `at`, and where it ends.
///
/// # Errors
/// If what is there is not a number or too big.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(crate) fn number_at(bytes: &[u8], at: usize) -> Result<(Number, usize), Syntax> {
    match plain(bytes, at) {
        Some(Plain {
            negative: false,
            mantissa,
            places: 0,
            end,
        }) => Ok((Number::Uint(mantissa), end)),
        Some(Plain {
            negative: true,
            mantissa: mantissa @ 1..0x8000_0000_0000_0000,
            places: 0,
            end,
        }) => Ok((Number::Int(-mantissa.cast_signed()), end)),
        _ => slow(bytes, at, Reader::long_number),
    }
}

#[cold]
fn slow<'a, T>(
    bytes: &'a [u8],
    at: usize,
    read: fn(&mut Reader<'a>) -> Result<T, Syntax>,
) -> Result<(T, usize), Syntax> {
    let mut reader = Reader { bytes, at };
    let value = read(&mut reader)?;
    Ok((value, reader.at))
}

impl Reader<'_> {
    fn scan(&mut self) -> Result<Scan, Syntax> {
        let start = self.at;
        let negative = self.peek() == b'-';
        let first = start + usize::from(negative);
        let mut scan = Scan {
            start,
            negative,
            mantissa: 0,
            exponent: 0,
            unusual: false,
            integer: true,
        };
        self.at = first;
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.at = digits(self.bytes, first, &mut scan.mantissa),
            b'N' | b'I' => {
                self.named()?;
                (scan.unusual, scan.integer) = (true, false);
                return Ok(scan);
            }
            _ => return self.fault(VALUE_INVALID),
        }
        let mut count = self.at - first;
        if self.peek() == b'.' {
            let fraction = self.at + 1;
            self.at = digits(self.bytes, fraction, &mut scan.mantissa);
            if self.at == fraction {
                return self.fault(MISS_FRACTION);
            }
            scan.integer = false;
            let places = self.at - fraction;
            count += places;
            scan.exponent = -i32::try_from(places).unwrap_or(i32::MAX);
        }
        // A zero before the point, and those behind it, are digits that wrap nothing.
        scan.unusual = count > 19 && self.significant(first) > 19;
        if matches!(self.peek(), b'e' | b'E') {
            scan.integer = false;
            scan.exponent = scan.exponent.saturating_add(self.exponent()?);
        }
        Ok(scan)
    }

    #[cold]
    fn significant(&self, first: usize) -> usize {
        let text = &self.bytes[first..self.at];
        text.iter()
            .skip_while(|byte| matches!(byte, b'0' | b'.'))
            .filter(|byte| **byte != b'.')
            .count()
    }

    fn exponent(&mut self) -> Result<i32, Syntax> {
        self.at += 1;
        let negative = self.peek() == b'-';
        if matches!(self.peek(), b'-' | b'+') {
            self.at += 1;
        }
        let first = self.at;
        let mut value = 0_i32;
        while self.peek().is_ascii_digit() {
            value = value
                .saturating_mul(10)
                .saturating_add(i32::from(self.peek() - b'0'));
            self.at += 1;
        }
        if self.at == first {
            return self.fault(MISS_EXPONENT);
        }
        Ok(if negative { -value } else { value })
    }

    #[cold]
    fn named(&mut self) -> Result<(), Syntax> {
        if self.peek() == b'N' {
            return self.literal(b"NaN");
        }
        self.literal(b"Inf")?;
        if self.peek() == b'i' {
            self.literal(b"inity")
        } else {
            Ok(())
        }
    }

    fn double_of(&self, scan: &Scan) -> Result<f64, Syntax> {
        let places = scan.exponent.unsigned_abs() as usize;
        if scan.unusual || places > FARTHEST {
            return self.unusual(scan);
        }
        let size = nearest(scan.mantissa, scan.exponent);
        Ok(if scan.negative { -size } else { size })
    }

    /// The standard library knows `NaN` and `Inf` by the same names.
    #[cold]
    fn unusual(&self, scan: &Scan) -> Result<f64, Syntax> {
        let text = str::from_utf8(&self.bytes[scan.start..self.at]).unwrap_or_default();
        let named = text.ends_with(|end: char| end.is_ascii_alphabetic());
        match text.parse::<f64>() {
            Ok(value) if named || value.is_finite() => Ok(value),
            _ => Err(Syntax {
                what: TOO_BIG,
                at: scan.start,
            }),
        }
    }

    fn long_double(&mut self) -> Result<f64, Syntax> {
        let scan = self.scan()?;
        self.double_of(&scan)
    }

    fn long_number(&mut self) -> Result<Number, Syntax> {
        let scan = self.scan()?;
        if scan.integer {
            if scan.unusual {
                return self.long_integer(&scan);
            }
            if !scan.negative || scan.mantissa == 0 {
                return Ok(Number::Uint(scan.mantissa));
            }
            if scan.mantissa <= 1 << 63 {
                return Ok(Number::Int(scan.mantissa.wrapping_neg().cast_signed()));
            }
        }
        self.double_of(&scan).map(Number::Double)
    }

    /// The number that is next.
    ///
    /// # Errors
    /// If what is next is not a number or too big.
    pub fn number(&mut self) -> Result<Number, Syntax> {
        let (number, end) = number_at(self.bytes, self.at)?;
        self.at = end;
        Ok(number)
    }

    /// Twenty digits may be a `u64`, and more are a double.
    #[cold]
    fn long_integer(&self, scan: &Scan) -> Result<Number, Syntax> {
        let text = str::from_utf8(&self.bytes[scan.start..self.at]).unwrap_or_default();
        match text.parse::<u64>() {
            Ok(value) => Ok(Number::Uint(value)),
            Err(_) => self.unusual(scan).map(Number::Double),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Result<Number, Syntax> {
        let mut reader = Reader::new(text.as_bytes());
        let number = reader.number()?;
        assert_eq!(reader.remaining(), 0, "{text}");
        Ok(number)
    }

    fn double_at(bytes: &[u8], at: usize) -> (f64, usize) {
        plain_double(bytes, at).unwrap_or_else(|| long_double_at(bytes, at).unwrap())
    }

    fn double(text: &str) -> f64 {
        let (value, end) = double_at(text.as_bytes(), 0);
        assert_eq!(end, text.len(), "{text}");
        // Behind an array there is always something, and words can be read past the number.
        let padded = format!("{text}],\"more\":1.5}}");
        assert_eq!(double_at(padded.as_bytes(), 0).0.to_bits(), value.to_bits());
        value
    }

    #[test]
    fn integers_stay_integers_as_long_as_they_fit() {
        for (text, expected) in [
            ("0", Number::Uint(0)),
            ("-0", Number::Uint(0)),
            ("7", Number::Uint(7)),
            ("12345678", Number::Uint(12_345_678)),
            ("9223372036854775808", Number::Uint(1 << 63)),
            ("18446744073709551615", Number::Uint(u64::MAX)),
            (
                "18446744073709551616",
                Number::Double(18_446_744_073_709_551_616.0),
            ),
            ("-9223372036854775808", Number::Int(i64::MIN)),
            (
                "-9223372036854775809",
                Number::Double(-9_223_372_036_854_775_808.0),
            ),
            ("1.0", Number::Double(1.0)),
            ("1e0", Number::Double(1.0)),
        ] {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn named_numbers_are_accepted() {
        assert!(number("NaN").unwrap().as_double().is_nan());
        assert!(number("-NaN").unwrap().as_double().is_nan());
        for text in ["Inf", "Infinity"] {
            assert_eq!(number(text), Ok(Number::Double(f64::INFINITY)));
            assert_eq!(
                number(&format!("-{text}")),
                Ok(Number::Double(f64::NEG_INFINITY))
            );
        }
    }

    #[test]
    fn numbers_that_are_broken_say_how_and_where() {
        for (text, what, at) in [
            ("-", VALUE_INVALID, 1),
            ("-x", VALUE_INVALID, 1),
            ("+1", VALUE_INVALID, 0),
            (".5", VALUE_INVALID, 0),
            ("1.", MISS_FRACTION, 2),
            ("1.e3", MISS_FRACTION, 2),
            ("1e", MISS_EXPONENT, 2),
            ("1e+", MISS_EXPONENT, 3),
            ("Nan", VALUE_INVALID, 2),
            ("Infinit", VALUE_INVALID, 7),
            ("1e309", TOO_BIG, 0),
            ("1e99999999999", TOO_BIG, 0),
        ] {
            assert_eq!(number(text), Err(Syntax { what, at }), "{text}");
        }
    }

    #[test]
    fn doubles_agree_with_the_standard_library_where_rounding_is_hard() {
        for text in [
            "0.1",
            "-0.1",
            "1e308",
            "5e-324",
            "-5e-324",
            "2.4703282292062327e-324",
            "1e-400",
            "0.0",
            "-0.0",
            "9007199254740993",
            "9007199254740993.0",
            "0.3745401203632355",
            "0.95071430640991617",
            "1.100000023841858",
            "123456789012345678",
            "1234567890123456789e-19",
            "9999999999999999999e27",
            "9999999999999999999e-27",
            "0.000000000000000000000000000012345",
            "1.7976931348623157e308",
            "0.00000000000000000000000000000000000001",
            "179769313486231580793728971405303415079934132710e260",
            "8.988465674311582e307",
            "4503599627370496.5",
            "4503599627370497.5",
            "3.0000000000000000000000001",
        ] {
            let expected = text.parse::<f64>().unwrap();
            let read = double(text);
            assert_eq!(read.to_bits(), expected.to_bits(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn doubles_agree_with_the_standard_library(
            mantissa: u64, keep in 0_u32..64, exponent in -30_i32..30, point in 0_usize..20
        ) {
            let mut text = (mantissa >> keep).to_string();
            if point > 0 && point < text.len() {
                text.insert(point, '.');
            }
            let text = format!("{text}e{exponent}");
            let read = double(&text);
            prop_assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
        }

        #[test]
        #[allow(clippy::cast_possible_truncation)]
        fn singles_are_what_doubles_round_to(bits: u32, near: u64, point in 1_usize..20) {
            let mut digits = near.to_string();
            digits.insert(point.min(digits.len() - 1).max(1), '.');
            let single = f32::from_bits(bits);
            let widened = f64::from(single);
            for text in [
                format!("{single:?}"), format!("{widened:?}"), format!("{widened:.17}"), digits
            ] {
                let padded = format!("{text}],\"more\":1.5}}");
                for text in [&text, &padded] {
                    let Some((read, end)) = plain_single(text.as_bytes(), 0) else { continue };
                    let double = text[..end].parse::<f64>().unwrap();
                    prop_assert_eq!(read.to_bits(), (double as f32).to_bits(), "{}", text);
                }
            }
        }

        #[test]
        fn shortest_texts_lead_back_to_their_doubles(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for text in [format!("{value:?}"), format!("{value:e}"), format!("{:.17e}", value)] {
                let read = double(&text);
                prop_assert_eq!(read.to_bits(), value.to_bits(), "{}", text);
            }
        }
    }
}
