// SPDX-License-Identifier: Apache-2.0
//! What a component's sink is told of: bodies are overheard as they pass, and put into a queue once they are whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use nerite_logic::Error;
use nerite_logic::gateway::table;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use uuid::Uuid;

static CE_ID: HeaderName = HeaderName::from_static("ce-id");

/// A component's sink.
#[derive(Debug)]
pub struct Sink {
    pub(super) address: Arc<str>,
    pub(super) uri: Uri,
    pub(super) requests: bool,
    pub(super) responses: bool,
    pub(super) attributes: HeaderMap,
    pub(super) metadata_headers: Vec<String>,
}

impl Sink {
    /// A sink as the table describes it.
    ///
    /// # Errors
    /// If its URL or an attribute cannot be written.
    pub fn new(written: &table::Logger) -> Result<Self, Error> {
        let wrong = |what: &str, why: String| Error::invalid(format!("logger {what}: {why}"));
        let mut attributes = HeaderMap::new();
        for (name, value) in &written.attributes {
            let header = HeaderName::from_bytes(name.as_bytes());
            let header = header.map_err(|why| wrong(name, why.to_string()))?;
            let value = HeaderValue::from_str(value);
            attributes.insert(header, value.map_err(|why| wrong(name, why.to_string()))?);
        }
        let host = HeaderValue::from_str(&written.authority);
        attributes.insert(HOST, host.map_err(|why| wrong("url", why.to_string()))?);
        let uri = written.path.parse();
        Ok(Self {
            address: written.authority.as_str().into(),
            uri: uri.map_err(|why: hyper::http::uri::InvalidUri| wrong("url", why.to_string()))?,
            requests: written.requests,
            responses: written.responses,
            attributes,
            metadata_headers: written.metadata_headers.clone(),
        })
    }
}

/// What is told of one request, under one id.
#[derive(Clone, Debug)]
pub struct Told {
    pub(super) sink: Arc<Sink>,
    pub(super) id: HeaderValue,
    pub(super) metadata: Option<HeaderValue>,
    pub(super) log: PayloadLog,
}

impl Told {
    /// Begins with a request's headers.
    pub fn of(sink: &Arc<Sink>, headers: &HeaderMap, log: &PayloadLog) -> Self {
        let id = headers
            .get(&CE_ID)
            .cloned()
            .or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).ok());
        Self {
            id: id.unwrap_or_else(|| HeaderValue::from_static("0")),
            metadata: metadata(&sink.metadata_headers, headers),
            sink: Arc::clone(sink),
            log: log.clone(),
        }
    }

    /// A tap for the request's body, if requests are told.
    pub fn request(&self, headers: &HeaderMap, limit: usize) -> Option<Tap> {
        self.sink
            .requests
            .then(|| self.tap("request", headers, limit))
    }

    /// A tap for the answer's body, if answers are told.
    pub fn response(&self, headers: &HeaderMap, limit: usize) -> Option<Tap> {
        self.sink
            .responses
            .then(|| self.tap("response", headers, limit))
    }

    fn tap(&self, kind: &'static str, headers: &HeaderMap, limit: usize) -> Tap {
        Tap {
            told: self.clone(),
            kind,
            content_type: headers.get(CONTENT_TYPE).cloned(),
            pieces: Vec::new(),
            left: Some(limit),
        }
    }
}

fn metadata(names: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let mut found = serde_json::Map::new();
    for name in names {
        let values = headers.get_all(name.as_str()).iter();
        let values: Vec<String> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        if !values.is_empty() {
            found.insert(name.clone(), values.into());
        }
    }
    let text = serde_json::Value::from(found).to_string();
    (!names.is_empty())
        .then(|| HeaderValue::from_str(&text).ok())
        .flatten()
}

/// Keeps the pieces of a body that passes, until all have. A body that breaks off is not told.
#[derive(Debug)]
pub struct Tap {
    told: Told,
    kind: &'static str,
    content_type: Option<HeaderValue>,
    pieces: Vec<Bytes>,
    /// Bytes that may still be kept; `None` once there were too many.
    left: Option<usize>,
}

impl Tap {
    /// A piece has passed.
    pub fn see(&mut self, piece: &Bytes) {
        self.left = self.left.and_then(|left| left.checked_sub(piece.len()));
        match self.left {
            Some(_) => self.pieces.push(piece.clone()),
            None => self.pieces.clear(),
        }
    }

    /// The last piece has passed.
    pub fn end(self) {
        if self.left.is_none() {
            self.told.log.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let body = match <[Bytes; 1]>::try_from(self.pieces) {
            Ok([one]) => one,
            Err(many) => {
                let mut whole = BytesMut::new();
                many.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        };
        let log = self.told.log.clone();
        log.tell(Event {
            told: self.told,
            kind: self.kind,
            content_type: self.content_type,
            when: SystemTime::now(),
            body,
        });
    }
}

/// What a sink is told at once.
#[derive(Debug)]
pub struct Event {
    pub(super) told: Told,
    pub(super) kind: &'static str,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) when: SystemTime,
    pub(super) body: Bytes,
}

/// The queue to the thread that tells.
#[derive(Clone, Debug)]
pub struct PayloadLog {
    /// `None` once the end has begun.
    queue: Arc<Mutex<Option<mpsc::Sender<Event>>>>,
    /// Events that were not told.
    pub dropped: Arc<AtomicU64>,
}

impl PayloadLog {
    /// The way into a queue.
    pub fn to(queue: mpsc::Sender<Event>, dropped: Arc<AtomicU64>) -> Self {
        Self {
            queue: Arc::new(Mutex::new(Some(queue))),
            dropped,
        }
    }

    /// Takes nothing more; what waits is told if the sink is quick.
    pub fn stop(&self) {
        self.queue.lock().take();
    }

    fn tell(&self, event: Event) {
        let queue = self.queue.lock();
        let taken = queue
            .as_ref()
            .is_some_and(|queue| queue.try_send(event).is_ok());
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
