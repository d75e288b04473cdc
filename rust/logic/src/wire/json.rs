// SPDX-License-Identifier: Apache-2.0
//! Reading JSON by pulling: the caller says what it expects next, nothing is built that it does not ask for.
//!
//! Own code rather than serde's, for three reasons that the wire gives: Triton's clients see rapidjson's
//! texts and offsets in error answers, its tolerance (byte-order mark, `NaN`, `Inf`) is part of the
//! protocol, and a tensor's numbers must go straight into its buffer (see [`crate::wire::v2`]). Strings
//! are not checked for UTF-8 here; whoever keeps one as text does.

mod decimal;
mod number;
mod string;
pub mod write;

pub use number::Number;
pub(crate) use number::{long_double_at, number_at, plain_double, plain_single};
pub use string::Text;

use smallvec::SmallVec;

use crate::Error;

/// Nesting that is accepted in values that the server reads; values that it skips may be deeper.
pub const MAX_DEPTH: usize = 100;

const ROOT_NOT_SINGULAR: &str = "The document root must not be followed by other values.";
const EMPTY: &str = "The document is empty.";
pub(crate) const VALUE_INVALID: &str = "Invalid value.";
const MISS_NAME: &str = "Missing a name for object member.";
const MISS_COLON: &str = "Missing a colon after a name of object member.";
const MISS_COMMA_OR_BRACE: &str = "Missing a comma or '}' after an object member.";
pub(crate) const MISS_COMMA_OR_BRACKET: &str = "Missing a comma or ']' after an array element.";

/// Where and why a text is not JSON, in rapidjson's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// What is wrong.
    pub what: &'static str,
    /// Offset of the byte at which it was noticed.
    pub at: usize,
}

impl From<Syntax> for Error {
    #[cold]
    fn from(syntax: Syntax) -> Self {
        let Syntax { what, at } = syntax;
        Self::invalid(format!(
            "failed to parse the request JSON buffer: {what} at {at}"
        ))
    }
}

/// Why a request in JSON could not be read.
pub(crate) enum Failure {
    /// It is not JSON.
    Syntax(Syntax),
    /// It is not a request. As the rest was not read yet, it may turn out not to be JSON either.
    Meaning(Error),
}

impl Failure {
    /// The error of the request `text`, in Triton's words. Triton parses all of it before it looks at any
    /// of it.
    pub(crate) fn told(self, text: &[u8]) -> Error {
        match self {
            Self::Syntax(syntax) => syntax.into(),
            Self::Meaning(error) => validate(text).map_or_else(Error::from, |()| error),
        }
    }
}

impl From<Syntax> for Failure {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Meaning(error)
    }
}

/// What kind of value comes next, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
    /// Anything else; reading it tells whether it really is a number.
    Number,
}

/// The byte at `at`; 0 at the end, as in rapidjson.
#[inline]
pub(crate) fn peek(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The next offset from `at` on where there is no white space.
#[inline]
pub(crate) fn blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(peek(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// A position in a JSON text.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`, behind a byte-order mark if there is one.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let at = if bytes.starts_with(b"\xEF\xBB\xBF") {
            3
        } else {
            0
        };
        Self { bytes, at }
    }

    /// The offset of the next byte; [`Self::seek`] leads back to it.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Goes to an offset that [`Self::position`] told.
    pub const fn seek(&mut self, position: usize) {
        self.at = position;
    }

    /// Bytes that are left, an upper bound for what the rest can hold.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The whole text.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    fn peek(&self) -> u8 {
        peek(self.bytes, self.at)
    }

    #[inline]
    fn blank(&mut self) {
        self.at = blank(self.bytes, self.at);
    }

    #[cold]
    const fn fault<T>(&self, what: &'static str) -> Result<T, Syntax> {
        Err(Syntax { what, at: self.at })
    }

    /// The kind of the next value.
    #[inline]
    pub fn kind(&mut self) -> Kind {
        self.blank();
        match self.peek() {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b't' | b'f' => Kind::Bool,
            b'n' => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Enters the object or array that [`Self::kind`] told to be next.
    #[inline]
    pub const fn enter(&mut self) {
        self.at += 1;
    }

    /// The name of the object's next member, the reader being before its value; `None` behind the object.
    ///
    /// # Errors
    /// If neither a member nor the end of the object comes next.
    #[inline]
    pub fn member(&mut self, first: &mut bool) -> Result<Option<Text<'a>>, Syntax> {
        self.blank();
        match self.peek() {
            b'}' => {
                self.at += 1;
                return Ok(None);
            }
            b',' if !*first => {
                self.at += 1;
                self.blank();
            }
            _ if !*first => return self.fault(MISS_COMMA_OR_BRACE),
            _ => *first = false,
        }
        self.key().map(Some)
    }

    #[inline]
    fn key(&mut self) -> Result<Text<'a>, Syntax> {
        if self.peek() != b'"' {
            return self.fault(MISS_NAME);
        }
        let name = self.text()?;
        self.blank();
        if self.peek() != b':' {
            return self.fault(MISS_COLON);
        }
        self.at += 1;
        Ok(name)
    }

    /// Whether the array has a next element, the reader being before it; `false` behind the array.
    ///
    /// # Errors
    /// If neither an element nor the end of the array comes next.
    #[inline]
    pub fn element(&mut self, first: &mut bool) -> Result<bool, Syntax> {
        self.blank();
        match self.peek() {
            b']' => {
                self.at += 1;
                return Ok(false);
            }
            b',' if !*first => {
                self.at += 1;
                self.blank();
            }
            _ if !*first => return self.fault(MISS_COMMA_OR_BRACKET),
            _ => *first = false,
        }
        if matches!(self.peek(), b']' | b'}' | b',' | b':' | 0) {
            return self.fault(VALUE_INVALID);
        }
        Ok(true)
    }

    /// The truth value that [`Self::kind`] told to be next.
    ///
    /// # Errors
    /// If it is neither `true` nor `false`.
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, Syntax> {
        let value = self.peek() == b't';
        self.literal(if value { b"true" } else { b"false" })?;
        Ok(value)
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Result<(), Syntax> {
        for &byte in literal {
            if self.peek() != byte {
                return self.fault(VALUE_INVALID);
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Goes behind the next value, which must be well formed, whatever it is and however deep.
    ///
    /// # Errors
    /// If it is not well formed.
    pub fn skip(&mut self) -> Result<(), Syntax> {
        let mut open: SmallVec<[u8; 64]> = SmallVec::new();
        loop {
            match self.kind() {
                Kind::Object => {
                    self.enter();
                    if self.member(&mut true)?.is_some() {
                        open.push(b'}');
                        continue;
                    }
                }
                Kind::Array => {
                    self.enter();
                    if self.element(&mut true)? {
                        open.push(b']');
                        continue;
                    }
                }
                Kind::String => drop(self.text()?),
                Kind::Bool => drop(self.boolean()?),
                Kind::Null => self.literal(b"null")?,
                Kind::Number => drop(self.number()?),
            }
            loop {
                let more = match open.last() {
                    None => return Ok(()),
                    Some(b'}') => self.member(&mut false)?.is_some(),
                    Some(_) => self.element(&mut false)?,
                };
                if more {
                    break;
                }
                open.pop();
            }
        }
    }

    /// Makes sure that nothing but white space is left.
    ///
    /// # Errors
    /// If something is.
    pub fn end(&mut self) -> Result<(), Syntax> {
        self.blank();
        if self.at < self.bytes.len() {
            return self.fault(ROOT_NOT_SINGULAR);
        }
        Ok(())
    }
}

/// Whether `bytes` is one well-formed JSON text.
///
/// # Errors
/// Where and why it is not.
#[cold]
pub fn validate(bytes: &[u8]) -> Result<(), Syntax> {
    let mut reader = Reader::new(bytes);
    reader.blank();
    if matches!(reader.peek(), 0 | b',' | b':' | b']' | b'}') {
        return reader.fault(EMPTY);
    }
    reader.skip()?;
    reader.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_text_and_the_offset_of_rapidjson() {
        for (text, what, at) in [
            ("", EMPTY, 0),
            ("  ", EMPTY, 2),
            ("]", EMPTY, 0),
            ("{abc", MISS_NAME, 1),
            ("{'inputs':[]}", MISS_NAME, 1),
            ("{", MISS_NAME, 1),
            ("{\"inputs\":[", VALUE_INVALID, 11),
            ("{\"inputs\":[] /* x */}", MISS_COMMA_OR_BRACE, 13),
            ("{\"a\"", MISS_COLON, 4),
            ("{\"a\" 1}", MISS_COLON, 5),
            ("{\"a\":", VALUE_INVALID, 5),
            ("{\"a\":}", VALUE_INVALID, 5),
            ("{\"a\":1", MISS_COMMA_OR_BRACE, 6),
            ("{\"a\":1,}", MISS_NAME, 7),
            ("{\"a\":1,\"b\"}", MISS_COLON, 10),
            ("[1", MISS_COMMA_OR_BRACKET, 2),
            ("[1 2]", MISS_COMMA_OR_BRACKET, 3),
            ("[1,]", VALUE_INVALID, 3),
            ("[,1]", VALUE_INVALID, 1),
            ("{\"a\":[1}", MISS_COMMA_OR_BRACKET, 7),
            ("[tru]", VALUE_INVALID, 4),
            ("[nul", VALUE_INVALID, 4),
            ("[x]", VALUE_INVALID, 1),
            ("{} x", ROOT_NOT_SINGULAR, 3),
            ("{}{}", ROOT_NOT_SINGULAR, 2),
            ("{}\0", ROOT_NOT_SINGULAR, 2),
            ("[01]", MISS_COMMA_OR_BRACKET, 2),
        ] {
            assert_eq!(
                validate(text.as_bytes()),
                Err(Syntax { what, at }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn everything_well_formed_is_accepted_however_deep() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "{}",
            "[]",
            "null",
            " true ",
            "\"x\"",
            "1",
            "-0",
            "[NaN,Infinity,-Infinity,Inf,-Inf]",
            "\u{feff}{\"a\":[{},{\"b\":[[]]}],\"c\":null}",
            "{\"a\":1,\"a\":2}",
            &deep,
        ] {
            assert_eq!(validate(text.as_bytes()), Ok(()), "{text:.80}");
        }
    }
}
