// SPDX-License-Identifier: Apache-2.0
//! How the ports of clouds say what the v2 protocol says in other words (`spec/triton.md` 9.4, 9.5).

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use nerite_logic::Code;

use crate::http::{HEADER_LENGTH, Reply};
use crate::routes::doors::Dialect;

impl Dialect {
    /// What stands in a content type before the length of the JSON.
    const fn binary(self) -> Option<&'static str> {
        match self {
            Self::Triton => None,
            Self::SageMaker => {
                Some("application/vnd.sagemaker-triton.binary+json;json-header-size=")
            }
            Self::VertexAi => {
                Some("application/vnd.vertex-ai-triton.binary+json;json-header-size=")
            }
        }
    }

    /// The length of the JSON before binary tensors, as a request tells it.
    pub fn header_length(self, head: &Parts) -> Option<&[u8]> {
        let value = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        match self.binary() {
            None => value(&HEADER_LENGTH),
            Some(prefix) => {
                let (start, length) = value(&CONTENT_TYPE)?.split_at_checked(prefix.len())?;
                start
                    .eq_ignore_ascii_case(prefix.as_bytes())
                    .then_some(length)
            }
        }
    }

    /// An answer in this dialect.
    pub fn spoken(self, mut reply: Reply) -> Reply {
        let Some(prefix) = self.binary() else {
            return reply;
        };
        if let Some(length) = reply.headers_mut().remove(&HEADER_LENGTH) {
            let kind = format!("{prefix}{}", length.to_str().unwrap_or_default());
            if let Ok(kind) = HeaderValue::from_str(&kind) {
                reply.headers_mut().insert(CONTENT_TYPE, kind);
            }
        }
        reply
    }

    /// The status of a failure, where SageMaker has another.
    pub fn status(self, status: StatusCode, name: &str, text: &str) -> StatusCode {
        // What the guard and HTTP itself have to say stays.
        let own = matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::PAYLOAD_TOO_LARGE
        );
        if self != Self::SageMaker || own {
            return status;
        }
        if name == Code::AlreadyExists.name() {
            return StatusCode::CONFLICT;
        }
        let text = text.to_ascii_lowercase();
        if status.is_server_error() && (text.contains("out of memory") || text.contains("oom")) {
            return StatusCode::INSUFFICIENT_STORAGE;
        }
        StatusCode::BAD_REQUEST
    }
}
