// SPDX-License-Identifier: Apache-2.0
//! CloudEvents around requests and answers (`spec/kserve.md` 4.5).

use bytes::Bytes;

use crate::wire::json::write::string;
use crate::wire::json::{Kind, Reader, Syntax};

/// The attributes that an event must have; `time` is none of them, though KServe asks for it.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// What is said of an answer that is an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// An id of its own.
    pub id: String,
    /// The model, as KServe names it.
    pub source: String,
    /// When it was answered (RFC 3339).
    pub time: String,
}

impl Attributes {
    /// The `type` of every answer.
    pub const TYPE: &str = "io.kserve.inference.response";

    /// The `source` of the answers of a model.
    #[must_use]
    pub fn source_of(model: &str) -> String {
        format!("io.kserve.inference.{model}")
    }
}

/// The data of a body that is a whole event; `None` if it is none.
#[must_use]
pub fn unwrap_event(body: &Bytes) -> Option<Bytes> {
    read(body).ok().flatten()
}

fn read(body: &Bytes) -> Result<Option<Bytes>, Syntax> {
    let mut json = Reader::new(body);
    if json.kind() != Kind::Object {
        return Ok(None);
    }
    json.enter();
    let (mut start, mut seen, mut data) = (true, [false; REQUIRED.len()], None);
    while let Some(name) = json.member(&mut start)? {
        let kind = json.kind();
        let from = json.position();
        json.skip()?;
        for (seen, required) in seen.iter_mut().zip(REQUIRED) {
            *seen |= kind == Kind::String && name.bytes() == required.as_bytes();
        }
        if name.bytes() == b"data" {
            data = Some(body.slice(from..json.position()));
        }
    }
    json.end()?;
    Ok(data.filter(|_| seen.iter().all(|seen| *seen)))
}

/// An answer as a whole event.
#[must_use]
pub fn wrap_event(attributes: &Attributes, data: &[u8]) -> Bytes {
    let Attributes { id, source, time } = attributes;
    let mut out = Vec::with_capacity(data.len() + 256);
    for (name, value) in [
        ("{\"specversion\":", "1.0"),
        (",\"id\":", id),
        (",\"source\":", source),
        (",\"type\":", Attributes::TYPE),
        (",\"time\":", time),
    ] {
        out.extend_from_slice(name.as_bytes());
        string(&mut out, value.as_bytes());
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
    out.into()
}
