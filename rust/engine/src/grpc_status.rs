// SPDX-License-Identifier: Apache-2.0
//! How a gRPC call ends: a status, and how it is written.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};
use nerite_logic::Error;

use crate::body::ReplyBody;
use crate::reply::Reply;

/// The media type of calls.
pub const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");
static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status other than OK.
#[derive(Debug)]
pub struct Status {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self {
            code: error.code.grpc_status(),
            message: error.message.into_owned(),
        }
    }
}

/// The trailers of a call that went well.
#[must_use]
pub fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS.clone(), OK);
    trailers
}

impl Status {
    /// A status that no code of Triton's stands for.
    #[must_use]
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    /// What a call is told whose time is over.
    #[must_use]
    pub fn too_late() -> Self {
        Self::new(4, "Deadline Exceeded")
    }

    /// The status as trailers.
    #[must_use]
    pub fn trailers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.write(&mut headers);
        headers
    }

    /// Headers that are trailers too: the answer has no message.
    pub fn into_reply(self) -> Reply {
        let mut reply = Response::new(ReplyBody::default());
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, GRPC);
        self.write(headers);
        reply
    }

    /// Adds the status to headers or trailers.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(STATUS.clone(), HeaderValue::from(u16::from(self.code)));
        if let Ok(message) = HeaderValue::from_str(&percent_encode(&self.message)) {
            headers.insert(MESSAGE.clone(), message);
        }
    }
}

/// As gRPC wants it in `grpc-message`: printable ASCII but `%` stands for itself.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            other => {
                out.push('%');
                for digit in [other >> 4, other & 15] {
                    out.push(
                        char::from_digit(u32::from(digit), 16)
                            .unwrap_or('0')
                            .to_ascii_uppercase(),
                    );
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_texts_survive_the_header() {
        assert_eq!(
            percent_encode("model 'm' is 100% off\nreally: ü"),
            "model 'm' is 100%25 off%0Areally: %C3%BC"
        );
    }
}
