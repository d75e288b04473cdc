// SPDX-License-Identifier: Apache-2.0
//! Following a path.

use super::document::Document;
use super::modifiers;
use super::path::{Rest, What, balanced, glob, item_part, key_part, split_pipe};
use super::query::Query;

/// What a walk has found so far, and where to go on with it.
#[derive(Default)]
struct Walk<'p> {
    value: Option<Document>,
    /// Set as soon as a pipe is met, found or not: what follows it sees whatever there is, or nothing.
    pipe: Option<&'p str>,
}

/// What `path` names in `document`; both may be nothing.
pub fn get(document: Option<&Document>, path: &str) -> Option<Document> {
    if path.len() > 1 {
        let begun = match path.as_bytes().first() {
            Some(b'@') => modifiers::apply(document, path),
            Some(b'!') => fixed(path),
            Some(b'[' | b'{') => selected(document, path),
            _ => None,
        };
        if let Some((result, rest)) = begun {
            return match rest.strip_prefix(['|', '.']) {
                Some(rest) => get(result.as_ref(), rest),
                None => result,
            };
        }
    }
    named(document, path)
}

/// What a path of names, indexes and queries names.
fn named(document: Option<&Document>, path: &str) -> Option<Document> {
    let mut walk = Walk::default();
    match (path.strip_prefix(".."), document) {
        // Lines of JSON; a body is one.
        (Some(path), _) => {
            let lines: Vec<Document> = document.cloned().into_iter().collect();
            walk.list(&lines, path);
        }
        (None, Some(Document::Object(members))) => _ = walk.object(members, path),
        (None, Some(Document::List(items))) => _ = walk.list(items, path),
        (None, _) => {}
    }
    match walk.pipe {
        Some(pipe) => get(walk.value.as_ref(), pipe),
        None => walk.value,
    }
}

impl<'p> Walk<'p> {
    /// Looks in an object; `true` if the walk is at its end.
    fn object(&mut self, members: &[(String, Document)], path: &'p str) -> bool {
        let part = key_part(path);
        if let Rest::Pipe(pipe) = part.rest {
            self.pipe = Some(pipe);
        }
        for (key, value) in members {
            let hit = match part.wild {
                true => glob(key, &part.key),
                false => *key == part.key,
            };
            if hit && self.go_on(value, part.rest) {
                return true;
            }
        }
        false
    }

    /// Looks in a list; `true` if the walk is at its end.
    fn list(&mut self, items: &[Document], path: &'p str) -> bool {
        let part = item_part(path);
        if let Rest::Pipe(pipe) = part.rest {
            self.pipe = Some(pipe);
        }
        match part.what {
            What::Index(index) => index
                .and_then(|index| items.get(index))
                .is_some_and(|item| self.go_on(item, part.rest)),
            What::Length => {
                #[allow(clippy::cast_precision_loss)]
                let length = items.len() as f64;
                self.end(Document::Number(length))
            }
            What::Each(key) => {
                let found = items.iter().filter_map(|item| get(Some(item), key));
                self.end(Document::List(found.collect()))
            }
            What::Matching(query) => self.matching(items, &query, part.rest),
            What::Nothing => false,
        }
    }

    fn matching(&mut self, items: &[Document], query: &Query<'_>, rest: Rest<'p>) -> bool {
        let mut matching = items.iter().filter(|item| query.matches(item)).peekable();
        let inside = match rest {
            // The pipe behind it is for the result, so it does not belong to each item's path.
            Rest::Inside(path) if matching.peek().is_some() => match split_pipe(path) {
                Some((path, pipe)) => {
                    self.pipe = Some(pipe);
                    Some(path)
                }
                None => Some(path),
            },
            _ => None,
        };
        let mut found = matching.map(|item| match inside {
            Some(path) => get(Some(item), path),
            None => Some(item.clone()),
        });
        if query.all {
            let all = Document::List(found.flatten().collect());
            self.value.get_or_insert(all);
            return false;
        }
        match found.next() {
            Some(value) => {
                self.value = value;
                true
            }
            None => false,
        }
    }

    fn go_on(&mut self, value: &Document, rest: Rest<'p>) -> bool {
        match (rest, value) {
            (Rest::Inside(path), Document::Object(members)) => self.object(members, path),
            (Rest::Inside(path), Document::List(items)) => self.list(items, path),
            (Rest::Inside(_), _) => false,
            (_, value) => self.end(value.clone()),
        }
    }

    fn end(&mut self, value: Document) -> bool {
        self.value = Some(value);
        true
    }
}

/// What a step gives, and the path behind it.
pub type Step<'p> = Option<(Option<Document>, &'p str)>;

/// `!value`: a value that stands in the path.
fn fixed(path: &str) -> Step<'_> {
    let written = path.get(1..)?;
    match written.as_bytes().first()? {
        b'{' | b'[' => {
            let end = balanced(written, 0).unwrap_or(written.len());
            let (value, rest) = written.split_at(end);
            // What is no JSON is something all the same.
            let value = Document::parse(value.as_bytes()).unwrap_or(Document::Null);
            Some((Some(value), rest))
        }
        // gjson takes all that follows as part of a text or number, so it exists whatever comes.
        b'"' | b'+' | b'-' | b'0'..=b'9' => Some((Some(Document::Number(0.0)), "")),
        _ => {
            let end = written.find(['|', '.']).unwrap_or(written.len());
            let (name, rest) = written.split_at(end);
            let value = match name.to_ascii_lowercase().as_str() {
                "true" => Document::Bool(true),
                "false" => Document::Bool(false),
                "null" => Document::Null,
                "nan" | "inf" => Document::Number(0.0),
                _ => return None,
            };
            Some((Some(value), rest))
        }
    }
}

/// `[a,b]` or `{"x":a,b}`: a new list or object, of what exists.
fn selected<'p>(document: Option<&Document>, path: &'p str) -> Step<'p> {
    let Some((parts, rest)) = selectors(path) else {
        return Some((None, ""));
    };
    if !rest.is_empty() && !rest.starts_with(['|', '.']) {
        // The selector is forgotten, and what stands behind it is the path.
        return Some((named(document, rest), ""));
    }
    let found = parts
        .into_iter()
        .filter_map(|(name, path)| Some((name_of(name, path), get(document, path)?)));
    let result = match path.starts_with('{') {
        true => Document::Object(found.collect()),
        false => Document::List(found.map(|(_, value)| value).collect()),
    };
    Some((Some(result), rest))
}

fn name_of(name: &str, path: &str) -> String {
    if name.is_empty() {
        let last = path.rsplit(['.', '|']).next().unwrap_or_default();
        return last.into();
    }
    serde_json::from_str(name).unwrap_or_else(|_| name.into())
}

/// The parts of a selector, each with its name, and the path behind it.
fn selectors(path: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let bytes = path.as_bytes();
    let (mut parts, mut depth, mut start) = (Vec::new(), 1, 1);
    let (mut colon, mut modifier) = (None, false);
    let mut at = 1;
    loop {
        let byte = *bytes.get(at)?;
        let closes = matches!(byte, b']' | b')' | b'}') && depth == 1;
        match byte {
            b'\\' => at += 1,
            b'@' => modifier |= matches!(bytes.get(at - 1), Some(b'.' | b'|')),
            b':' if depth == 1 && !modifier && colon.is_none() => colon = Some(at),
            b'"' => at = super::path::closing_quote(bytes, at)?,
            b'[' | b'(' | b'{' => depth += 1,
            b']' | b')' | b'}' => depth -= 1,
            _ => {}
        }
        if closes || (byte == b',' && depth == 1) {
            let (name, from) = colon.map_or(("", start), |colon| {
                (path.get(start..colon).unwrap_or_default(), colon + 1)
            });
            parts.push((name, path.get(from..at)?));
            (start, colon, modifier) = (at + 1, None, false);
        }
        if closes {
            return Some((parts, path.get(at + 1..)?));
        }
        at += 1;
    }
}
