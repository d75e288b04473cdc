// SPDX-License-Identifier: Apache-2.0
//! The generate extension over HTTP: one JSON object, or an event for each response (`spec/triton.md` 1.11).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use nerite_logic::message::{Form, InferRequest, InferResponse};
use nerite_logic::wire::v2;
use nerite_logic::{Code, Error};
use smallvec::SmallVec;

use crate::access_log::RequestId;
use crate::body::{Piece, ReplyBody, Source};
use crate::failure::{ERROR_CODE, Failure};
use crate::infer;
use crate::reply::{JSON, Reply, with_type};
use crate::request_body::{Arrived, arrive, encoding};
use crate::responses::{Answer, Responses};
use crate::routes::Target;
use crate::shared::Shared;
use crate::trace::{Point, Traced, mark};
use crate::version::Version;

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NOT_ONE: &str = "generate expects model to produce exactly 1 response, use generate stream for \
    model that generates various number of responses";

/// A request that has been read.
struct Asked {
    version: Arc<Version>,
    id: ByteString,
    form: Form,
    request: InferRequest,
    received: Instant,
    traced: Option<Traced>,
}

async fn read(
    target: Target<'_>,
    head: &Parts,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Asked, Failure> {
    let version = Arc::clone(shared.table().find(target.name, target.number()?)?);
    if !matches!(encoding(&head.headers), Ok(None)) {
        let text = "Unsupported content-encoding, only 'identity' is supported.";
        return Err(Error::invalid(text).into());
    }
    let Arrived {
        body,
        received,
        traced,
    } = arrive(&version, head, body, None, shared).await?;
    let parsed = v2::parse_generate(&body, &version.spec);
    let forwarded = parsed.and_then(|mut request| {
        shared.forward.http(head, &mut request.parameters)?;
        Ok(request)
    });
    let request = forwarded.inspect_err(|_| infer::refused(&version, received))?;
    Ok(Asked {
        version,
        id: request.id.clone(),
        form: request.default_form,
        request,
        received,
        traced,
    })
}

/// Answers with the model's only response.
///
/// # Errors
/// What is wrong with the request, what the model has to say, or that its responses are not one.
pub async fn whole(
    target: Target<'_>,
    head: &Parts,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let asked = read(target, head, body, shared).await?;
    let (version, id, form) = (asked.version, asked.id, asked.form);
    let (outcome, traced) = if version.spec.decoupled {
        let mut responses =
            infer::stream(&version, asked.request, asked.received, asked.traced, None)?;
        (only(&mut responses).await, None)
    } else {
        let traced = asked.traced;
        let asked = infer::infer(&version, asked.request, asked.received, traced.as_ref());
        (asked.await, traced)
    };
    let text = outcome.and_then(|response| {
        v2::encode_generated(&version.spec, &version.number_text, &id, &response, form)
    });
    mark(traced.as_ref(), Point::ResponseComplete);
    let (status, code, text) = match text {
        Ok(text) => (StatusCode::OK, None, text),
        Err(why) => {
            let text = v2::encode_error(&why.message);
            (status_of(&why), Some(why.code.name()), text)
        }
    };
    let mut reply = with_type(status, JSON, ReplyBody::one(text).with_trace(traced));
    if let Some(code) = code {
        let code = HeaderValue::from_static(code);
        reply.headers_mut().insert(&ERROR_CODE, code);
    }
    Ok(named(reply, id, shared))
}

/// The response of a decoupled model that gives one; a second one ends the request.
async fn only(responses: &mut Responses) -> Result<InferResponse, Error> {
    let mut only = None;
    loop {
        let answer = poll_fn(|context| responses.poll_next(context)).await;
        if let Some(outcome) = answer.outcome {
            let response = outcome?;
            if only.replace(response).is_some() {
                return Err(Error::invalid(NOT_ONE));
            }
        }
        if answer.last {
            return only.ok_or_else(|| Error::invalid(NOT_ONE));
        }
    }
}

/// Answers with an event for each response, as they come. The first one decides the status.
///
/// # Errors
/// What is wrong with the request.
pub async fn streamed(
    target: Target<'_>,
    head: &Parts,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let asked = read(target, head, body, shared).await?;
    let version = Arc::clone(&asked.version);
    let mut events = Events {
        version: asked.version,
        id: asked.id,
        form: asked.form,
        first: None,
        responses: None,
    };
    let mut traced = asked.traced;
    let first = if version.spec.decoupled {
        let mut responses =
            infer::stream(&version, asked.request, asked.received, traced.take(), None)?;
        let first = poll_fn(|context| responses.poll_next(context)).await;
        events.responses = (!first.last).then_some(responses);
        first
    } else {
        let once = infer::infer(&version, asked.request, asked.received, traced.as_ref());
        Answer::now(Some(once.await), true)
    };
    let id = events.id.clone();
    let (status, event) = match first.outcome {
        None => (StatusCode::OK, None),
        Some(outcome) => {
            let (status, event) = events.event(outcome);
            (status, Some(event))
        }
    };
    mark(traced.as_ref(), Point::ResponseComplete);
    let body = if events.responses.is_some() {
        events.first = event;
        ReplyBody::streamed(Box::new(events))
    } else {
        ReplyBody::one(event.unwrap_or_default()).with_trace(traced)
    };
    Ok(named(with_type(status, EVENTS, body), id, shared))
}

/// Triton answers every error of a model with 400. UNAVAILABLE, which is also what a full queue says,
/// keeps its own status: whoever balances load acts on it.
fn status_of(error: &Error) -> StatusCode {
    match error.code {
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn named(mut reply: Reply, id: ByteString, shared: &Shared) -> Reply {
    if shared.access_log.is_some() {
        reply.extensions_mut().insert(RequestId(id));
    }
    reply
}

/// The responses to a request as server-sent events.
struct Events {
    version: Arc<Version>,
    id: ByteString,
    form: Form,
    /// The one that the status was waiting for.
    first: Option<Bytes>,
    /// `None` behind the last.
    responses: Option<Responses>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({})", self.version.spec.name)
    }
}

impl Events {
    fn event(&self, outcome: Result<InferResponse, Error>) -> (StatusCode, Bytes) {
        let Self {
            version, id, form, ..
        } = self;
        let text = outcome.and_then(|response| {
            v2::encode_generated(&version.spec, &version.number_text, id, &response, *form)
        });
        match text {
            Ok(text) => (StatusCode::OK, event(&text)),
            Err(why) => (status_of(&why), event(&v2::encode_error(&why.message))),
        }
    }
}

fn event(json: &[u8]) -> Bytes {
    [b"data: ", json, b"\n\n"].concat().into()
}

impl Source for Events {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Piece::Data(first, SmallVec::new()));
        }
        let Some(responses) = &mut self.responses else {
            return Poll::Ready(Piece::End(None));
        };
        let answer = ready!(responses.poll_next(context));
        if answer.last {
            self.responses = None;
        }
        Poll::Ready(match answer.outcome {
            Some(outcome) => Piece::Data(self.event(outcome).1, SmallVec::new()),
            None => Piece::End(None),
        })
    }
}
