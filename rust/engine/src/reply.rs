// SPDX-License-Identifier: Apache-2.0
//! Answers over HTTP, as all routes make them.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::body::ReplyBody;

/// An answer.
pub type Reply = Response<ReplyBody>;

/// The media type of most of them.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Where the JSON ends and binary tensors begin.
pub static HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What a request is told that could be for either of two hosts (RFC 9112, 3.2).
pub const SEVERAL_HOSTS: &str = "the request has several Host headers; one is accepted";

/// An answer without a body.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::default());
    *reply.status_mut() = status;
    reply
}

/// An answer that is a JSON object.
pub fn json(value: &impl Serialize) -> Reply {
    let text = serde_json::to_vec(value).unwrap_or_default();
    with_type(StatusCode::OK, JSON, ReplyBody::one(text.into()))
}

/// An answer with a body.
pub fn with_type(status: StatusCode, content_type: HeaderValue, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}
