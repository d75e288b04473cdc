// SPDX-License-Identifier: Apache-2.0
//! The v2 protocol's inference over HTTP (`spec/triton.md` 1.4), for clients and for steps of graphs.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use hyper::http::request::Parts;
use nerite_logic::Error;
use nerite_logic::wire::compression::{Effort, Encoding};
use nerite_logic::wire::v2;
use smallvec::SmallVec;

use crate::access_log::RequestId;
use crate::body::ReplyBody;
use crate::failure::Failure;
use crate::reply::{HEADER_LENGTH, JSON, Reply, with_type};
use crate::request_body::{Arrived, arrive};
use crate::routes::Target;
use crate::routes::doors::Dialect;
use crate::shared::Shared;
use crate::trace::{Point, Traced, mark};
use crate::version::Version;
use crate::{compression, infer};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Answers with what a model infers.
///
/// # Errors
/// What is wrong with the request, or what the model has to say.
pub async fn infer(
    target: Target<'_>,
    head: &Parts,
    body: &mut Incoming,
    dialect: Dialect,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let version = inferring(target, shared)?;
    let declared = dialect.header_length(head);
    let align_at = declared.and_then(number);
    let arrived = arrive(&version, head, body, align_at, shared).await?;
    inferred(&version, head, declared, arrived, shared).await
}

/// The version that infers.
///
/// # Errors
/// If there is none, or it gives any number of answers.
pub fn inferring(target: Target<'_>, shared: &Shared) -> Result<Arc<Version>, Error> {
    let version = Arc::clone(shared.table().find(target.name, target.number()?)?);
    if version.spec.decoupled {
        infer::refused(&version, Instant::now());
        return Err(Error::unsupported(
            "HTTP end point doesn't support models with decoupled transaction policy",
        ));
    }
    Ok(version)
}

/// The answer to a request whose body is there, from a client or from a step of a graph; raw tensors begin
/// where `declared` says.
///
/// # Errors
/// What is wrong with the request, or what the model has to say.
pub async fn inferred(
    version: &Arc<Version>,
    head: &Parts,
    declared: Option<&[u8]>,
    arrived: Arrived,
    shared: &Shared,
) -> Result<Reply, Failure> {
    let Arrived {
        body,
        received,
        traced,
    } = arrived;
    let parsed = declared
        .map(|text| v2::parse_header_length(text, body.len()))
        .transpose()
        .and_then(|length| v2::parse_request(&body, length, &version.spec));
    // From here on the tensors alone keep the body.
    drop(body);
    let attached = parsed.and_then(|mut request| {
        shared.forward.http(head, &mut request.parameters)?;
        shared.regions.attach(request)
    });
    let (request, targets) = attached.inspect_err(|_| infer::refused(version, received))?;
    let asked = request.take_asked();
    let mut response = infer::infer(version, request, received, traced.as_ref()).await?;
    targets.write(&asked, &mut response)?;
    let labels = |output: &str| version.labels.get(output).map(Vec::as_slice);
    let answer = v2::encode_response(
        &version.spec,
        &version.number_text,
        &asked,
        &response,
        &labels,
    )?;
    mark(traced.as_ref(), Point::ResponseComplete);
    let mut reply = match head.headers.get(ACCEPT_ENCODING).and_then(wished) {
        None => infer_reply(answer, traced),
        Some(encoding) => compressed_reply(encoding, answer, traced).await,
    };
    if shared.access_log.is_some() {
        reply.extensions_mut().insert(RequestId(asked.id));
    }
    Ok(reply)
}

fn infer_reply(answer: v2::Answer, traced: Option<Traced>) -> Reply {
    let body = ReplyBody::many(answer.head, answer.tail).with_trace(traced);
    let Some(length) = answer.header_length else {
        return with_type(StatusCode::OK, JSON, body);
    };
    let mut reply = with_type(StatusCode::OK, OCTETS, body);
    reply
        .headers_mut()
        .insert(&HEADER_LENGTH, HeaderValue::from(length));
    reply
}

/// The encoding that a client likes best, unless it is none.
fn wished(accepted: &HeaderValue) -> Option<Encoding> {
    Encoding::preferred(accepted.to_str().ok()?)
}

async fn compressed_reply(encoding: Encoding, answer: v2::Answer, traced: Option<Traced>) -> Reply {
    let mut pieces = compression::Pieces::from_iter([answer.head.clone()]);
    pieces.extend(answer.tail.iter().cloned());
    let Some(short) = compression::shrink(encoding, Effort::Low, pieces).await else {
        return infer_reply(answer, traced);
    };
    let short = v2::Answer {
        head: short,
        tail: SmallVec::new(),
        ..answer
    };
    let mut reply = infer_reply(short, traced);
    let name = HeaderValue::from_static(encoding.name());
    reply.headers_mut().insert(CONTENT_ENCODING, name);
    reply
}

fn number(text: &[u8]) -> Option<usize> {
    str::from_utf8(text).ok()?.parse().ok()
}
