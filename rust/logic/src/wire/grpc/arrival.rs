// SPDX-License-Identifier: Apache-2.0
//! Where in the frames of HTTP/2 a peer has stopped: in the middle of something that nobody waits for.
//!
//! Whoever reads a message's data watches over its pieces. The preface, the heads of frames and the headers
//! of calls are put together by the HTTP/2 library, which waits for ever; this follows them from outside.

use std::ops::Range;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// How far the frames of a connection have come.
#[derive(Clone, Debug)]
pub struct Arrival {
    head: [u8; FRAME_HEAD],
    /// Bytes of `head` that have come.
    have: usize,
    /// Bytes of the preface or of a frame that are still to come.
    left: usize,
    /// Whether more must come even after those.
    unfinished: bool,
    /// Whether what is `left` is a message's data.
    in_data: bool,
}

impl Default for Arrival {
    fn default() -> Self {
        Self {
            head: [0; FRAME_HEAD],
            have: 0,
            left: PREFACE,
            // The preface is complete with the settings behind it.
            unfinished: true,
            in_data: false,
        }
    }
}

impl Arrival {
    /// Follows bytes as they came; whether the peer owes more of what it has begun.
    pub fn follow(&mut self, bytes: &[u8]) -> bool {
        self.walk(bytes, |_| {})
    }

    /// The same; `block` is told where the header blocks are that lie in `bytes` as a whole.
    pub fn walk(&mut self, mut bytes: &[u8], mut block: impl FnMut(Range<usize>)) -> bool {
        let length = bytes.len();
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let taken = (FRAME_HEAD - self.have).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            if let Some(place) = self.head.get_mut(self.have..self.have + taken) {
                place.copy_from_slice(now);
            }
            self.have += taken;
            bytes = later;
            if self.have == FRAME_HEAD {
                self.have = 0;
                self.begin_frame();
                if self.is_block() && self.left <= bytes.len() {
                    let start = length - bytes.len();
                    block(start..start + self.left);
                }
            }
        }
        self.owes()
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.in_data = kind == DATA;
        match kind {
            HEADERS | CONTINUATION => self.unfinished = flags & END_HEADERS == 0,
            SETTINGS => self.unfinished = false,
            _ => {}
        }
    }

    /// Whether the frame that begins is a call's headers and nothing else.
    const fn is_block(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.head;
        kind == HEADERS && flags & (PADDED | PRIORITY) == 0
    }

    const fn owes(&self) -> bool {
        self.unfinished || self.have > 0 || (self.left > 0 && !self.in_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    fn opened() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, &[0; 6]));
        bytes
    }

    #[test]
    fn a_connection_is_quiet_only_between_what_it_sends() {
        let mut bytes = opened();
        let mut quiet = vec![bytes.len()];
        bytes.extend(frame(HEADERS, 0, b"abc"));
        bytes.extend(frame(CONTINUATION, END_HEADERS, b"de"));
        quiet.push(bytes.len());
        let data = bytes.len() + FRAME_HEAD;
        bytes.extend(frame(DATA, 1, b"xyz"));
        quiet.extend(data..=bytes.len());
        bytes.extend(frame(6, 0, &[0; 8]));
        quiet.push(bytes.len());
        let mut arrival = Arrival::default();
        let found: Vec<usize> = (1..=bytes.len())
            .filter(|end| !arrival.follow(&bytes[end - 1..*end]))
            .collect();
        assert_eq!(found, quiet);
        for step in [2, 7, 30, bytes.len()] {
            let mut arrival = Arrival::default();
            let mut ends = 0;
            for piece in bytes.chunks(step) {
                ends += piece.len();
                assert_eq!(
                    !arrival.follow(piece),
                    quiet.contains(&ends),
                    "{step} {ends}"
                );
            }
        }
    }

    #[test]
    fn a_preface_alone_is_no_beginning() {
        let mut arrival = Arrival::default();
        assert!(arrival.follow(b""));
        assert!(arrival.follow(&opened()[..PREFACE]));
        assert!(!arrival.follow(&opened()[PREFACE..]));
    }
}
