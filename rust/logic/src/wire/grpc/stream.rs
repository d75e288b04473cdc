// SPDX-License-Identifier: Apache-2.0
//! `ModelStreamInferResponse`, with its frame: an answer, an error, or the end of a request.

use bytes::Bytes;
use bytestring::ByteString;

use super::answer::{Frame, encode};
use super::frame::frame;
use super::messages::{BoolParameter, EmptyInferResponse, ModelStreamInferResponse};
use crate::error::Error;
use crate::message::{Asked, InferResponse, Parameter};
use crate::spec::ModelSpec;
use crate::wire::classification::Labels;

const FINAL: &str = "triton_final_response";

/// Writes one answer of a stream; `last` if nothing follows it for its request.
///
/// # Errors
/// If a classification is not to be had, or the answer is larger than gRPC can carry.
pub fn encode_streamed(
    spec: &ModelSpec,
    version: &str,
    asked: &Asked,
    mut response: InferResponse,
    last: bool,
    labels: &Labels<'_>,
) -> Result<Frame, Error> {
    let told = (ByteString::from_static(FINAL), Parameter::Bool(last));
    response.parameters.push(told);
    encode::<true>(spec, version, asked, &response, labels)
}

/// Writes an error: of a request that the model has seen, with its `model` and the version as the client
/// wrote it, or of one that it has not.
#[must_use]
pub fn encode_failure(id: &str, model: Option<(&str, &str)>, last: bool, message: &str) -> Bytes {
    let told = match model {
        Some((name, version)) => empty(name, version, id, last),
        None => EmptyInferResponse {
            id: id.to_owned(),
            ..EmptyInferResponse::default()
        },
    };
    frame(&ModelStreamInferResponse {
        error_message: message.to_owned(),
        infer_response: Some(told),
    })
}

/// Writes the end of a request that no response told.
#[must_use]
pub fn encode_empty(id: &str, model: &str, version: &str) -> Bytes {
    frame(&ModelStreamInferResponse {
        error_message: String::new(),
        infer_response: Some(empty(model, version, id, true)),
    })
}

fn empty(model: &str, version: &str, id: &str, last: bool) -> EmptyInferResponse {
    let told = BoolParameter {
        bool_param: Some(last),
    };
    EmptyInferResponse {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        id: id.to_owned(),
        parameters: [(FINAL.to_owned(), told)].into(),
    }
}
