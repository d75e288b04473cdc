// SPDX-License-Identifier: Apache-2.0
//! The messages of a client's side of a stream, one by one as they come.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use nerite_logic::wire::grpc::{Unframed, unframe};
use tokio::time::{Sleep, sleep};

use crate::grpc_message::ENCODING;
use crate::grpc_message::{Limits, expanded};
use crate::grpc_status::Status;
use crate::shared::Shared;
use hyper::HeaderMap;

/// A message gets at most this much room before its bytes have come.
const BELIEVED: usize = 4 << 20;

/// A body that is read message by message.
pub struct Frames {
    body: Incoming,
    limits: Limits,
    patience: Duration,
    /// What came and was not taken yet: whole messages stay where they are.
    data: Bytes,
    /// The beginning of a message, and how much of it is missing at least.
    partial: BytesMut,
    missing: usize,
    /// When the rest of a message that has begun must have come.
    overdue: Option<Pin<Box<Sleep>>>,
    /// How messages are compressed that are.
    encoding: Option<HeaderValue>,
    /// A compressed message that has come.
    expanding: Option<Expanding>,
}

type Expanding = Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send>>;

impl Frames {
    /// The messages of `body`, none above the limits, none pausing for longer than `patience`.
    pub fn new(body: Incoming, limits: Limits, patience: Duration) -> Self {
        Self {
            body,
            limits,
            patience,
            data: Bytes::new(),
            partial: BytesMut::new(),
            missing: 0,
            overdue: None,
            encoding: None,
            expanding: None,
        }
    }

    /// The same; messages may be compressed as the client's `grpc-encoding` says.
    pub fn compressed(mut self, encoding: Option<HeaderValue>) -> Self {
        self.encoding = encoding;
        self
    }

    /// The next message; `None` once the client has closed its side.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(expanding) = &mut self.expanding {
                let message = ready!(expanding.as_mut().poll(context));
                self.expanding = None;
                return Poll::Ready(message.map(Some));
            }
            if self.partial.is_empty() {
                match unframe(&mut self.data, self.limits.message()) {
                    Unframed::Message(message) => return Poll::Ready(Ok(Some(message))),
                    Unframed::Compressed(message) => {
                        let expanded = expanded(message, self.encoding.clone(), self.limits);
                        self.expanding = Some(Box::pin(expanded));
                        continue;
                    }
                    Unframed::Refused(why) => {
                        let status = Status::new(why.grpc_status(), why.message());
                        return Poll::Ready(Err(status));
                    }
                    Unframed::Incomplete { missing } => self.keep(missing),
                }
            }
            let Some(piece) = ready!(self.poll_piece(context)?) else {
                return Poll::Ready(match self.partial.is_empty() {
                    true => Ok(None),
                    false => Err(Status::new(13, "request message is incomplete")),
                });
            };
            if self.partial.is_empty() {
                self.data = piece;
            } else {
                self.partial.extend_from_slice(&piece);
                self.missing = self.missing.saturating_sub(piece.len());
                if self.missing == 0 {
                    self.data = std::mem::take(&mut self.partial).freeze();
                }
            }
        }
    }

    /// Keeps the beginning of a message until the rest has come.
    fn keep(&mut self, missing: usize) {
        if !self.data.is_empty() {
            self.partial
                .reserve(self.data.len() + missing.min(BELIEVED));
            self.partial.extend_from_slice(&self.data);
            self.missing = missing;
            self.data = Bytes::new();
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            match frame {
                None => return Poll::Ready(Ok(None)),
                Some(Err(_)) => return Poll::Ready(Err(Status::new(1, "request ended early"))),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.overdue = None;
                        return Poll::Ready(Ok(Some(piece)));
                    }
                }
            }
        }
        // Between messages a client may be silent for ever, within one it may not.
        if self.partial.is_empty() {
            return Poll::Pending;
        }
        let patience = self.patience;
        let overdue = self
            .overdue
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(overdue.as_mut().poll(context));
        let message = format!("request stopped for more than {patience:?}");
        Poll::Ready(Err(Status::new(4, message)))
    }
}

/// The messages of a client's side of a call, which may be compressed.
pub fn frames_of(body: Incoming, headers: &HeaderMap, shared: &Shared) -> Frames {
    let options = &shared.options;
    Frames::new(body, Limits::of(options), options.arrival_timeout())
        .compressed(headers.get(&ENCODING).cloned())
}
