// SPDX-License-Identifier: Apache-2.0
//! The five bytes before every gRPC message: a compression flag and the length.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::error::Code;

/// Bytes before the message.
pub const PREFIX: usize = 5;

/// What the received bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unframed {
    /// A complete message, taken off the front.
    Message(Bytes),
    /// The same, compressed as `grpc-encoding` says.
    Compressed(Bytes),
    /// The message is not complete; at least this many bytes are missing. Once the prefix is there it
    /// is the exact number, so that the rest can be read into one buffer.
    Incomplete {
        /// How many more bytes to wait for.
        missing: usize,
    },
    /// The call must be answered with this.
    Refused(Refusal),
}

/// Why a frame is not read on. These are not errors of the protocol above, so they have statuses of
/// their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The byte before the length is neither of the two that have a meaning.
    UnknownFlag(u8),
    /// The message is larger than the server takes.
    TooLarge {
        /// Its length.
        length: usize,
        /// The largest that is taken.
        limit: usize,
    },
}

impl Refusal {
    /// The gRPC status number.
    #[must_use]
    pub const fn grpc_status(self) -> u8 {
        match self {
            Self::UnknownFlag(_) => Code::Internal.grpc_status(),
            // RESOURCE_EXHAUSTED, which no code of Triton's maps to.
            Self::TooLarge { .. } => 8,
        }
    }

    /// The text of the status.
    #[must_use]
    pub fn message(self) -> String {
        match self {
            Self::UnknownFlag(flag) => {
                format!("message has compression flag {flag}, expected 0 or 1")
            }
            Self::TooLarge { length, limit } => {
                format!("Received message larger than max ({length} vs. {limit})")
            }
        }
    }
}

/// Takes the next message off the front of `data`, without copying it. `data` is left as it was when
/// the message is incomplete or refused. The length is held against `limit` before anything else, so
/// that a lying one reserves no memory.
pub fn unframe(data: &mut Bytes, limit: usize) -> Unframed {
    let Some((prefix, rest)) = data.split_first_chunk::<PREFIX>() else {
        return Unframed::Incomplete {
            missing: PREFIX - data.len(),
        };
    };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    if flag > 1 {
        return Unframed::Refused(Refusal::UnknownFlag(flag));
    }
    if length > limit {
        return Unframed::Refused(Refusal::TooLarge { length, limit });
    }
    if rest.len() < length {
        return Unframed::Incomplete {
            missing: length - rest.len(),
        };
    }
    let mut message = data.split_to(PREFIX + length);
    let message = message.split_off(PREFIX);
    match flag {
        0 => Unframed::Message(message),
        _ => Unframed::Compressed(message),
    }
}

/// `message` in one buffer, with its prefix. For everything but infer answers, which write their own.
#[must_use]
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    // Only infer answers can come near the 4 GiB that the prefix can say.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut out);
    out.freeze()
}

/// What stands before a compressed message of this length.
#[must_use]
pub fn compressed_prefix(length: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX);
    out.put_u8(1);
    // It is shorter than the message was, and that was held against the limit.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_off_one_by_one_without_a_copy() {
        let mut data = Bytes::from_static(b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x03x");
        let start = data.as_ptr();
        let Unframed::Message(message) = unframe(&mut data, 2) else {
            panic!("first")
        };
        assert_eq!(message, "ab");
        assert_eq!(message.as_ptr(), start.wrapping_add(PREFIX));
        assert_eq!(unframe(&mut data, 2), Unframed::Message(Bytes::new()));
        let rest = data.clone();
        assert_eq!(unframe(&mut data, 3), Unframed::Incomplete { missing: 2 });
        assert_eq!(data, rest);
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        for (bytes, expect) in [
            (&b""[..], Unframed::Incomplete { missing: 5 }),
            (b"\0\0", Unframed::Incomplete { missing: 3 }),
            (b"\x01\0\0\0\0", Unframed::Compressed(Bytes::new())),
            (b"\x02\0\0\0\0", Unframed::Refused(Refusal::UnknownFlag(2))),
            (
                b"\0\0\0\0\x09",
                Unframed::Refused(Refusal::TooLarge {
                    length: 9,
                    limit: 8,
                }),
            ),
        ] {
            assert_eq!(
                unframe(&mut Bytes::from_static(bytes), 8),
                expect,
                "{bytes:?}"
            );
        }
        assert_eq!(Refusal::UnknownFlag(2).grpc_status(), 13);
        let large = Refusal::TooLarge {
            length: 9,
            limit: 8,
        };
        assert_eq!(
            (large.grpc_status(), &*large.message()),
            (8, "Received message larger than max (9 vs. 8)")
        );
    }
}
