// SPDX-License-Identifier: Apache-2.0
//! What begins with `@`. Each takes a result, which may be nothing, and gives another.

use super::document::Document;
use super::path::balanced;
use super::walk::{Step, get};

/// Whether there is a modifier of that name.
pub fn is_known(name: &str) -> bool {
    matches!(
        name,
        "dig"
            | "flatten"
            | "fromstr"
            | "group"
            | "join"
            | "keys"
            | "pretty"
            | "reverse"
            | "this"
            | "tostr"
            | "ugly"
            | "valid"
            | "values"
    )
}

/// Applies the modifier that a path begins with; `None` if it is unknown, so the path names a key.
pub fn apply<'p>(document: Option<&Document>, path: &'p str) -> Step<'p> {
    let written = path.strip_prefix('@')?;
    let end = written.find([':', '|', '.']).unwrap_or(written.len());
    let (name, rest) = written.split_at(end);
    if !is_known(name) {
        return None;
    }
    let (argument, rest) = rest.strip_prefix(':').map_or(("", rest), argument);
    Some((run(name, document, argument), rest))
}

/// The argument, and the path behind it: JSON to its end, anything else to the next pipe.
fn argument(text: &str) -> (&str, &str) {
    if text.starts_with(['{', '[', '"']) {
        return text.split_at(balanced(text, 0).unwrap_or(text.len()));
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'|') {
        at = match byte {
            b'{' | b'[' | b'"' | b'(' => balanced(text, at).unwrap_or(text.len()),
            _ => at + 1,
        };
    }
    text.split_at(at)
}

fn run(name: &str, document: Option<&Document>, argument: &str) -> Option<Document> {
    match (name, document) {
        ("this" | "ugly" | "pretty" | "valid", _) => document.cloned(),
        ("tostr", _) => Some(Document::Text(document.map(json).unwrap_or_default())),
        ("fromstr", Some(Document::Text(text))) => Document::parse(text.as_bytes()).ok(),
        ("fromstr", Some(Document::Null)) => None,
        ("fromstr", _) => document.cloned(),
        ("keys", Some(Document::Object(members))) => Some(Document::List(
            members
                .iter()
                .map(|(key, _)| Document::Text(key.clone()))
                .collect(),
        )),
        ("keys", Some(Document::List(items))) => {
            Some(Document::List(vec![Document::Null; items.len()]))
        }
        ("keys", Some(_)) => Some(Document::List(vec![Document::Null])),
        ("values", Some(Document::List(_))) => document.cloned(),
        ("values", Some(Document::Object(members))) => Some(Document::List(
            members.iter().map(|(_, value)| value.clone()).collect(),
        )),
        ("values", Some(value)) => Some(Document::List(vec![value.clone()])),
        ("keys" | "values", None) => Some(Document::List(Vec::new())),
        ("dig", _) => Some(Document::List(dig(document, argument))),
        ("reverse", Some(Document::List(items))) => {
            Some(Document::List(items.iter().rev().cloned().collect()))
        }
        ("reverse", Some(Document::Object(members))) => {
            Some(Document::Object(members.iter().rev().cloned().collect()))
        }
        ("flatten", Some(Document::List(items))) => {
            Some(Document::List(flatten(items, option(argument, "deep"))))
        }
        ("join", Some(Document::List(items))) => Some(Document::Object(join(items))),
        ("group", Some(Document::Object(members))) => Some(Document::List(group(members))),
        ("group", _) => None,
        _ => document.cloned(),
    }
}

/// Whether an argument such as `{"deep":true}` says so.
fn option(argument: &str, name: &str) -> bool {
    let asked = Document::parse(argument.as_bytes()).ok();
    get(asked.as_ref(), name) == Some(Document::Bool(true))
}

fn dig(document: Option<&Document>, path: &str) -> Vec<Document> {
    let mut found: Vec<Document> = get(document, path).into_iter().collect();
    match document {
        Some(Document::List(items)) => {
            found.extend(items.iter().flat_map(|item| dig(Some(item), path)));
        }
        Some(Document::Object(members)) => {
            found.extend(members.iter().flat_map(|(_, value)| dig(Some(value), path)));
        }
        _ => {}
    }
    found
}

fn flatten(items: &[Document], deep: bool) -> Vec<Document> {
    let flat = items.iter().flat_map(|item| match item {
        Document::List(inner) if deep => flatten(inner, deep),
        Document::List(inner) => inner.clone(),
        other => vec![other.clone()],
    });
    flat.collect()
}

/// One object of many; the last value of a key counts.
fn join(items: &[Document]) -> Vec<(String, Document)> {
    let mut joined: Vec<(String, Document)> = Vec::new();
    for item in items {
        let Document::Object(members) = item else {
            continue;
        };
        for (key, value) in members {
            match joined.iter_mut().find(|(known, _)| known == key) {
                Some((_, place)) => *place = value.clone(),
                None => joined.push((key.clone(), value.clone())),
            }
        }
    }
    joined
}

/// Objects of the first, second, ... items of each list.
fn group(members: &[(String, Document)]) -> Vec<Document> {
    let mut rows: Vec<Vec<(String, Document)>> = Vec::new();
    for (key, value) in members {
        let Document::List(items) = value else {
            continue;
        };
        for (index, item) in items.iter().enumerate() {
            let member = (key.clone(), item.clone());
            match rows.get_mut(index) {
                Some(row) => row.push(member),
                None => rows.push(vec![member]),
            }
        }
    }
    rows.into_iter().map(Document::Object).collect()
}

/// The document as JSON text.
fn json(document: &Document) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match document {
        Document::Null => "null".into(),
        Document::Bool(flag) => flag.to_string(),
        Document::Number(number) => number.to_string(),
        Document::Text(text) => quoted(text),
        Document::List(items) => {
            let items: Vec<String> = items.iter().map(json).collect();
            format!("[{}]", items.join(","))
        }
        Document::Object(members) => {
            let members = members.iter();
            let members: Vec<String> = members
                .map(|(key, value)| format!("{}:{}", quoted(key), json(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}
