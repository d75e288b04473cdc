// SPDX-License-Identifier: Apache-2.0
//! Requests and answers told to a sink as CloudEvents, by a thread of its own. The queue to it is
//! bounded: what does not fit is dropped and counted, and no request ever waits for the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use nerite_logic::Error;
use tokio::sync::{Semaphore, mpsc};

use super::bodies::{Reply, collected};
use super::outgoing::Outgoing;
use super::speech::Speech;
use super::told::{Event, PayloadLog};
use super::upstream::{self, Reach};
use crate::access_log::rfc3339;

/// Events that may wait, and events that are on their way at a time: as KServe's agent.
const WAITING: usize = 100;
const AT_A_TIME: usize = 5;
/// How long the sink may take for one event, and for all that is left at the end.
const PATIENCE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(2);

/// Starts the thread; what it is to tell goes into the queue.
///
/// # Errors
/// If the system gives none.
pub fn start(reach: Duration) -> Result<(PayloadLog, JoinHandle<()>), Error> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let dropped = Arc::<AtomicU64>::default();
    let log = PayloadLog::to(sender, Arc::clone(&dropped));
    let handle = thread::Builder::new()
        .name("nerite-payload-log".into())
        .spawn(move || tell_all(receiver, reach, dropped))
        .map_err(|why| Error::internal(format!("cannot start a thread: {why}")))?;
    Ok((log, handle))
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
