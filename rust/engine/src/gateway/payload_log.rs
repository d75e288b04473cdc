// SPDX-License-Identifier: Apache-2.0
//! Requests and answers told to a sink as CloudEvents, by a thread of its own. The queue to it is
//! bounded: what does not fit is dropped and counted, and no request ever waits for the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri};
use nerite_logic::Error;
use nerite_logic::gateway::table;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::bodies::{Outgoing, Reply, collected};
use super::live::Speech;
use super::upstream::{self, Reach};
use crate::access_log::rfc3339;

/// Events that may wait, and events that are on their way at a time: as KServe's agent.
const WAITING: usize = 100;
const AT_A_TIME: usize = 5;
/// How long the sink may take for one event, and for all that is left at the end.
const PATIENCE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(2);
static CE_ID: HeaderName = HeaderName::from_static("ce-id");

/// A component's sink.
#[derive(Debug)]
pub struct Sink {
    address: Arc<str>,
    uri: Uri,
    requests: bool,
    responses: bool,
    attributes: HeaderMap,
    metadata_headers: Vec<String>,
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
    sink: Arc<Sink>,
    id: HeaderValue,
    metadata: Option<HeaderValue>,
    log: PayloadLog,
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

#[derive(Debug)]
struct Event {
    told: Told,
    kind: &'static str,
    content_type: Option<HeaderValue>,
    when: SystemTime,
    body: Bytes,
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
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(reach: Duration) -> Result<(Self, JoinHandle<()>), Error> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let dropped = Arc::<AtomicU64>::default();
        let log = Self {
            queue: Arc::new(Mutex::new(Some(sender))),
            dropped: Arc::clone(&dropped),
        };
        let handle = thread::Builder::new()
            .name("nerite-payload-log".into())
            .spawn(move || tell_all(receiver, reach, dropped))
            .map_err(|why| Error::internal(format!("cannot start a thread: {why}")))?;
        Ok((log, handle))
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

fn tell_all(mut events: mpsc::Receiver<Event>, patience: Duration, dropped: Arc<AtomicU64>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_io().enable_time().build() else {
        return;
    };
    let reach = Arc::new(Reach::new(patience));
    let free = Arc::new(Semaphore::new(AT_A_TIME));
    runtime.block_on(async {
        loop {
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
                return;
            };
            let Some(event) = events.recv().await else {
                break;
            };
            let (reach, dropped) = (Arc::clone(&reach), Arc::clone(&dropped));
            tokio::spawn(async move {
                let _permit = permit;
                let told = tokio::time::timeout(PATIENCE, tell(event, &reach));
                if !matches!(told.await, Ok(true)) {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let rest = free.acquire_many(u32::try_from(AT_A_TIME).unwrap_or(1));
        // Whoever is slow now is not waited for.
        let _ = tokio::time::timeout(FAREWELL, rest).await;
    });
}

/// Whether the sink took it.
async fn tell(event: Event, reach: &Reach) -> bool {
    let sink = Arc::clone(&event.told.sink);
    let mut request = Request::new(Outgoing::whole(event.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = sink.uri.clone();
    let headers = request.headers_mut();
    *headers = sink.attributes.clone();
    let kind = match event.kind {
        "request" => HeaderValue::from_static("org.kubeflow.serving.inference.request"),
        _ => HeaderValue::from_static("org.kubeflow.serving.inference.response"),
    };
    let when = HeaderValue::from_str(&rfc3339(event.when));
    let when = when.unwrap_or_else(|_| HeaderValue::from_static(""));
    for (name, value) in [
        ("ce-specversion", Some(HeaderValue::from_static("1.0"))),
        ("ce-id", Some(event.told.id)),
        ("ce-type", Some(kind)),
        ("ce-time", Some(when.clone())),
        ("ce-recordedtime", Some(when)),
        ("ce-metadata", event.told.metadata),
        ("content-type", event.content_type),
    ] {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let sent = upstream::send(&sink.address, Speech::Http, request, reach).await;
    let Ok((answer, lease)) = sent else {
        return false;
    };
    let taken = answer.status().is_success();
    let body = Reply::passing(answer.into_body(), lease, None);
    // Read to its end, so that the connection can be used again.
    let _ = collected(body, 1 << 20).await;
    taken
}
