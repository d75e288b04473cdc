// SPDX-License-Identifier: Apache-2.0
//! Failures as answers, in the words of the protocol that was spoken.

use std::fmt::Write;

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use nerite_logic::gateway::failure::Failure;

use super::bodies::Reply;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

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
    headers.insert(
        GRPC_STATUS.clone(),
        u64::from(failure.kind.grpc_status()).into(),
    );
    if let Ok(text) = HeaderValue::from_str(&percent_encoded(&failure.text)) {
        headers.insert(GRPC_MESSAGE.clone(), text);
    }
    reply
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
