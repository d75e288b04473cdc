// SPDX-License-Identifier: Apache-2.0
//! What a gateway answers when there is no answer to pass on.

use std::fmt;

/// Kinds of failure, each with its statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong as sent.
    BadRequest,
    /// No service is known by that name.
    NotFound,
    /// The body is larger than the gateway carries.
    TooLarge,
    /// The body stopped coming.
    TooSlow,
    /// The gateway itself, or what it combined, went wrong.
    Internal,
    /// The component does not speak what was asked.
    Unsupported,
    /// The component broke off, so it may have worked on the request.
    BadGateway,
    /// The component cannot be reached, so nothing has happened.
    Unavailable,
    /// The component did not answer in time.
    Late,
}

impl Kind {
    /// The row of this kind: HTTP status, gRPC status number.
    const fn row(self) -> (u16, u8) {
        match self {
            Self::BadRequest => (400, 3),
            Self::NotFound => (404, 5),
            Self::TooLarge => (413, 8),
            Self::TooSlow => (408, 4),
            Self::Internal => (500, 13),
            Self::Unsupported => (501, 12),
            Self::BadGateway => (502, 14),
            Self::Unavailable => (503, 14),
            Self::Late => (504, 4),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.row().0
    }

    /// The gRPC status number.
    #[must_use]
    pub const fn grpc_status(self) -> u8 {
        self.row().1
    }
}

/// A failure that a client will read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides the statuses.
    pub kind: Kind,
    /// Names the service, the component, and what happened.
    pub text: String,
}

impl Failure {
    /// A failure of `kind` that says `text`.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
