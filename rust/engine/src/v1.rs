// SPDX-License-Identifier: Apache-2.0
//! KServe's V1 protocol: what each of its routes answers (`spec/kserve.md` 4.1, 4.5).
//!
//! A body is JSON whatever its content type says, but for CloudEvents, which are answered as such.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use bytestring::ByteString;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use nerite_logic::Error;
use nerite_logic::wire::v1::{self, Attributes};
use serde::Serialize;
use uuid::Uuid;

use crate::access_log::{RequestId, rfc3339};
use crate::body::ReplyBody;
use crate::failure::Failure;
use crate::reply::{JSON, Reply, json, with_type};
use crate::request_body::{Arrived, arrive};
use crate::routes::Target;
use crate::routes::guard::Sight;
use crate::shared::Shared;
use crate::table::Table;
use crate::trace::{Point, mark};
use crate::version::Version;
use crate::{in_parts, infer};

const EVENT: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
/// The headers of an event whose data is the body.
const BINARY: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `GET /`
pub fn alive() -> Reply {
    let text = Bytes::from_static(br#"{"status":"alive"}"#);
    with_type(StatusCode::OK, JSON, ReplyBody::one(text))
}

/// The names of the models that may be seen, ready or not.
pub fn models(sight: Sight<'_>, shared: &Shared) -> Reply {
    #[derive(Serialize)]
    struct Models<'a> {
        models: Vec<&'a str>,
    }
    let table = shared.table();
    let models = table.names().filter(|name| sight.sees(name)).collect();
    json(&Models { models })
}

/// Whether a model accepts requests.
///
/// # Errors
/// If it does not, or does not exist.
pub fn model_ready(target: Target<'_>, shared: &Shared) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Ready<'a> {
        name: &'a str,
        ready: bool,
    }
    let ready = Ready {
        name: find(&shared.table(), target).map(|_| target.name)?,
        ready: true,
    };
    Ok(json(&ready))
}

/// KServe's answer where there is no explainer: models here have none.
///
/// # Errors
/// Always.
pub fn explain(target: Target<'_>, shared: &Shared) -> Result<Reply, Failure> {
    find(&shared.table(), target)?;
    Err(Error::unsupported("Could not find explainer_host.").into())
}

/// The version that a request reaches; otherwise KServe's words for models, Triton's for versions.
fn find<'t>(table: &'t Table, target: Target<'_>) -> Result<&'t Arc<Version>, Error> {
    let name = target.name;
    table
        .find(name, target.number()?)
        .map_err(|why| match table.entry(name) {
            None => Error::not_found(format!("Model with name {name} does not exist.")),
            Some(_) if target.version.is_none() => {
                Error::unavailable(format!("Model with name {name} is not ready."))
            }
            Some(_) => why,
        })
}

/// Answers with what a model predicts.
///
/// # Errors
/// What is wrong with the request, or what the model has to say.
pub async fn predict(
    target: Target<'_>,
    head: &Parts,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let version = predicting(target, shared)?;
    let arrived = arrive(&version, head, body, None, shared).await?;
    predicted(&version, target, head, arrived, shared).await
}

/// The version that predicts.
///
/// # Errors
/// If there is none, or its answers are no predictions.
pub fn predicting(target: Target<'_>, shared: &Shared) -> Result<Arc<Version>, Error> {
    let version = Arc::clone(find(&shared.table(), target)?);
    if version.spec.decoupled {
        infer::refused(&version, Instant::now());
        return Err(Error::unsupported(format!(
            "model '{}' gives any number of responses, which the V1 protocol cannot carry; use \
             /v2/models/{0}/generate_stream",
            version.spec.name
        )));
    }
    Ok(version)
}

/// The answer to a request whose body is there, from a client or from a step of a graph.
///
/// # Errors
/// As [`predict`].
pub async fn predicted(
    version: &Arc<Version>,
    target: Target<'_>,
    head: &Parts,
    arrived: Arrived,
    shared: &Shared,
) -> Result<Reply, Failure> {
    let Arrived {
        body,
        received,
        traced,
    } = arrived;
    let (mode, body) = Mode::of(&head.headers, body);
    let parsed = v1::parse_predict(&body, &version.spec);
    drop(body);
    let forwarded = parsed.and_then(|mut predict| {
        shared.forward.http(head, &mut predict.request.parameters)?;
        Ok(predict)
    });
    let mut predict = forwarded.inspect_err(|_| infer::refused(version, received))?;
    let request = &mut predict.request;
    request.id = request_id(&head.headers);
    let (id, form) = (request.id.clone(), request.default_form);
    let response = in_parts::infer(version, predict.request, received, traced.as_ref()).await?;
    let text = v1::encode_predictions(&version.spec, &response, predict.alone, form)?;
    mark(traced.as_ref(), Point::ResponseComplete);
    let mut reply = mode.reply(target.name, text, |text| {
        ReplyBody::one(text).with_trace(traced)
    });
    if let Some(given) = head.headers.get(&REQUEST_ID) {
        reply.headers_mut().insert(&REQUEST_ID, given.clone());
    }
    if shared.access_log.is_some() {
        reply.extensions_mut().insert(RequestId(id));
    }
    Ok(reply)
}

/// What the client, or what stands before it, calls the request.
pub fn request_id(headers: &HeaderMap) -> ByteString {
    let given = headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    given.map_or_else(ByteString::new, ByteString::from)
}

/// How request and answer are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    /// An event whose data is the body.
    Binary,
    /// An event that is the body.
    Structured,
}

impl Mode {
    /// The mode of a request, and what is in it.
    fn of(headers: &HeaderMap, body: Bytes) -> (Self, Bytes) {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
        let structured =
            kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(EVENT.as_bytes()));
        if structured && let Some(data) = v1::unwrap_event(&body) {
            return (Self::Structured, data);
        }
        if BINARY.iter().all(|name| headers.contains_key(*name)) {
            return (Self::Binary, body);
        }
        (Self::Plain, body)
    }

    fn reply(self, model: &str, text: Bytes, body: impl FnOnce(Bytes) -> ReplyBody) -> Reply {
        if self == Self::Plain {
            return with_type(StatusCode::OK, JSON, body(text));
        }
        let attributes = Attributes {
            id: Uuid::new_v4().to_string(),
            source: Attributes::source_of(model),
            time: rfc3339(SystemTime::now()),
        };
        if self == Self::Structured {
            let event = v1::wrap_event(&attributes, &text);
            return with_type(StatusCode::OK, EVENT, body(event));
        }
        let mut reply = with_type(StatusCode::OK, JSON, body(text));
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", &attributes.id),
            ("ce-source", &attributes.source),
            ("ce-type", Attributes::TYPE),
            ("ce-time", &attributes.time),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                reply
                    .headers_mut()
                    .insert(HeaderName::from_static(name), value);
            }
        }
        reply
    }
}
