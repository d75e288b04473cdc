// SPDX-License-Identifier: Apache-2.0
//! KServe's V1 protocol: rows of JSON in place of tensors, both ways (`spec/kserve.md` 4.1).
//!
//! `instances` (or `inputs`) are rows, nested as deep as the model's input is: of a model with one input
//! the rows themselves, else objects with a member for each input. JSON here is strict, as KServe's: `NaN`
//! is none. Of equal names the last counts.

mod answer;
mod column;
mod event;
mod request;

pub use answer::encode_predictions;
pub use event::{Attributes, unwrap_event, wrap_event};
pub use request::{Predict, parse_predict};

use crate::error::Error;
use crate::wire::json::{Failure, Syntax};

/// What KServe's parser says where a value should be.
const NO_VALUE: &str = "unexpected character, expected a JSON value";
const NOTHING: &str = "Input is a zero-length, empty document";

/// KServe's words for a text that is not JSON, with the place as it tells it.
#[cold]
fn unrecognized(body: &[u8], syntax: Syntax) -> Error {
    let Syntax { what, at } = syntax;
    let what = what.trim_end_matches('.');
    let before = body.get(..at).unwrap_or(body);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n');
    let column = at - start.map_or(0, |newline| newline + 1) + 1;
    Error::invalid(format!(
        "Unrecognized request format: {what}: line {line} column {column} (char {at})"
    ))
}
