// SPDX-License-Identifier: Apache-2.0
//! The v2 protocol over HTTP: JSON, and tensors as bytes behind it (`spec/triton.md` 1.4 to 1.7).
//!
//! A request becomes an [`crate::message::InferRequest`] whose text and binary tensors are slices of the
//! body; JSON numbers go straight into the tensor's bytes. Whether it suits the model is
//! [`crate::check`]'s business, except where an error text needs both. Wherever Triton answers a
//! client's mistake with 500, the text is kept and the status is 400.

mod data;
mod generate;
mod header;
mod input;
mod request;
mod response;
mod shared_memory;

pub use crate::message::Asked;
pub use crate::wire::classification::Labels;
pub use generate::{encode_generated, parse_generate};
pub use header::{parse_header_length, parse_request};
pub use response::{Answer, encode_error, encode_response};
pub use shared_memory::{Registration, parse_registration};

use crate::error::Error;
use crate::wire::json::Failure;

const NON_STRING: &str = "attempt to access JSON non-string as string";
const NON_BOOLEAN: &str = "attempt to access JSON non-boolean as boolean";
const NON_UNSIGNED: &str = "attempt to access JSON non-unsigned-integer as unsigned-integer";
const NON_ARRAY: &str = "attempt to access JSON non-array as array";

/// A member that is missing or of the wrong kind.
#[cold]
fn unable(member: &str, why: &str) -> Error {
    Error::invalid(format!("Unable to parse '{member}': {why}"))
}

#[cold]
fn absent(member: &str) -> Error {
    unable(
        member,
        &format!("attempt to access non-existing object member '{member}'"),
    )
}
