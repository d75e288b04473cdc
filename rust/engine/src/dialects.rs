// SPDX-License-Identifier: Apache-2.0
//! How the ports of clouds say what the v2 protocol says in other words (`spec/triton.md` 9.4, 9.5).

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use nerite_logic::Code;

use crate::reply::{HEADER_LENGTH, Reply};
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
        match is_out_of_memory(text) {
            true => StatusCode::INSUFFICIENT_STORAGE,
            false => StatusCode::BAD_REQUEST,
        }
    }
}

/// Parts of the messages with which frameworks say that there is no memory left.
const OUT_OF_MEMORY: [&str; 14] = [
    "CUDA_OUT_OF_MEMORY",
    "Out of memory",
    "Out Of Memory",
    "out of memory",
    "MemoryError",
    "OutOfMemory",
    "Dst tensor is not initialized",
    "Src tensor is not initialized",
    "CNMEM_STATUS_OUT_OF_MEMORY",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "ailed to allocate memory",
    "No space left on device",
];

/// Whether an error says that there was not enough memory.
fn is_out_of_memory(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    OUT_OF_MEMORY.iter().any(|part| text.contains(part)) || words.any(|word| word == "OOM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_told_from_its_text() {
        for (text, expected) in [
            ("load failed: CUDA out of memory. Tried to allocate", true),
            ("MemoryError: ", true),
            ("OOM when allocating tensor", true),
            ("model 'ROOM' is not known", false),
            ("there is no room for it", false),
        ] {
            assert_eq!(is_out_of_memory(text), expected, "{text}");
        }
    }
}
