// SPDX-License-Identifier: Apache-2.0
//! One message of gRPC on its way in and out: read whole, and through its compression.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use nerite_logic::wire::compression::{Effort, Encoding, OFFERED_GRPC};
use nerite_logic::wire::grpc::frame::{PREFIX, compressed_prefix};
use nerite_logic::wire::grpc::{Frame, Unframed, unframe};
use smallvec::SmallVec;

use crate::body::{Align, Reading, Unreadable, read};
use crate::compression;
use crate::grpc::Status;
use crate::server::Shared;

/// How the messages that come with it are compressed.
pub static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How those of the other side may be.
pub static ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Reads the one message of a unary call.
///
/// # Errors
/// If it does not come in full, is too long, or compressed in a way that is not offered.
pub async fn read_message(
    mut body: Incoming,
    headers: &HeaderMap,
    shared: &Shared,
) -> Result<Bytes, Status> {
    let limit = shared.options.max_message_bytes;
    let patience = shared.options.arrival_timeout();
    let how = Reading {
        limit: limit.saturating_add(PREFIX),
        align: Align::MessageEnd,
        patience,
    };
    let mut data = read(&mut body, how).await.map_err(|why| match why {
        Unreadable::TooLong(_) => Status::new(
            8,
            format!("Received message larger than max ({limit} bytes)"),
        ),
        Unreadable::TooSlow => {
            Status::new(4, format!("request stopped for more than {patience:?}"))
        }
        Unreadable::Broken => Status::new(1, "request ended early"),
    })?;
    match unframe(&mut data, limit) {
        Unframed::Message(message) if data.is_empty() => Ok(message),
        Unframed::Compressed(message) if data.is_empty() => {
            expanded(message, headers.get(&ENCODING).cloned(), limit).await
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
    limit: usize,
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
    match compression::expand(encoding, message, limit, 0).await {
        Ok(message) => Ok(message),
        Err(compression::Unreadable::TooLong) => refused(
            8,
            format!("Received message larger than max ({limit} bytes) once decompressed"),
        ),
        Err(compression::Unreadable::Broken) => refused(
            13,
            format!("message has grpc-encoding '{told}', but is no complete {told} data"),
        ),
    }
}

/// A framed message, compressed if its client can read that and it is shorter so.
pub async fn compressed(
    (head, tail): Frame,
    effort: Effort,
    headers: &HeaderMap,
) -> (Frame, Option<Encoding>) {
    let accepted = headers
        .get(&ACCEPT_ENCODING)
        .and_then(|it| it.to_str().ok());
    let Some(encoding) = accepted.and_then(Encoding::accepted_by_grpc) else {
        return ((head, tail), None);
    };
    let mut pieces = compression::Pieces::from_iter([head.slice(PREFIX..)]);
    pieces.extend(tail.iter().cloned());
    match compression::shrink(encoding, effort, pieces).await {
        None => ((head, tail), None),
        Some(short) => {
            let prefix = compressed_prefix(short.len());
            ((prefix, SmallVec::from_iter([short])), Some(encoding))
        }
    }
}
