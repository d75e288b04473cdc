// SPDX-License-Identifier: Apache-2.0
//! One message of gRPC on its way in and out: read whole, and through its compression.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use nerite_logic::wire::compression::{Effort, Encoding, OFFERED_GRPC};
use nerite_logic::wire::grpc::frame::{PREFIX, compressed_prefix};
use nerite_logic::wire::grpc::{Frame, Unframed, unframe};
use smallvec::SmallVec;

use crate::body::{Piece, Source};
use crate::compression;
use crate::grpc_status::Status;
use crate::options::Options;
use crate::reading::{Align, Reading, Unreadable, read};
use crate::shared::Shared;
use nerite_logic::Error;
use prost::Message;

/// How the messages that come with it are compressed.
pub static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How those of the other side may be.
pub static ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// A compressed message may become this many times as long, if that is more than a plain body over HTTP may be.
/// Tensors rarely shrink further; what does is as likely made to fill the memory.
const RATIO: usize = 32;

/// How long messages may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// As they are sent, and in any case.
    message: usize,
    /// What compressed ones may become, however short they are.
    expanded: usize,
}

impl Limits {
    /// The limits that the options set.
    pub const fn of(options: &Options) -> Self {
        Self {
            message: options.max_message_bytes,
            expanded: options.max_request_bytes,
        }
    }

    /// Most bytes that a message may have as it is sent.
    pub const fn message(self) -> usize {
        self.message
    }

    /// Most bytes that may come out of a compressed message of `length` bytes.
    fn of_expanded(self, length: usize) -> usize {
        let earned = self.expanded.max(length.saturating_mul(RATIO));
        self.message.min(earned)
    }

    /// What a compressed message is told that becomes longer than `limit`.
    fn too_long(self, limit: usize) -> Status {
        let raise = match limit == self.message {
            true => String::new(),
            false => format!(
                ". Compressed messages may become as long as --http-max-input-size says, or \
                 {RATIO} times as long as they are sent."
            ),
        };
        Status::new(
            8,
            format!("Received message larger than max (more vs. {limit}) once decompressed{raise}"),
        )
    }
}

/// Reads the one message of a unary call.
///
/// # Errors
/// If it does not come in full, is too long, or compressed in a way that is not offered.
pub async fn read_message(
    mut body: Incoming,
    headers: &HeaderMap,
    shared: &Shared,
) -> Result<Bytes, Status> {
    let limits = Limits::of(&shared.options);
    let limit = limits.message();
    let patience = shared.options.arrival_timeout();
    let how = Reading {
        limit: limit.saturating_add(PREFIX),
        align: Align::MessageEnd,
        patience,
    };
    let mut data = read(&mut body, how).await.map_err(|why| match why {
        Unreadable::TooLong(length) => {
            let length = length.map_or_else(
                || "more".to_owned(),
                |n| n.saturating_sub(PREFIX as u64).to_string(),
            );
            let text = format!("Received message larger than max ({length} vs. {limit})");
            Status::new(8, text)
        }
        Unreadable::TooSlow => {
            Status::new(4, format!("request stopped for more than {patience:?}"))
        }
        Unreadable::Broken => Status::new(1, "request ended early"),
    })?;
    match unframe(&mut data, limit) {
        Unframed::Message(message) if data.is_empty() => Ok(message),
        Unframed::Compressed(message) if data.is_empty() => {
            expanded(message, headers.get(&ENCODING).cloned(), limits).await
        }
        Unframed::Message(_) | Unframed::Compressed(_) => {
            Err(Status::new(12, "a unary call has one message"))
        }
        Unframed::Incomplete { .. } => Err(Status::new(13, "request message is incomplete")),
        Unframed::Refused(why) => Err(Status::new(why.grpc_status(), why.message())),
    }
}

/// A message as it was before its client compressed it, as its `grpc-encoding` says.
///
/// # Errors
/// If that is not offered, or not what the message is.
pub async fn expanded(
    message: Bytes,
    encoding: Option<HeaderValue>,
    limits: Limits,
) -> Result<Bytes, Status> {
    let name = encoding.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
    let told = String::from_utf8_lossy(name);
    let refused = |code, message| Err(Status::new(code, message));
    let encoding = match Encoding::named(name) {
        Ok(Some(encoding)) => encoding,
        Ok(None) => {
            let text = "message is marked as compressed, but grpc-encoding does not say how";
            return refused(13, text.to_owned());
        }
        Err(_) => {
            let text = format!("grpc-encoding '{told}' is not offered; {OFFERED_GRPC} are");
            return refused(12, text);
        }
    };
    let limit = limits.of_expanded(message.len());
    match compression::expand(encoding, message, limit, 0).await {
        Ok(message) => Ok(message),
        Err(compression::Unreadable::TooLong) => Err(limits.too_long(limit)),
        Err(compression::Unreadable::Broken) => refused(
            13,
            format!("message has grpc-encoding '{told}', but is no complete {told} data"),
        ),
    }
}

/// The encoding in which a client can read answers, if there is one.
pub fn readable(headers: &HeaderMap) -> Option<Encoding> {
    let accepted = headers.get(&ACCEPT_ENCODING)?.to_str().ok()?;
    Encoding::accepted_by_grpc(accepted)
}

/// A framed message, compressed; `None` if that would not be shorter.
pub async fn compressed((head, tail): &Frame, effort: Effort, encoding: Encoding) -> Option<Frame> {
    let mut pieces = compression::Pieces::from_iter([head.slice(PREFIX..)]);
    pieces.extend(tail.iter().cloned());
    let short = compression::shrink(encoding, effort, pieces).await?;
    let prefix = compressed_prefix(short.len());
    Some((prefix, SmallVec::from_iter([short])))
}

/// The answers of a stream, one framed message in each piece, compressed where that makes them shorter.
pub struct Compressed {
    source: Box<dyn Source>,
    effort: Effort,
    encoding: Encoding,
    /// A message that is being compressed.
    under_way: Option<Pin<Box<dyn Future<Output = Frame> + Send>>>,
}

impl Compressed {
    /// The answers of `source`.
    pub fn new(source: Box<dyn Source>, effort: Effort, encoding: Encoding) -> Self {
        Self {
            source,
            effort,
            encoding,
            under_way: None,
        }
    }
}

impl std::fmt::Debug for Compressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compressed({:?}, {:?})", self.encoding, self.source)
    }
}

impl Source for Compressed {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        let under_way = match &mut self.under_way {
            Some(under_way) => under_way,
            None => match ready!(self.source.poll_piece(context)) {
                Piece::End(trailers) => return Poll::Ready(Piece::End(trailers)),
                Piece::Data(head, tail) => {
                    let (effort, encoding) = (self.effort, self.encoding);
                    let frame = (head, tail);
                    self.under_way.insert(Box::pin(async move {
                        let short = compressed(&frame, effort, encoding).await;
                        short.unwrap_or(frame)
                    }))
                }
            },
        };
        let (head, tail) = ready!(under_way.as_mut().poll(context));
        self.under_way = None;
        Poll::Ready(Piece::Data(head, tail))
    }
}

/// A message that was sent.
///
/// # Errors
/// INTERNAL, in Triton's words, if it is none.
pub fn decode<M: Message + Default>(message: Bytes) -> Result<M, Error> {
    M::decode(message).map_err(|_| Error::internal("Unable to parse request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_may_become_grows_with_it_up_to_the_limit_of_messages() {
        let limits = Limits {
            message: 1000,
            expanded: 100,
        };
        assert_eq!(limits.of_expanded(0), 100);
        assert_eq!(limits.of_expanded(10), 320);
        assert_eq!(limits.of_expanded(900), 1000);
        assert_eq!(limits.of_expanded(usize::MAX), 1000);
    }
}
