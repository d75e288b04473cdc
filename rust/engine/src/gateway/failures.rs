// SPDX-License-Identifier: Apache-2.0
//! Failures as answers, in the words of the protocol that was spoken.

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use nerite_logic::gateway::failure::Failure;

use super::bodies::Reply;
use crate::grpc_status::{GRPC, Status};
use crate::reply::JSON;

/// `{"error": text}`; the connection ends with it unless it is `reusable`.
pub fn over_http(failure: &Failure, reusable: bool) -> Response<Reply> {
    let text = serde_json::json!({ "error": failure.text }).to_string();
    let mut reply = json(failure.kind.http_status(), text.into());
    if !reusable {
        let close = HeaderValue::from_static("close");
        reply.headers_mut().insert(CONNECTION, close);
    }
    reply
}

/// A JSON body under a status.
pub fn json(status: u16, body: Bytes) -> Response<Reply> {
    let mut reply = Response::new(Reply::whole(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// A call that ends with its head.
pub fn over_grpc(failure: &Failure) -> Response<Reply> {
    let mut reply = Response::new(Reply::Whole(None));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    Status::new(failure.kind.grpc_status(), &*failure.text).write(headers);
    reply
}
