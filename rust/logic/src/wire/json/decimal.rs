// SPDX-License-Identifier: Apache-2.0
//! Digits to integers, and a decimal to its nearest double.
//!
//! A double is right to the last bit on every path: either mantissa and power of ten are doubles
//! themselves, so that one division rounds once; or bounds of the quotient round to the same double; or
//! the quotient in 128 bits and its remainder decide. Own code, because the text was scanned already: the
//! standard library's (and every crate's) parser would look at each byte again, at twice the cost.

/// The number made of eight digits 0 to 9, the first in the lowest byte: pairs, then fours, then all.
#[inline]
const fn eight_digits(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((pairs >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// Adds the digits from `at` on to `mantissa` (which wraps if they are too many); returns their end.
///
/// How many digits the last word has is counted, not found by a loop: numbers differ in length, and a
/// branch on it would be mispredicted once for each. Full words do branch, so that the next one need not
/// wait for the count.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(super) fn digits(bytes: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    const POWERS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let values = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        // The high bit of each byte above 9; a carry can only reach bytes behind the first of them.
        let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        if others == 0 {
            *mantissa = mantissa
                .wrapping_mul(100_000_000)
                .wrapping_add(eight_digits(values));
            at += 8;
            if let Some(end) = up_to_sixteen(bytes, at, mantissa) {
                return end;
            }
            continue;
        }
        let count = others.trailing_zeros() / 8;
        // The digits move to the end of the word and zeros come before them.
        let aligned = values.checked_shl(64 - 8 * count).unwrap_or(0);
        let power = POWERS[count as usize & 7];
        *mantissa = mantissa
            .wrapping_mul(power)
            .wrapping_add(eight_digits(aligned));
        return at + count as usize;
    }
    while let Some(digit) = bytes
        .get(at)
        .map(|byte| byte.wrapping_sub(b'0'))
        .filter(|d| *d < 10)
    {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// Adds the digits from `at` on if at most 15 are left, as behind the first eight of a double: by then
/// whether there are eight more is anyone's guess, so it is not asked.
#[inline(always)]
#[allow(clippy::inline_always, clippy::cast_possible_truncation)]
fn up_to_sixteen(bytes: &[u8], at: usize, mantissa: &mut u64) -> Option<usize> {
    const POWERS: [u64; 16] = {
        let mut powers = [1; 16];
        let mut n = 1;
        while n < powers.len() {
            powers[n] = powers[n - 1] * 10;
            n += 1;
        }
        powers
    };
    let chunk = bytes.get(at..)?.first_chunk::<16>()?;
    let values = u128::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030_3030_3030_3030_3030;
    let others = (values.wrapping_add(0x7676_7676_7676_7676_7676_7676_7676_7676) | values)
        & 0x8080_8080_8080_8080_8080_8080_8080_8080;
    if others == 0 {
        return None;
    }
    let count = others.trailing_zeros() / 8;
    let aligned = values.checked_shl(128 - 8 * count).unwrap_or(0);
    let (first, last) = (aligned as u64, (aligned >> 64) as u64);
    *mantissa = mantissa
        .wrapping_mul(POWERS[count as usize & 15])
        .wrapping_add(eight_digits(first).wrapping_mul(100_000_000))
        .wrapping_add(eight_digits(last));
    Some(at + count as usize)
}

/// The farthest power of ten that [`nearest`] knows.
pub(super) const FARTHEST: usize = 27;

/// The double nearest to `mantissa * 10^exponent`, for exponents of -27 to 27.
#[inline(always)]
#[allow(clippy::inline_always, clippy::cast_precision_loss)]
pub(super) fn nearest(mantissa: u64, exponent: i32) -> f64 {
    let places = exponent.unsigned_abs() as usize;
    if mantissa > 1 << 53 || places >= POWERS_OF_TEN.len() {
        scaled(mantissa, exponent)
    } else if exponent < 0 {
        mantissa as f64 / POWERS_OF_TEN[places]
    } else {
        mantissa as f64 * POWERS_OF_TEN[places]
    }
}

/// The single that the double nearest to `mantissa / 10^places` rounds to, for up to 19 places.
///
/// A product with a rounded power is less than four units off that double. Only if such a stretch has
/// the middle of two singles in it is the double itself wanted; the widened singles that clients send
/// are as far from it as can be. With so few places nothing but zero is below the normal singles.
#[inline(always)]
#[allow(
    clippy::inline_always,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]
pub(super) fn nearest_single(mantissa: u64, places: usize) -> f32 {
    const BETWEEN: u64 = 1 << (f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS);
    if let (Ok(mantissa), Some(power)) = (i64::try_from(mantissa), TENTHS.get(places)) {
        let about = mantissa as f64 * power;
        let rest = about.to_bits() % BETWEEN;
        if rest.abs_diff(BETWEEN / 2) > 8 {
            return about as f32;
        }
    }
    nearest(mantissa, -(places as i32)) as f32
}

const TENTHS: [f64; 20] = [
    1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14,
    1e-15, 1e-16, 1e-17, 1e-18, 1e-19,
];

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// 5^0 to 5^27, all that fit into 63 bits.
const POWERS_OF_FIVE: [u64; 28] = {
    let mut powers = [1; 28];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = powers[n - 1] * 5;
        n += 1;
    }
    powers
};

/// 2^127 / 5^n, the divisor shifted to the top, rounded down; 0 for n = 0, which is not divided by.
const RECIPROCALS: [u64; 28] = {
    let mut reciprocals = [0; 28];
    let mut n = 1;
    while n < reciprocals.len() {
        let power = POWERS_OF_FIVE[n];
        reciprocals[n] = ((1_u128 << 127) / ((power << power.leading_zeros()) as u128)) as u64;
        n += 1;
    }
    reciprocals
};

/// 2^`exponent`, for exponents of normal doubles.
#[inline]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + 1023).cast_unsigned()) << 52)
}

/// `mantissa / 10^places`, correctly rounded, for `mantissa` > 0 and 1 to 27 places.
///
/// The product with the rounded reciprocal is below the quotient by less than two units of its upper
/// half. If a double does not tell these bounds apart, it is the quotient's, too.
#[inline]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]
fn divided(mantissa: u64, places: usize) -> f64 {
    let (up, power_up) = (
        mantissa.leading_zeros(),
        POWERS_OF_FIVE[places].leading_zeros(),
    );
    let product = u128::from(mantissa << up) * u128::from(RECIPROCALS[places]);
    let least = (product >> 65) as i64;
    let (low, high) = (least as f64, (least + 2) as f64);
    if low != high {
        return divided_exactly(mantissa, places);
    }
    low * power_of_two(power_up as i32 - up as i32 - 62 - places as i32)
}

/// The same by a division and its remainder.
#[cold]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]
fn divided_exactly(mantissa: u64, places: usize) -> f64 {
    let power = POWERS_OF_FIVE[places];
    // Both shifted to the top, the quotient has 63 or 64 bits: ten more than a double, so that its
    // lowest bit may stand for the whole remainder when it is rounded.
    let (up, power_up) = (mantissa.leading_zeros(), power.leading_zeros());
    let (dividend, divisor) = (
        u128::from(mantissa << up) << 63,
        u128::from(power << power_up),
    );
    let quotient = dividend / divisor;
    let sticky = u64::from(quotient * divisor != dividend);
    (quotient as u64 | sticky) as f64
        * power_of_two(power_up as i32 - up as i32 - 63 - places as i32)
}

/// `mantissa * 10^exponent` by integers.
#[inline]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)]
fn scaled(mantissa: u64, exponent: i32) -> f64 {
    let places = exponent.unsigned_abs() as usize;
    if exponent < 0 && mantissa > 0 {
        return divided(mantissa, places);
    }
    (u128::from(mantissa) * u128::from(POWERS_OF_FIVE[places])) as f64
        * power_of_two(exponent.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_in_words_and_one_by_one() {
        let text = b"12345678901234567890";
        for length in 0..=text.len() {
            for rest in ["", ",", "]}]},\"more\"", ".5", ":;<=>?@/.-"] {
                let padded = [&text[..length], rest.as_bytes()].concat();
                let mut mantissa = 0;
                assert_eq!(digits(&padded, 0, &mut mantissa), length, "{rest}");
                let expected = str::from_utf8(&text[..length])
                    .unwrap()
                    .parse()
                    .unwrap_or(0_u64);
                assert_eq!(mantissa, expected);
            }
        }
    }

    #[test]
    fn every_byte_that_is_no_digit_ends_them() {
        for stop in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
            for length in 0..8 {
                let mut text = vec![b'9'; length];
                text.extend([stop, b'9', b'0', stop, 0xff, 0, b'/', b':', b'1']);
                let mut mantissa = 0;
                assert_eq!(digits(&text, 0, &mut mantissa), length, "{stop}");
            }
        }
    }

    #[test]
    #[allow(clippy::cast_possible_truncation)]
    fn singles_are_those_of_the_nearest_doubles() {
        let agree = |mantissa: u64, places: usize| {
            let double: f64 = format!("{mantissa}e-{places}").parse().unwrap();
            let single = nearest_single(mantissa, places);
            assert_eq!(
                single.to_bits(),
                (double as f32).to_bits(),
                "{mantissa} / 10^{places}"
            );
        };
        let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..20_000_u64 {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(round);
            for places in 0..20 {
                agree(noise >> (round % 64), places);
            }
            // Seventeen digits around the middle of two singles between 1 and 2.
            let middle = f64::from_bits((1023 << 52) | (noise >> 35 << 29) | (1 << 28));
            let digits = (middle * 1e16) as u64;
            for near in digits - 20..digits + 20 {
                agree(near, 16);
            }
        }
        for mantissa in [0, 1, u64::MAX, i64::MAX as u64, (1 << 63) + 1, 16_777_217] {
            for places in 0..20 {
                agree(mantissa, places);
            }
        }
    }

    #[test]
    fn the_short_division_agrees_with_the_exact_one() {
        let mut mantissa = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..20_000 {
            mantissa = mantissa
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(round);
            for places in 1..=FARTHEST {
                let (short, exact) = (divided(mantissa, places), divided_exactly(mantissa, places));
                assert_eq!(short.to_bits(), exact.to_bits(), "{mantissa} / 10^{places}");
            }
        }
        // Quotients that are doubles or lie halfway between two.
        for exact in [
            1 << 53,
            (1 << 53) + 1,
            (1 << 54) + 2,
            (1 << 54) + 6,
            u64::MAX,
            1,
        ] {
            for places in 1..=FARTHEST {
                let text = format!("{exact}e-{places}");
                assert_eq!(
                    divided(exact, places).to_bits(),
                    text.parse::<f64>().unwrap().to_bits()
                );
            }
        }
    }
}
