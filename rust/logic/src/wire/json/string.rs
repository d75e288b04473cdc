// SPDX-License-Identifier: Apache-2.0
//! Strings: found eight bytes at a time, borrowed unless something in them is escaped.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

use super::{Reader, Syntax};

const NO_QUOTE: &str = "Missing a closing quotation mark in string.";
const BAD_ENCODING: &str = "Invalid encoding in string.";
const BAD_ESCAPE: &str = "Invalid escape character in string.";
const BAD_HEX: &str = "Incorrect hex digit after \\u escape in string.";
const BAD_SURROGATE: &str = "The surrogate pair in string is invalid.";

/// The content of a string: a piece of the JSON text, or its own bytes if something was escaped.
pub struct Text<'a> {
    content: Cow<'a, [u8]>,
    at: usize,
}

impl Text<'_> {
    /// The bytes, unescaped; not necessarily UTF-8.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.content
    }

    /// The text as a slice of `body`, from which it was read, or of its own memory if it was escaped.
    ///
    /// # Errors
    /// If it is not UTF-8.
    #[inline]
    pub fn keep(&self, body: &Bytes) -> Result<ByteString, Syntax> {
        let at = self.at;
        let bytes = match &self.content {
            Cow::Borrowed(piece) => body.slice_ref(piece),
            Cow::Owned(bytes) => Bytes::copy_from_slice(bytes),
        };
        ByteString::try_from(bytes).map_err(|_| Syntax {
            what: BAD_ENCODING,
            at,
        })
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks, with the high bit of its byte, the first byte that ends a run of plain text: `"`, `\` or one
/// below 0x20. Bytes above that one may be marked wrongly, so only the lowest mark counts.
#[inline]
pub(super) const fn special(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    (quote.wrapping_sub(ONES) & !quote
        | slash.wrapping_sub(ONES) & !slash
        | word.wrapping_sub(ONES * 0x20) & !word)
        & HIGHS
}

/// The offset, from `from` on, of the first byte that is not plain text; the length if there is none.
#[inline]
pub(super) fn plain_until(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = special(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && !matches!(bytes[at], b'"' | b'\\' | 0..=0x1f) {
        at += 1;
    }
    at
}

impl<'a> Reader<'a> {
    /// The string that [`Self::kind`] told to be next.
    ///
    /// # Errors
    /// If it is not well formed.
    #[inline]
    pub fn text(&mut self) -> Result<Text<'a>, Syntax> {
        let from = self.at + 1;
        self.at = plain_until(self.bytes, from);
        if self.peek() != b'"' {
            return self.escaped(from);
        }
        let content = Cow::Borrowed(&self.bytes[from..self.at]);
        self.at += 1;
        Ok(Text { content, at: from })
    }

    #[cold]
    fn escaped(&mut self, from: usize) -> Result<Text<'a>, Syntax> {
        let mut decoded = Vec::new();
        let mut run = from;
        loop {
            decoded.extend_from_slice(&self.bytes[run..self.at]);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(Text {
                        content: Cow::Owned(decoded),
                        at: from,
                    });
                }
                b'\\' => self.escape(&mut decoded)?,
                0 => return self.fault(NO_QUOTE),
                _ => return self.fault(BAD_ENCODING),
            }
            run = self.at;
            self.at = plain_until(self.bytes, run);
        }
    }

    fn escape(&mut self, decoded: &mut Vec<u8>) -> Result<(), Syntax> {
        let start = self.at;
        self.at += 1;
        let byte = self.peek();
        self.at += 1;
        decoded.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.unicode(start)?;
                let mut utf8 = [0; 4];
                decoded.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                return Ok(());
            }
            _ => {
                return Err(Syntax {
                    what: BAD_ESCAPE,
                    at: start,
                });
            }
        });
        Ok(())
    }

    fn unicode(&mut self, start: usize) -> Result<char, Syntax> {
        let alone = Syntax {
            what: BAD_SURROGATE,
            at: start,
        };
        let mut code = self.hex4(start)?;
        if (0xD800..0xDC00).contains(&code) {
            for byte in *b"\\u" {
                if self.peek() != byte {
                    return Err(alone);
                }
                self.at += 1;
            }
            let low = self.hex4(start)?;
            if !(0xDC00..0xE000).contains(&low) {
                return Err(alone);
            }
            code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        char::from_u32(code).ok_or(alone)
    }

    fn hex4(&mut self, start: usize) -> Result<u32, Syntax> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = char::from(self.peek()).to_digit(16);
            code = code * 16
                + digit.ok_or(Syntax {
                    what: BAD_HEX,
                    at: start,
                })?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_unescaped() {
        for (json, text) in [
            (r#""""#, ""),
            (
                r#""plain, and long enough for words""#,
                "plain, and long enough for words",
            ),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""a\u0000b""#, "a\0b"),
            (
                r#""\u00e9\ud83d\ude00, then plain text""#,
                "é😀, then plain text",
            ),
            ("\"gr\u{f6}\u{df}e and \u{1f600}\"", "größe and 😀"),
        ] {
            let body = Bytes::copy_from_slice(json.as_bytes());
            let mut reader = Reader::new(&body);
            let kept = reader.text().unwrap().keep(&body).unwrap();
            assert_eq!(&*kept, text);
            assert_eq!(reader.remaining(), 0);
        }
    }

    #[test]
    fn strings_that_are_broken_say_how_and_where() {
        for (json, what, at) in [
            (r#""abc"#, NO_QUOTE, 4),
            (r#""abcdefghijk"#, NO_QUOTE, 12),
            ("\"ab\ncdefghijkl\"", BAD_ENCODING, 3),
            ("\"ab\0\"", NO_QUOTE, 3),
            (r#""a\x""#, BAD_ESCAPE, 2),
            (r#""a\"#, BAD_ESCAPE, 2),
            (r#""a\u12g4""#, BAD_HEX, 2),
            (r#""a\ud800x""#, BAD_SURROGATE, 2),
            (r#""a\ud800\u0041""#, BAD_SURROGATE, 2),
            (r#""a\udc00""#, BAD_SURROGATE, 2),
        ] {
            let fault = Reader::new(json.as_bytes()).text().err();
            assert_eq!(fault, Some(Syntax { what, at }), "{json:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_can_be_read_but_not_kept_as_text() {
        let body = Bytes::from_static(b"\"a\xff\"");
        let text = Reader::new(&body).text().unwrap();
        assert_eq!(text.bytes(), b"a\xff");
        assert_eq!(
            text.keep(&body),
            Err(Syntax {
                what: BAD_ENCODING,
                at: 1
            })
        );
    }

    #[test]
    fn the_end_of_plain_text_is_found_at_every_position_of_a_word() {
        for stop in [b'"', b'\\', 0, 0x1f] {
            for length in 0..24 {
                let mut bytes = vec![b'~'; length];
                bytes.extend([stop, 0xff, 0x80, b' ', b'!', b'#', b'[', b']', 0x20]);
                assert_eq!(plain_until(&bytes, 0), length);
            }
        }
        let plain: Vec<u8> = (0x20..=0xff)
            .filter(|byte| !matches!(byte, b'"' | b'\\'))
            .collect();
        assert_eq!(plain_until(&plain, 0), plain.len());
    }
}
