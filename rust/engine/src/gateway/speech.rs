// SPDX-License-Identifier: Apache-2.0
//! What a component is asked in.

/// What is spoken to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}
