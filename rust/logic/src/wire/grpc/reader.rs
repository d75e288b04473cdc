// SPDX-License-Identifier: Apache-2.0
//! A protobuf reader that hands out positions instead of copies.
//!
//! prost can do the same with `Bytes`, but pays a reference count per string it passes and a dynamic
//! call per field; here a field costs a few instructions, and only what is kept is counted.

use bytes::Bytes;
use bytestring::ByteString;

/// The bytes are no protobuf message of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// How deep groups, which nobody sends any more, may be nested.
const DEEPEST_GROUP: u32 = 100;

/// A part of a message, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
}

impl Span {
    /// The bytes of this part, without copying them.
    #[must_use]
    pub fn slice(self, message: &Bytes) -> Bytes {
        message.slice(self.start..self.end)
    }

    /// The text of this part, without copying it.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(self, message: &Bytes) -> Result<ByteString, Malformed> {
        if self.start == self.end {
            return Ok(ByteString::new());
        }
        ByteString::try_from(self.slice(message)).map_err(|_| Malformed)
    }
}

/// The wire type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A number in base 128.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length and that many bytes.
    Block,
    /// The start of a group.
    Start,
    /// The end of a group.
    End,
    /// Four bytes.
    Fixed32,
}

/// Reads one message, or a message within it.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The whole message, up to the end of the part that is read; positions count from its start.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the part `span` of `message`.
    ///
    /// # Errors
    /// If `message` has no such part.
    pub fn new(message: &'a [u8], span: Span) -> Result<Self, Malformed> {
        let bytes = message.get(..span.end).ok_or(Malformed)?;
        if span.start > span.end {
            return Err(Malformed);
        }
        Ok(Self {
            bytes,
            at: span.start,
        })
    }

    /// Reads all of `message`.
    #[must_use]
    pub const fn whole(message: &'a [u8]) -> Self {
        Self {
            bytes: message,
            at: 0,
        }
    }

    /// Whether all was read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next field's number and type; `None` at the end.
    ///
    /// # Errors
    /// If there is no such field number or type.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u32, Wire)>, Malformed> {
        if self.is_done() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Block,
            3 => Wire::Start,
            4 => Wire::End,
            5 => Wire::Fixed32,
            _ => return Err(Malformed),
        };
        match key >> 3 {
            0 => Err(Malformed),
            field => Ok(Some((field, wire))),
        }
    }

    /// A number in base 128.
    ///
    /// # Errors
    /// If it does not end, or not within 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let rest = self.bytes.get(self.at..).ok_or(Malformed)?;
        let mut value = 0_u64;
        for (index, byte) in rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                if index == 9 && *byte > 1 {
                    return Err(Malformed);
                }
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// `N` bytes as they stand.
    ///
    /// # Errors
    /// If there are fewer.
    #[inline]
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let rest = self.bytes.get(self.at..).ok_or(Malformed)?;
        let fixed = *rest.first_chunk::<N>().ok_or(Malformed)?;
        self.at += N;
        Ok(fixed)
    }

    /// Where `N` bytes lie.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn span<const N: usize>(&mut self) -> Result<Span, Malformed> {
        let start = self.at;
        self.fixed::<N>()?;
        Ok(Span {
            start,
            end: self.at,
        })
    }

    /// Where a length-delimited value lies.
    ///
    /// # Errors
    /// If it goes beyond the end.
    #[inline]
    pub fn block(&mut self) -> Result<Span, Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let start = self.at;
        let end = start
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len());
        self.at = end.ok_or(Malformed)?;
        Ok(Span {
            start,
            end: self.at,
        })
    }

    /// Passes over the value of a field that is not known.
    ///
    /// # Errors
    /// If the value is not complete.
    #[cold]
    pub fn skip(&mut self, field: u32, wire: Wire) -> Result<(), Malformed> {
        self.skip_within(field, wire, DEEPEST_GROUP)
    }

    fn skip_within(&mut self, field: u32, wire: Wire, depth: u32) -> Result<(), Malformed> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.fixed::<8>().map(drop),
            Wire::Fixed32 => self.fixed::<4>().map(drop),
            Wire::Block => self.block().map(drop),
            Wire::End => Err(Malformed),
            Wire::Start => {
                let depth = depth.checked_sub(1).ok_or(Malformed)?;
                loop {
                    match self.field()?.ok_or(Malformed)? {
                        (end, Wire::End) if end == field => return Ok(()),
                        (field, wire) => self.skip_within(field, wire, depth)?,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_within_ten_bytes_and_64_bits() {
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let mut beyond = most;
        beyond[9] = 2;
        for (bytes, expect) in [
            (&[0x00][..], Ok(0)),
            (&[0x96, 0x01], Ok(150)),
            (&[0x80, 0x00], Ok(0)),
            (&most, Ok(u64::MAX)),
            (&beyond, Err(Malformed)),
            (&[0x80; 11], Err(Malformed)),
            (&[0x80], Err(Malformed)),
            (&[], Err(Malformed)),
        ] {
            assert_eq!(Reader::whole(bytes).varint(), expect, "{bytes:?}");
        }
    }

    #[test]
    fn unknown_fields_are_passed_over_whatever_their_type() {
        let skip = |bytes: &[u8]| {
            let mut reader = Reader::whole(bytes);
            while let Some((field, wire)) = reader.field()? {
                reader.skip(field, wire)?;
            }
            Ok(())
        };
        let deep: Vec<u8> = [[0x0b; 101], [0x0c; 101]].concat();
        for (bytes, expect) in [
            (&b"\x08\x01\x11 8bytes \x12\x02ab\x1d4 by"[..], Ok(())),
            (b"\x0b\x08\x01\x13\x14\x0c", Ok(())),
            (b"\x0b\x08\x01\x14", Err(Malformed)),
            (b"\x0b", Err(Malformed)),
            (b"\x0c", Err(Malformed)),
            (b"\x12\x03ab", Err(Malformed)),
            (b"\x00", Err(Malformed)),
            (b"\x0f", Err(Malformed)),
            (&deep, Err(Malformed)),
        ] {
            assert_eq!(skip(bytes), expect, "{bytes:?}");
        }
    }
}
