// SPDX-License-Identifier: Apache-2.0
//! What HTTP answers where there is no result: the error, its status, and the headers that go with it.

use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, CONNECTION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use nerite_logic::wire::compression::OFFERED;
use nerite_logic::wire::v2;
use nerite_logic::{Code, Error};

use crate::body::ReplyBody;
use crate::reply::SEVERAL_HOSTS;
use crate::reply::{JSON, Reply, empty, with_type};
use crate::routes::doors::Dialect;
use crate::routes::guard::Refused;

/// What kind of failure an answer tells: its body is Triton's, which has only a text.
pub static ERROR_CODE: HeaderName = HeaderName::from_static("nerite-error-code");
const UNKNOWN_ENCODING: &str = "Unsupported compression type";

/// What is answered instead of a result.
pub enum Failure {
    /// An error of the one table.
    Error(Error),
    /// A status of HTTP's own, which no code stands for.
    Status(StatusCode, String),
    /// The content encoding is none of those offered.
    Encoding,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let status = |status, text: &str| Self::Status(status, text.to_owned());
        match refused {
            Refused::Error(error) => Self::Error(error),
            Refused::NoRoute => status(StatusCode::NOT_FOUND, "Not Found"),
            Refused::Method => status(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
            Refused::Closed => status(StatusCode::FORBIDDEN, ""),
            Refused::Hosts => status(StatusCode::BAD_REQUEST, SEVERAL_HOSTS),
        }
    }
}

impl Failure {
    /// What the failure is called, whatever its text is.
    const fn name(&self) -> &'static str {
        match self {
            Self::Error(error) => error.code.name(),
            Self::Encoding => Code::Unsupported.name(),
            Self::Status(status, _) => match *status {
                StatusCode::NOT_FOUND => Code::NotFound.name(),
                StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
                StatusCode::PAYLOAD_TOO_LARGE => "TOO_LARGE",
                StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "TIMEOUT",
                _ => Code::InvalidArg.name(),
            },
        }
    }

    /// The answer, in the words and statuses of a port's dialect.
    pub fn into_reply(self, dialect: Dialect) -> Reply {
        let name = self.name();
        let is_encoding = matches!(self, Self::Encoding);
        if let Self::Status(StatusCode::FORBIDDEN, _) = self {
            return empty(StatusCode::FORBIDDEN);
        }
        let (status, text) = match self {
            Self::Error(error) => (
                StatusCode::from_u16(error.code.http_status()).unwrap_or_default(),
                error.message,
            ),
            Self::Status(status, text) => (status, text.into()),
            Self::Encoding => (StatusCode::NOT_IMPLEMENTED, UNKNOWN_ENCODING.into()),
        };
        let told = match is_encoding && dialect == Dialect::SageMaker {
            true => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            false => dialect.status(status, name, &text),
        };
        let mut reply = with_type(told, JSON, ReplyBody::one(v2::encode_error(&text)));
        reply
            .headers_mut()
            .insert(&ERROR_CODE, HeaderValue::from_static(name));
        if is_encoding {
            let offered = HeaderValue::from_static(OFFERED);
            reply.headers_mut().insert(ACCEPT_ENCODING, offered);
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            reply.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE || status == StatusCode::REQUEST_TIMEOUT {
            // The rest of the body is not wanted, so the connection cannot be used again.
            reply
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}
