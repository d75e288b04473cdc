// SPDX-License-Identifier: Apache-2.0
//! Paths taken apart. A part ends at a dot, which goes on inside, or at a pipe, which starts anew with
//! the result; a dot before a modifier, `[` or `{` is a pipe as well.

use super::modifiers;
use super::query::Query;

/// The first part of a path within an object, and what follows.
pub struct KeyPart<'p> {
    /// The key, its escapes resolved.
    pub key: String,
    /// It is a pattern.
    pub wild: bool,
    /// What follows.
    pub rest: Rest<'p>,
}

/// The first part of a path within a list.
pub struct ItemPart<'p> {
    /// What of the list.
    pub what: What<'p>,
    /// What follows.
    pub rest: Rest<'p>,
}

/// What of a list a path names.
pub enum What<'p> {
    /// One item.
    Index(Option<usize>),
    /// Its length.
    Length,
    /// A path in each of its items.
    Each(&'p str),
    /// Items that match.
    Matching(Query<'p>),
    /// Nothing: the part makes no sense.
    Nothing,
}

/// What follows a part.
#[derive(Clone, Copy)]
pub enum Rest<'p> {
    /// Nothing.
    End,
    /// A path inside of what the part names.
    Inside(&'p str),
    /// A path to apply to the result.
    Pipe(&'p str),
}

/// Takes the first part of a path within an object.
pub fn key_part(path: &str) -> KeyPart<'_> {
    let mut key = Vec::new();
    let mut wild = false;
    let bytes = path.as_bytes();
    let mut at = 0;
    let mut rest = Rest::End;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'|' | b'.' => {
                rest = rest_at(path, at, true);
                break;
            }
            b'\\' => {
                at += 1;
                key.extend(bytes.get(at));
            }
            _ => {
                wild |= matches!(byte, b'*' | b'?');
                key.push(byte);
            }
        }
        at += 1;
    }
    KeyPart {
        key: String::from_utf8_lossy(&key).into_owned(),
        wild,
        rest,
    }
}

/// What follows the separator at `at`.
fn rest_at(path: &str, at: usize, pipes_by_dot: bool) -> Rest<'_> {
    let after = path.get(at + 1..).unwrap_or_default();
    if path.as_bytes().get(at) == Some(&b'|') || (pipes_by_dot && starts_anew(after)) {
        Rest::Pipe(after)
    } else {
        Rest::Inside(after)
    }
}

/// Whether a path after a dot starts anew with the result.
fn starts_anew(path: &str) -> bool {
    match path.as_bytes().first() {
        Some(b'@') => {
            let end = path.find(['.', '|', ':']).unwrap_or(path.len());
            modifiers::is_known(path.get(1..end).unwrap_or_default())
        }
        Some(b'[' | b'{') => true,
        _ => false,
    }
}

/// Takes the first part of a path within a list.
pub fn item_part(path: &str) -> ItemPart<'_> {
    if let Some(key) = path.strip_prefix("#.") {
        let (key, rest) = match split_pipe(key) {
            Some((key, pipe)) => (key, Rest::Pipe(pipe)),
            None => (key, Rest::End),
        };
        return ItemPart {
            what: What::Each(key),
            rest,
        };
    }
    let (query, begun) = match Query::parse(path) {
        Some((query, length)) => (Some(query), length),
        None if path.starts_with("#(") || path.starts_with("#[") => {
            // A query without an end asks nothing, as `#()` does.
            return ItemPart {
                what: What::Matching(Query::default()),
                rest: Rest::End,
            };
        }
        None => (None, 0),
    };
    let tail = path.get(begun..).unwrap_or_default();
    let end = tail.find(['.', '|']).map(|at| begun + at);
    let part = path.get(..end.unwrap_or(path.len())).unwrap_or_default();
    let counts = part.contains('#');
    let rest = end.map_or(Rest::End, |at| rest_at(path, at, !counts));
    let what = match query {
        Some(mut query) => {
            query.all = tail.starts_with('#');
            What::Matching(query)
        }
        None if part == "#" => What::Length,
        None if counts => What::Nothing,
        None => What::Index(index(part)),
    };
    ItemPart { what, rest }
}

fn index(part: &str) -> Option<usize> {
    let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| part.parse().unwrap_or(usize::MAX))
}

/// Splits a path at its first pipe that is not inside a query.
pub fn split_pipe(path: &str) -> Option<(&str, &str)> {
    let bytes = path.as_bytes();
    if bytes.first() == Some(&b'{') {
        let end = balanced(path, 0)?;
        return (bytes.get(end) == Some(&b'|'))
            .then(|| Some((path.get(..end)?, path.get(end + 1..)?)))?;
    }
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'|' => return Some((path.get(..at)?, path.get(at + 1..)?)),
            b'.' if bytes.get(at + 1) == Some(&b'#')
                && matches!(bytes.get(at + 2), Some(b'[' | b'(')) =>
            {
                at = balanced(path, at + 2)? - 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The end of what is opened by the bracket or quote at `start`; brackets of all kinds nest.
pub fn balanced(path: &str, start: usize) -> Option<usize> {
    let bytes = path.as_bytes();
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => {
                at = closing_quote(bytes, at)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'[' | b'(' | b'{' => depth += 1,
            b']' | b')' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the text that is opened at `start` is closed.
pub fn closing_quote(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether `text` matches a pattern of `*` and `?`.
pub fn glob(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    let (mut t, mut p) = (0, 0);
    // Where to go on if the last star has to take one more.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((t, p + 1));
                p += 1;
            }
            Some('\\') if pattern.get(p + 1) == text.get(t) => (t, p) = (t + 1, p + 2),
            Some(c) if *c != '\\' && (*c == '?' || Some(c) == text.get(t)) => {
                (t, p) = (t + 1, p + 1)
            }
            _ => match retry {
                Some((from, star)) => {
                    (t, p) = (from + 1, star);
                    retry = Some((from + 1, star));
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_none_or(|left| left.iter().all(|c| *c == '*'))
}
