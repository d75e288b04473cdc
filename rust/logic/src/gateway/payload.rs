// SPDX-License-Identifier: Apache-2.0
//! Bodies between the steps of a graph: parts of them are moved, never rewritten, so every number and
//! text stays as its model wrote it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A body. With the binary extension of V2, raw tensors follow its JSON.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// All of it.
    pub body: Bytes,
    /// Length of the JSON in front, if that is not all.
    pub json_length: Option<usize>,
}

impl Payload {
    /// A body that is JSON from end to end.
    #[must_use]
    pub fn of_json(json: String) -> Self {
        Self {
            body: json.into(),
            json_length: None,
        }
    }

    /// The part that is JSON.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        let length = self.json_length.unwrap_or(self.body.len());
        self.body.get(..length).unwrap_or(&self.body)
    }

    /// The content type by which this body is answered; KServe's router looks at nothing else either.
    #[must_use]
    pub fn content_type(&self) -> Option<&'static str> {
        if self.json_length.is_some() {
            return Some("application/octet-stream");
        }
        if self.body.is_empty() {
            return None;
        }
        match serde_json::from_slice::<IgnoredAny>(&self.body) {
            Ok(_) => Some("application/json"),
            Err(_) => Some(sniffed(&self.body)),
        }
    }
}

/// What browsers would take a text for, as far as steps answer such things.
fn sniffed(body: &[u8]) -> &'static str {
    const HTML: [&[u8]; 17] = [
        b"<!DOCTYPE HTML",
        b"<HTML",
        b"<HEAD",
        b"<SCRIPT",
        b"<IFRAME",
        b"<H1",
        b"<DIV",
        b"<FONT",
        b"<TABLE",
        b"<A",
        b"<STYLE",
        b"<TITLE",
        b"<B",
        b"<BODY",
        b"<BR",
        b"<P",
        b"<!--",
    ];
    let head = body.get(..512).unwrap_or(body);
    let text = head.trim_ascii_start();
    let begins = |tag: &&[u8]| {
        text.get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag))
            && (**tag == *b"<!--" || matches!(text.get(tag.len()), Some(b' ' | b'>')))
    };
    if HTML.iter().any(begins) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    let binary = |byte: &u8| matches!(byte, 0..=8 | 11 | 14..=26 | 28..=31);
    match head.iter().any(binary) {
        true => "application/octet-stream",
        false => "text/plain; charset=utf-8",
    }
}

/// The members of an object as they stand in its text; of a double key the last counts.
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Members<'_> {
    /// All but one, as they are written.
    pub(super) fn others(&self, left_out: &str) -> impl Iterator<Item = (&str, &str)> {
        let members = self
            .0
            .iter()
            .map(|(key, value)| (key.as_str(), value.get()));
        members.filter(move |(key, _)| *key != left_out)
    }

    /// The last one whose key is wanted.
    pub(super) fn last(&self, wanted: impl Fn(&str) -> bool) -> Option<&str> {
        let mut members = self.0.iter().rev();
        let (_, value) = members.find(|(key, _)| wanted(key))?;
        Some(value.get())
    }
}

/// `{"predictions": [...]}` as `{"instances": [...]}`; `None` for anything else, and for an empty list.
#[must_use]
pub fn predictions_to_instances(payload: &Payload) -> Option<Payload> {
    let members: Members<'_> = serde_json::from_slice(payload.json()).ok()?;
    let predictions = members.last(|key| key.eq_ignore_ascii_case("predictions"))?;
    let items: Vec<IgnoredAny> = serde_json::from_str(predictions).ok()?;
    (!items.is_empty()).then(|| Payload::of_json(format!(r#"{{"instances":{predictions}}}"#)))
}

/// A V2 answer as a V2 request: its outputs are the inputs. Raw tensors go with them, and are asked for.
#[must_use]
pub fn outputs_to_inputs(payload: &Payload) -> Option<Payload> {
    let members: Members<'_> = serde_json::from_slice(payload.json()).ok()?;
    let outputs = members.last(|key| key == "outputs")?;
    let id = members.last(|key| key == "id");
    let id = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
    let Some(length) = payload.json_length else {
        return Some(Payload::of_json(format!(r#"{{{id}"inputs":{outputs}}}"#)));
    };
    let raw = r#""parameters":{"binary_data_output":true}"#;
    let json = format!(r#"{{{id}{raw},"inputs":{outputs}}}"#);
    let tensors = payload.body.get(length..)?;
    Some(Payload {
        json_length: Some(json.len()),
        body: [json.as_bytes(), tensors].concat().into(),
    })
}

/// Checks that a body is an object, or `null`, which KServe takes for one.
///
/// # Errors
/// What the parser says.
pub fn check_object(body: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<Option<Members<'_>>>(body).map(|_| ())
}

/// An object of members whose values are JSON already.
#[must_use]
pub fn object_of(members: &BTreeMap<&str, &[u8]>) -> String {
    let mut out = String::from("{");
    for (key, value) in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(*key).to_string());
        out.push(':');
        out.push_str(&String::from_utf8_lossy(value));
    }
    out.push('}');
    out
}
