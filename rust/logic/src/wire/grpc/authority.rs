// SPDX-License-Identifier: Apache-2.0
//! The `:authority` of a gRPC client that came through a socket in the file system.
//!
//! gRPC's C core (Python, C++, Ruby) puts the percent-encoded path there. `%` may not stand in an authority, so
//! the HTTP/2 library would refuse every call of such a client. Nothing here depends on an authority: it is
//! made acceptable where it stands, without a change of length. HPACK needs no decoding for that: the
//! C core spells it out, and only refers to it afterwards.

/// The index of `:authority` among HPACK's own names.
const AUTHORITY: usize = 1;

/// Makes the authority in the header block of a call acceptable. Damaged blocks are left to those who read them.
pub fn tame(block: &mut [u8]) {
    let mut at = 0;
    while let Some(after) = tame_field(block, at) {
        at = after;
    }
}

/// The same for the field that begins at `at`; where the next begins.
fn tame_field(block: &mut [u8], at: usize) -> Option<usize> {
    let first = *block.get(at)?;
    let prefix = match first {
        0x80.. => return integer(block, at, 7).map(|(_, after)| after),
        0x40.. => 6,
        0x20.. => return integer(block, at, 5).map(|(_, after)| after),
        _ => 4,
    };
    let (name, mut at) = integer(block, at, prefix)?;
    let mut is_authority = name == AUTHORITY;
    if name == 0 {
        let (length, start) = integer(block, at, 7)?;
        at = start.checked_add(length)?;
        is_authority = block.get(start..at)? == b":authority";
    }
    let spelled = *block.get(at)? & 0x80 == 0;
    let (length, start) = integer(block, at, 7)?;
    let end = start.checked_add(length)?;
    let value = block.get_mut(start..end)?;
    if is_authority && spelled {
        value
            .iter_mut()
            .filter(|byte| **byte == b'%')
            .for_each(|byte| *byte = b'-');
    }
    Some(end)
}

/// An integer whose first byte has `bits` bits of it, and where it ends.
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1_usize << bits) - 1;
    let first = usize::from(*block.get(at)?) & most;
    if first < most {
        return Some((first, at + 1));
    }
    let mut value = most;
    for (place, shift) in (0..4).map(|n| (at + 1 + n, 7 * n)) {
        let byte = *block.get(place)?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_spelled_out_authority_is_changed() {
        let before = b"\x83\x44\x04/a%b\x41\x05t%2Fx\x00\x03key\x04a%2F\x86\x0f\x0b\x02%%".to_vec();
        let mut block = before.clone();
        tame(&mut block);
        let after = b"\x83\x44\x04/a%b\x41\x05t-2Fx\x00\x03key\x04a%2F\x86\x0f\x0b\x02%%".to_vec();
        assert_eq!(block, after);
        let mut named = b"\x40\x0a:authority\x03a%b\x40\x03key\x01%".to_vec();
        tame(&mut named);
        assert_eq!(named, b"\x40\x0a:authority\x03a-b\x40\x03key\x01%");
        for end in 0..before.len() {
            tame(&mut before[..end].to_vec()); // cut off anywhere, it ends
        }
        let mut coded = b"\x41\x83%%%".to_vec();
        tame(&mut coded);
        assert_eq!(coded, b"\x41\x83%%%");
    }

    #[test]
    fn long_values_have_long_lengths() {
        let mut block = [&b"\x41\x7f\x49"[..], &b"%".repeat(200), b"\x83"].concat();
        tame(&mut block);
        assert_eq!(
            block,
            [&b"\x41\x7f\x49"[..], &b"-".repeat(200), b"\x83"].concat()
        );
        let mut endless = vec![0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        tame(&mut endless);
    }
}
