// SPDX-License-Identifier: Apache-2.0
//! The names of a request's headers as they were sent, where somebody wants to know.
//!
//! Hyper keeps them to itself, so the bytes of a connection are overheard on their way to it
//! ([`crate::arrival::Watched`]). Only names come from here, never values: if what was overheard does not show
//! the head, names are in lower case.

use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes that are kept of a connection, for a head to be found in.
const KEPT: usize = 64 << 10;

/// Names of headers, in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling(Arc<[Box<str>]>);

impl Spelling {
    /// The `index`-th of the names that differ from `name` in case only.
    #[must_use]
    pub fn of(&self, name: &str, index: usize) -> Option<&str> {
        let alike = self.0.iter().filter(|sent| sent.eq_ignore_ascii_case(name));
        alike.map(AsRef::as_ref).nth(index)
    }

    /// The names in the head of the request for `path`, and where in `heard` that head ends.
    fn find(heard: &[u8], path: &str) -> Option<(Self, usize)> {
        let line = format!("{path} HTTP/1.");
        let start = position(heard, line.as_bytes())?;
        let head = heard.get(start..)?;
        let mut names = Vec::new();
        let mut at = start + head.iter().position(|byte| *byte == b'\n')? + 1;
        loop {
            let rest = heard.get(at..)?;
            let length = rest.iter().position(|byte| *byte == b'\n')?;
            let line = rest.get(..length)?;
            at += length + 1;
            if line.is_empty() || line == b"\r" {
                return Some((Self(names.into()), at));
            }
            let name = line.split(|byte| *byte == b':').next()?;
            names.push(String::from_utf8_lossy(name).into());
        }
    }
}

fn position(heard: &[u8], wanted: &[u8]) -> Option<usize> {
    heard.windows(wanted.len()).position(|part| part == wanted)
}

/// What was read from a connection of late.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Vec<u8>>);

impl Heard {
    /// Keeps what was read, as far as there is room.
    pub fn note(&self, bytes: &[u8]) {
        let mut heard = self.0.lock();
        heard.extend_from_slice(bytes);
        let surplus = heard.len().saturating_sub(KEPT);
        heard.drain(..surplus);
    }

    /// The spelling in the head of the request for `path`, which has come in full.
    #[must_use]
    pub fn spelling(&self, path: &str) -> Option<Spelling> {
        let mut heard = self.0.lock();
        let (spelling, end) = Spelling::find(&heard, path)?;
        heard.drain(..end);
        Some(spelling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_each_request_is_found_among_bodies_and_later_heads() {
        let heard = Heard::default();
        heard.note(
            b"rest of a body\nMY-KEY: no\r\nPOST /a HTTP/1.1\r\nMy-Key: 1\r\nmY-kEY: 2\r\n\r\n",
        );
        heard.note(b"{}POST http://host/b?q HTTP/1.1\nmy-Key:3\n\n{}");
        let first = heard.spelling("/a").unwrap();
        assert_eq!(first.of("my-key", 0), Some("My-Key"));
        assert_eq!(first.of("my-key", 1), Some("mY-kEY"));
        assert_eq!(first.of("my-key", 2), None);
        assert_eq!(
            heard.spelling("/b?q").unwrap().of("my-key", 0),
            Some("my-Key")
        );
        assert_eq!(heard.spelling("/b?q"), None);
    }

    #[test]
    fn a_long_body_is_not_kept() {
        let heard = Heard::default();
        heard.note(&vec![b'x'; 3 * KEPT]);
        assert_eq!(heard.0.lock().len(), KEPT);
        heard.note(b"GET /a HTTP/1.1\r\nKey: 1\r\n\r\n");
        assert_eq!(heard.spelling("/a").unwrap().of("key", 0), Some("Key"));
    }
}
