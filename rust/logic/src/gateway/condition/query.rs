// SPDX-License-Identifier: Apache-2.0
//! Queries: `#(path op value)` for the first item that matches, with a `#` behind it for all.

use std::cmp::Ordering;

use super::document::Document;
use super::path::{closing_quote, glob};
use super::walk;

/// A query.
#[derive(Default)]
pub struct Query<'p> {
    path: &'p str,
    operator: &'p str,
    value: String,
    /// All items that match are meant, not the first.
    pub all: bool,
}

impl<'p> Query<'p> {
    /// Reads the query that a path begins with, and tells its length.
    pub fn parse(path: &'p str) -> Option<(Self, usize)> {
        let inside = path
            .strip_prefix("#(")
            .or_else(|| path.strip_prefix("#["))?;
        let (operator, end) = bounds(inside.as_bytes())?;
        let whole = inside.get(..end)?;
        let (left, right) = whole.split_at(operator.unwrap_or(end));
        let (operator, value) = split_operator(right.trim());
        let query = Query {
            path: left.trim(),
            operator,
            value: unquoted(value.trim()),
            all: false,
        };
        Some((query, end + 3))
    }

    /// Whether an item matches.
    pub fn matches(&self, item: &Document) -> bool {
        let found = match item.has_parts() {
            true => walk::get(Some(item), self.path),
            false if self.path.is_empty() => Some(item.clone()),
            false => return false,
        };
        match self.value.strip_prefix('~') {
            None => found.is_some_and(|found| self.compare(&found, &self.value)),
            Some(kind) => likeness(kind, found.as_ref())
                .is_some_and(|like| self.compare(&Document::Bool(like), "true")),
        }
    }

    fn compare(&self, found: &Document, value: &str) -> bool {
        if self.operator.is_empty() {
            return true;
        }
        match found {
            Document::Text(text) => match self.operator {
                "%" => glob(text, value),
                "!%" => !glob(text, value),
                _ => self.accepts(Some(text.as_str().cmp(value))),
            },
            // A value that is no number counts as 0, as in Go.
            Document::Number(number) => {
                self.accepts(number.partial_cmp(&value.parse().unwrap_or(0.0)))
            }
            Document::Bool(flag) => self.accepts_flag(*flag, value),
            _ => false,
        }
    }

    fn accepts(&self, order: Option<Ordering>) -> bool {
        match self.operator {
            "=" => order == Some(Ordering::Equal),
            "!=" => order != Some(Ordering::Equal),
            "<" => order == Some(Ordering::Less),
            "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            ">" => order == Some(Ordering::Greater),
            ">=" => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            _ => false,
        }
    }

    fn accepts_flag(&self, flag: bool, value: &str) -> bool {
        let (own, other) = if flag {
            ("true", "false")
        } else {
            ("false", "true")
        };
        match (self.operator, flag) {
            ("=", _) => value == own,
            ("!=", _) => value != own,
            (">", true) | ("<", false) => value == other,
            (">=", true) | ("<=", false) => true,
            _ => false,
        }
    }
}

/// Where the operator begins, if there is one, and where the query ends.
fn bounds(bytes: &[u8]) -> Option<(Option<usize>, usize)> {
    let (mut depth, mut operator, mut at) = (1, None, 0);
    loop {
        match *bytes.get(at)? {
            b'!' | b'=' | b'<' | b'>' | b'%' if depth == 1 && operator.is_none() => {
                operator = Some(at);
            }
            b'\\' => at += 1,
            b'[' | b'(' => depth += 1,
            b']' | b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some((operator, at));
                }
            }
            b'"' => at = closing_quote(bytes, at)?,
            _ => {}
        }
        at += 1;
    }
}

fn split_operator(text: &str) -> (&str, &str) {
    for operator in ["!=", "!%", "<=", ">="] {
        if let Some(value) = text.strip_prefix(operator) {
            return (operator, value);
        }
    }
    if let Some(value) = text.strip_prefix("==") {
        return ("=", value);
    }
    match text.chars().next() {
        Some('=' | '<' | '>' | '%') => text.split_at(1),
        Some('!') if text.len() == 1 => (text, ""),
        _ => ("", text),
    }
}

fn unquoted(value: &str) -> String {
    let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    match inside {
        None => value.into(),
        Some(inside) => serde_json::from_str(value).unwrap_or_else(|_| inside.into()),
    }
}

/// Whether a value is like `true`, like nothing, and so on; `None` for a likeness that does not exist.
fn likeness(kind: &str, found: Option<&Document>) -> Option<bool> {
    let truth = |text: &str| match text.to_lowercase().as_str() {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    };
    let is_null = matches!(found, None | Some(Document::Null));
    Some(match kind {
        "*" => found.is_some(),
        "null" => is_null,
        "true" => match found {
            Some(Document::Bool(flag)) => *flag,
            Some(Document::Text(text)) => truth(text) == Some(true),
            Some(Document::Number(number)) => *number != 0.0,
            _ => false,
        },
        "false" => match found {
            Some(Document::Bool(flag)) => !flag,
            Some(Document::Text(text)) => truth(text) == Some(false),
            Some(Document::Number(number)) => *number == 0.0,
            _ => is_null,
        },
        _ => return None,
    })
}
