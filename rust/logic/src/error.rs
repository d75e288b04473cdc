// SPDX-License-Identifier: Apache-2.0
//! The one error type of the data plane and the one table of statuses.
//!
//! A [`Code`] is Triton's, or one of two for what Triton does not have; [`Code::http_status`] and [`Code::grpc_status`] are the only place in the
//! project where a code becomes a status (`spec/triton.md` 0.2).

use std::borrow::Cow;
use std::fmt;

/// What kind of failure it is, in Triton's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The cause could not be told.
    Unknown,
    /// The server or a model failed while doing something that was asked correctly.
    Internal,
    /// The model, version or region does not exist.
    NotFound,
    /// The request is wrong as sent.
    InvalidArg,
    /// It exists, but cannot be used now.
    Unavailable,
    /// Understood, but not offered.
    Unsupported,
    /// A thing of that name is already there.
    AlreadyExists,
    /// The caller went away or asked to stop.
    Cancelled,
    /// Nobody the server knows asks. Not one of Triton's, which has no keys.
    Unauthenticated,
    /// Whoever asks may not. Not one of Triton's either.
    PermissionDenied,
}

impl Code {
    /// Every code: Triton's in its order, then ours.
    pub const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Internal,
        Self::NotFound,
        Self::InvalidArg,
        Self::Unavailable,
        Self::Unsupported,
        Self::AlreadyExists,
        Self::Cancelled,
        Self::Unauthenticated,
        Self::PermissionDenied,
    ];

    /// The row of this code: name on the seam, HTTP status, gRPC status number.
    const fn row(self) -> (&'static str, u16, u8) {
        match self {
            Self::Unknown => ("UNKNOWN", 400, 2),
            Self::Internal => ("INTERNAL", 500, 13),
            Self::NotFound => ("NOT_FOUND", 404, 5),
            Self::InvalidArg => ("INVALID_ARG", 400, 3),
            Self::Unavailable => ("UNAVAILABLE", 503, 14),
            Self::Unsupported => ("UNSUPPORTED", 501, 12),
            Self::AlreadyExists => ("ALREADY_EXISTS", 400, 6),
            Self::Cancelled => ("CANCELLED", 400, 1),
            Self::Unauthenticated => ("UNAUTHENTICATED", 401, 16),
            Self::PermissionDenied => ("PERMISSION_DENIED", 403, 7),
        }
    }

    /// The name by which Python knows this code (`nerite.errors.NeriteError.code`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status of an answer that fails with this code.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    /// The gRPC status number of an answer that fails with this code.
    #[must_use]
    pub const fn grpc_status(self) -> u8 {
        self.row().2
    }

    /// The code that Python calls `name`, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }
}

/// A failure that a client or an operator will read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure; decides the statuses.
    pub code: Code,
    /// The text, as it goes on the wire.
    pub message: Cow<'static, str>,
}

impl Error {
    /// An error of `code` that says `message`.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The request is wrong as sent (400, INVALID_ARGUMENT).
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArg, message)
    }

    /// The server or a model failed (500, INTERNAL).
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// There is no such thing (404, NOT_FOUND).
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Not now (503, UNAVAILABLE).
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Not offered (501, UNIMPLEMENTED).
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unsupported, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_both_statuses_and_a_name_that_leads_back() {
        for code in Code::ALL {
            assert!((400..=599).contains(&code.http_status()));
            assert!((1..=16).contains(&code.grpc_status()));
            assert_eq!(Code::from_name(code.name()), Some(code));
        }
    }
}
