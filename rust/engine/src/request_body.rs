// SPDX-License-Identifier: Apache-2.0
//! The body of an HTTP request: read once under the limit, as it was before its client compressed it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use nerite_logic::Error;
use nerite_logic::wire::compression::Encoding;

use crate::compression;
use crate::failure::Failure;
use crate::reading::{Align, Reading, Unreadable, read};
use crate::shared::Shared;
use crate::trace::{Point, Traced, mark};
use crate::version::Version;

/// A request to a model whose body is there.
pub struct Arrived {
    /// The body, decompressed.
    pub body: Bytes,
    /// When it was there: from then on the request is the server's to answer.
    pub received: Instant,
    /// Its trace, if it has one.
    pub traced: Option<Traced>,
}

/// Waits for the body of a request to a model; the offset `align_at` of it lies on a cache line.
///
/// # Errors
/// As [`read_body`].
pub async fn arrive(
    version: &Arc<Version>,
    head: &Parts,
    body: &mut Incoming,
    align_at: Option<usize>,
    shared: &Shared,
) -> Result<Arrived, Failure> {
    let encoding = encoding(&head.headers)?;
    let traced = shared.tracer.sample(version.traced(), &head.headers, false);
    mark(traced.as_ref(), Point::ReceiveStart);
    let body = decoded(encoding, head, body, align_at, shared).await?;
    mark(traced.as_ref(), Point::ReceiveEnd);
    Ok(Arrived {
        body,
        received: Instant::now(),
        traced,
    })
}

/// The body of a step of a graph, which is there at once.
pub fn at_once(
    version: &Arc<Version>,
    headers: &HeaderMap,
    body: Bytes,
    shared: &Shared,
) -> Arrived {
    let traced = shared.tracer.sample(version.traced(), headers, false);
    mark(traced.as_ref(), Point::ReceiveStart);
    mark(traced.as_ref(), Point::ReceiveEnd);
    Arrived {
        body,
        received: Instant::now(),
        traced,
    }
}

/// Reads a whole body.
///
/// # Errors
/// If it is encoded in a way that is not offered, is too long, stops, or breaks off.
pub async fn read_body(
    head: &Parts,
    body: &mut Incoming,
    shared: &Shared,
) -> Result<Bytes, Failure> {
    read_aligned(head, body, None, shared).await
}

/// Reads a whole body; the offset `align_at` of it lies on a cache line.
///
/// # Errors
/// As [`read_body`].
pub async fn read_aligned(
    head: &Parts,
    body: &mut Incoming,
    align_at: Option<usize>,
    shared: &Shared,
) -> Result<Bytes, Failure> {
    let encoding = encoding(&head.headers)?;
    decoded(encoding, head, body, align_at, shared).await
}

/// How a body is compressed, if it is.
///
/// # Errors
/// If that is not offered, or it is compressed more than once.
pub fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Failure> {
    let mut named = headers.get_all(CONTENT_ENCODING).iter();
    let Some(first) = named.next() else {
        return Ok(None);
    };
    match (Encoding::named(first.as_bytes()), named.next()) {
        (Ok(encoding), None) => Ok(encoding),
        _ => Err(Failure::Encoding),
    }
}

async fn decoded(
    encoding: Option<Encoding>,
    head: &Parts,
    body: &mut Incoming,
    align_at: Option<usize>,
    shared: &Shared,
) -> Result<Bytes, Failure> {
    let sent = sent(&head.headers, body, align_at, shared).await?;
    match encoding {
        None => Ok(sent),
        Some(encoding) => expanded(encoding, sent, align_at, shared).await,
    }
}

async fn sent(
    headers: &HeaderMap,
    body: &mut Incoming,
    align_at: Option<usize>,
    shared: &Shared,
) -> Result<Bytes, Failure> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // A body of declared length has no transfer encoding.
    if body.size_hint().exact().is_none() {
        only_chunked(headers)?;
    }
    let limit = shared.options.max_request_bytes;
    let patience = shared.options.arrival_timeout();
    let how = Reading {
        limit,
        align: Align::At(align_at.unwrap_or(0)),
        patience,
    };
    read(body, how).await.map_err(|why| match why {
        Unreadable::TooLong(declared) => too_long(
            &declared.map_or_else(|| "of unknown length".into(), |n| format!("of {n} bytes")),
            limit,
        ),
        Unreadable::TooSlow => Failure::Status(
            StatusCode::REQUEST_TIMEOUT,
            format!("request body stopped for more than {patience:?}, or came too slowly"),
        ),
        Unreadable::Broken => Failure::Status(
            StatusCode::BAD_REQUEST,
            "request body ended early or is framed wrongly".into(),
        ),
    })
}

/// hyper goes by the last of several transfer encodings and leaves the others to whoever reads.
fn only_chunked(headers: &HeaderMap) -> Result<(), Error> {
    let mut named = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |name: &HeaderValue| name.as_bytes().eq_ignore_ascii_case(b"chunked");
    if named.next().is_none_or(is_chunked) && named.next().is_none() {
        return Ok(());
    }
    Err(Error::unsupported(
        "Unsupported transfer encoding, only 'chunked' is supported.",
    ))
}

fn too_long(body: &str, limit: usize) -> Failure {
    let text = format!(
        "request body {body} exceeds the limit of {limit} bytes. \
         Use --http-max-input-size to increase the limit."
    );
    Failure::Status(StatusCode::PAYLOAD_TOO_LARGE, text)
}

async fn expanded(
    encoding: Encoding,
    body: Bytes,
    align_at: Option<usize>,
    shared: &Shared,
) -> Result<Bytes, Failure> {
    let limit = shared.options.max_request_bytes;
    let name = encoding.name();
    let expanded = compression::expand(encoding, body, limit, align_at.unwrap_or(0)).await;
    expanded.map_err(|why| match why {
        compression::Unreadable::TooLong => too_long(&format!("decompressed from {name}"), limit),
        compression::Unreadable::Broken => Error::invalid(format!(
            "failed to decompress the request body: it has Content-Encoding '{name}', but is \
             no complete {name} data"
        ))
        .into(),
    })
}
