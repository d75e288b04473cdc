// SPDX-License-Identifier: Apache-2.0
//! Requests with more rows than a model takes at a time: cut into several, and their answers joined.
//!
//! Clients of V1, and of models that accept what KServe's own servers accept, know nothing of a largest
//! batch: those servers have none.

use bytes::Bytes;

use crate::check::element_count;
use crate::error::Error;
use crate::message::{InferRequest, InferResponse, Tensor};
use crate::spec::ModelSpec;

/// Most requests that one is cut into: each costs memory beside its rows.
const PARTS: i64 = 1024;

/// The requests that a request is cut into; none if it can go as it is, or is too long even for that.
#[must_use]
pub fn split(request: &InferRequest, spec: &ModelSpec) -> Vec<InferRequest> {
    let most = i64::from(spec.max_batch_size);
    let rows = request.inputs.first().and_then(|input| input.shape.first());
    let rows = rows.copied().unwrap_or(0);
    let alike = |tensor: &Tensor| tensor.shape.first() == Some(&rows);
    let cut = most > 0 && rows > most && rows <= most.saturating_mul(PARTS);
    if !cut || !request.inputs.iter().all(alike) {
        return Vec::new();
    }
    let mut rest: Vec<Tensor> = request.inputs.to_vec();
    let mut parts = Vec::new();
    let mut left = rows;
    while left > 0 {
        let count = left.min(most);
        let mut part = InferRequest {
            inputs: smallvec::SmallVec::new(),
            ..request.clone()
        };
        for tensor in &mut rest {
            let Some(front) = take(tensor, count) else {
                // Its data is not what its shape says: the check tells what is wrong.
                return Vec::new();
            };
            part.inputs.push(front);
        }
        parts.push(part);
        left -= count;
    }
    parts
}

/// Takes the first rows from a tensor.
fn take(tensor: &mut Tensor, rows: i64) -> Option<Tensor> {
    let mut shape = tensor.shape.clone();
    *shape.first_mut()? = rows;
    let elements = usize::try_from(element_count(&shape)?).ok()?;
    let bytes = match tensor.datatype.size() {
        Some(size) => elements.checked_mul(size)?,
        None => texts(&tensor.data, elements)?,
    };
    if bytes > tensor.data.len() {
        return None;
    }
    let front = Tensor {
        shape,
        data: tensor.data.split_to(bytes),
        ..tensor.clone()
    };
    *tensor.shape.first_mut()? -= rows;
    Some(front)
}

/// The bytes of so many texts.
fn texts(data: &Bytes, count: usize) -> Option<usize> {
    let mut at = 0_usize;
    for _ in 0..count {
        let length = data.get(at..)?.first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        at = at.checked_add(4)?.checked_add(length)?;
    }
    Some(at)
}

/// The answers to the parts of a request as one.
///
/// # Errors
/// If they are not of one kind.
pub fn join(answers: &[InferResponse], spec: &ModelSpec) -> Result<InferResponse, Error> {
    let Some(first) = answers.first() else {
        return Err(Error::internal("a request was cut into nothing"));
    };
    let mut joined = first.clone();
    for output in &mut joined.outputs {
        let unlike = || {
            Error::internal(format!(
                "output '{}' of model '{}' has another shape or type in another batch of one request",
                output.name, spec.name
            ))
        };
        let mut rows = 0;
        let mut data = Vec::new();
        for answer in answers {
            let part = answer.outputs.iter().find(|part| part.name == output.name);
            let part = part.ok_or_else(unlike)?;
            let (Some((count, row)), Some((_, expected))) =
                (part.shape.split_first(), output.shape.split_first())
            else {
                return Err(unlike());
            };
            if row != expected || part.datatype != output.datatype {
                return Err(unlike());
            }
            rows += count;
            data.extend_from_slice(&part.data);
        }
        if let Some(first) = output.shape.first_mut() {
            *first = rows;
        }
        output.data = data.into();
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::parse_predict;

    fn model() -> ModelSpec {
        let config = r#"{"name": "m", "max_batch_size": 2, "input": [
            {"name": "A", "data_type": "TYPE_INT16", "dims": [2]},
            {"name": "B", "data_type": "TYPE_STRING", "dims": [1]}]}"#;
        ModelSpec::from_config_json(config).unwrap()
    }

    fn request(rows: usize) -> InferRequest {
        let row = |n| format!(r#"{{"A": [{n}, 7], "B": "{}"}}"#, "x".repeat(n));
        let rows: Vec<String> = (0..rows).map(row).collect();
        let body = format!(r#"{{"instances": [{}], "k": "v"}}"#, rows.join(","));
        parse_predict(&body.into(), &model()).unwrap().request
    }

    #[test]
    fn rows_are_dealt_out_in_order_and_joined_again() {
        for rows in [3, 4, 5, 40] {
            let whole = request(rows);
            let parts = split(&whole, &model());
            assert_eq!(parts.len(), rows.div_ceil(2));
            let echoed: Vec<InferResponse> = parts
                .iter()
                .map(|part| InferResponse {
                    outputs: part.inputs.clone(),
                    parameters: part.parameters.clone(),
                })
                .collect();
            assert!(parts.iter().all(|part| part.inputs[0].shape[0] <= 2));
            let joined = join(&echoed, &model()).unwrap();
            assert_eq!(joined.outputs, whole.inputs);
            assert_eq!(joined.parameters, whole.parameters);
        }
    }

    #[test]
    fn what_fits_and_what_is_far_too_long_goes_as_it_is() {
        assert!(split(&request(2), &model()).is_empty());
        assert!(split(&request(2049), &model()).is_empty());
        assert_eq!(split(&request(2048), &model()).len(), 1024);
    }

    #[test]
    fn answers_of_unequal_kinds_are_not_joined() {
        let mut answers: Vec<InferResponse> = split(&request(3), &model())
            .into_iter()
            .map(|part| InferResponse {
                outputs: part.inputs,
                ..InferResponse::default()
            })
            .collect();
        answers[1].outputs[0].shape[1] = 3;
        let why = join(&answers, &model()).unwrap_err();
        assert!(
            why.message
                .starts_with("output 'A' of model 'm' has another shape")
        );
    }
}
