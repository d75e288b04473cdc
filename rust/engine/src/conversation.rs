// SPDX-License-Identifier: Apache-2.0
//! Calls that go on and touch no model: health as it changes, and server reflection.
//!
//! Each is a task of the thread that owns the connection; it ends with the client, with the call's deadline
//! or when the engine drains.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use nerite_logic::wire::grpc::messages as proto;
use nerite_logic::wire::grpc::{frame, reflection};
use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::body::{Piece, Source};
use crate::door::drain_begins;
use crate::frames::Frames;
use crate::grpc_status::{Status, ok_trailers};
use crate::routes::guard::{Call, Entered};
use crate::shared::Shared;

/// What a conversation says next.
#[derive(Debug)]
struct Said(mpsc::Receiver<Piece>);

impl Source for Said {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        Poll::Ready(ready!(self.0.poll_recv(context)).unwrap_or(Piece::End(None)))
    }
}

/// Where a conversation says it: one piece waits at most, so a client that does not read is not told more.
#[derive(Clone)]
struct Mouth(mpsc::Sender<Piece>);

impl Mouth {
    /// Says a message; `None` if nobody listens any more.
    async fn say(&self, message: Bytes) -> Option<()> {
        let piece = Piece::Data(message, SmallVec::new());
        self.0.send(piece).await.ok()
    }

    async fn end(&self, outcome: Result<(), Status>) {
        let trailers = match outcome {
            Ok(()) => ok_trailers(),
            Err(status) => status.trailers(),
        };
        // Whoever has gone needs no end.
        let _ = self.0.send(Piece::End(Some(trailers))).await;
    }
}

fn begin<F>(limit: Option<Duration>, talk: impl FnOnce(Mouth) -> F) -> Box<dyn Source>
where
    F: Future<Output = Option<Result<(), Status>>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let mouth = Mouth(sender);
    let talk = talk(mouth.clone());
    tokio::spawn(async move {
        let outcome = match limit {
            None => talk.await,
            Some(limit) => tokio::time::timeout(limit, talk)
                .await
                .unwrap_or_else(|_| Some(Err(Status::too_late()))),
        };
        if let Some(outcome) = outcome {
            mouth.end(outcome).await;
        }
    });
    Box::new(Said(receiver))
}

fn stopping() -> Status {
    let text = "GRPC server is shutting down and has stopped accepting new requests.";
    Status::new(14, text)
}

/// Tells whether the server is ready, now and whenever that changes.
pub fn watch_health(limit: Option<Duration>, shared: &Arc<Shared>) -> Box<dyn Source> {
    let (mut ready, mut draining) = (shared.readiness(), shared.draining());
    let shared = Arc::clone(shared);
    begin(limit, |mouth| async move {
        let mut told = None;
        loop {
            ready.mark_unchanged();
            let now = shared.is_ready();
            if told != Some(now) {
                told = Some(now);
                let status = if now { 1 } else { 2 };
                mouth
                    .say(frame(&proto::HealthCheckResponse { status }))
                    .await?;
            }
            tokio::select! {
                biased;
                () = mouth.0.closed() => return None,
                changed = ready.changed() => if changed.is_err() { return None },
                () = drain_begins(&mut draining) => return Some(Err(stopping())),
            }
        }
    })
}

/// Answers questions about the services of this server.
pub fn reflect(
    entered: Entered,
    mut frames: Frames,
    limit: Option<Duration>,
    shared: &Arc<Shared>,
) -> Box<dyn Source> {
    let mut draining = shared.draining();
    begin(limit, |mouth| async move {
        loop {
            let asked = tokio::select! {
                biased;
                () = mouth.0.closed() => return None,
                asked = poll_fn(|context| frames.poll_next(context)) => asked,
                () = drain_begins(&mut draining) => return Some(Err(stopping())),
            };
            let question = match asked {
                Ok(Some(question)) => question,
                Ok(None) => return Some(Ok(())),
                Err(status) => return Some(Err(status)),
            };
            let admitted = entered.admit(question).map(Call::into_message);
            match admitted.and_then(reflection::answer) {
                Ok(answer) => mouth.say(answer).await?,
                Err(why) => return Some(Err(why.into())),
            }
        }
    })
}
