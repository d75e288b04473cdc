// SPDX-License-Identifier: Apache-2.0
//! Holding a parsed request against its model's declaration, for every transport.
//!
//! The order of the checks and their texts are Triton's (`InferenceRequest::Normalize`): duplicates,
//! outputs, number of inputs, batch dimension of all inputs, then type, shape and size of each. What a
//! client may send without limit elsewhere is bounded here or in the codec before memory is taken for it.

mod as_kserve;
mod columns;
pub(crate) mod size;

use std::fmt::Write;

use smallvec::SmallVec;

use crate::error::Error;
use crate::message::{InferRequest, Tensor};
use crate::schedulers::BatchKey;
use crate::spec::{IoSpec, ModelSpec};

pub use as_kserve::adapt;
pub use size::{byte_size, element_count};

/// Most inputs, and most requested outputs, that one request may list.
pub const MAX_TENSORS: usize = 1024;
/// Most dimensions of one tensor.
pub const MAX_DIMENSIONS: usize = 64;
/// Most parameters of one request.
pub const MAX_PARAMETERS: usize = 256;

const BATCH_NOTE: &str = "NOTE: Setting a non-zero max_batch_size in the model config requires a batch \
    dimension to be prepended to each input shape. If you want to specify the full shape including the \
    batch dim in your input dims config, try setting max_batch_size to zero. See the model configuration \
    docs for more info on max_batch_size.";

/// What the scheduler needs to know of a request that may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Its batch dimension; 1 if the model does not batch.
    pub rows: u32,
    /// Requests of equal keys may share a batch. Empty if nothing about the inputs can vary, and for
    /// models without batching, whose requests share nothing.
    pub key: BatchKey,
}

/// `message` as Triton's core prefixes it with the request's id.
#[must_use]
#[cold]
pub fn with_id(id: &str, message: &str) -> Error {
    let id = if id.is_empty() { "<id_unknown>" } else { id };
    Error::invalid(format!("[request id: {id}] {message}"))
}

/// Checks `request` and takes repeated names out of its requested outputs.
///
/// # Errors
/// What is wrong with it, in Triton's words.
pub fn check(request: &mut InferRequest, spec: &ModelSpec) -> Result<Admission, Error> {
    bounded(request, spec)?;
    unrepeated(request)?;
    outputs(request, spec)?;
    let required = spec.inputs.iter().filter(|input| !input.optional).count();
    let count = request.inputs.len();
    if count > spec.inputs.len() || count < required {
        return Err(wrong_inputs(request, spec, required));
    }
    let places = places(request, spec)?;
    let rows = rows(request, spec)?;
    let mut present = 0;
    for (tensor, place) in request.inputs.iter().zip(&places) {
        let declared = &spec.inputs[*place];
        present += usize::from(!declared.optional);
        input(request, spec, tensor, declared)?;
    }
    // Triton only counts inputs, so that an optional one passes for a required one.
    if present < required {
        return Err(wrong_inputs(request, spec, required));
    }
    Ok(Admission {
        rows,
        key: key(request, spec, &places),
    })
}

fn bounded(request: &InferRequest, spec: &ModelSpec) -> Result<(), Error> {
    if request.inputs.len() > MAX_TENSORS || request.outputs.len() > MAX_TENSORS {
        return Err(too_many("inputs or outputs", MAX_TENSORS, spec));
    }
    if request.parameters.len() > MAX_PARAMETERS {
        return Err(too_many("parameters", MAX_PARAMETERS, spec));
    }
    if request
        .inputs
        .iter()
        .any(|tensor| tensor.shape.len() > MAX_DIMENSIONS)
    {
        return Err(too_many("dimensions in one shape", MAX_DIMENSIONS, spec));
    }
    Ok(())
}

/// The refusal of a request that lists too much.
#[cold]
pub(crate) fn too_many(what: &str, limit: usize, spec: &ModelSpec) -> Error {
    Error::invalid(format!(
        "request for model '{}' has too many {what}; at most {limit} are accepted",
        spec.name
    ))
}

fn unrepeated(request: &InferRequest) -> Result<(), Error> {
    for (index, tensor) in request.inputs.iter().enumerate() {
        if request.inputs[..index]
            .iter()
            .any(|earlier| earlier.name == tensor.name)
        {
            let text = format!("input '{}' already exists in request", tensor.name);
            return Err(with_id(&request.id, &text));
        }
    }
    Ok(())
}

fn outputs(request: &mut InferRequest, spec: &ModelSpec) -> Result<(), Error> {
    for wanted in &request.outputs {
        if spec.output(&wanted.name).is_none() {
            return Err(unexpected("output", &wanted.name, spec));
        }
    }
    let mut index = 1;
    while index < request.outputs.len() {
        let (earlier, rest) = request.outputs.split_at(index);
        if earlier.iter().any(|known| known.name == rest[0].name) {
            request.outputs.remove(index);
        } else {
            index += 1;
        }
    }
    Ok(())
}

#[cold]
fn unexpected(what: &str, name: &str, spec: &ModelSpec) -> Error {
    Error::invalid(format!(
        "unexpected inference {what} '{name}' for model '{}'",
        spec.name
    ))
}

#[cold]
fn wrong_inputs(request: &InferRequest, spec: &ModelSpec, required: usize) -> Error {
    let quoted = |names: &mut dyn Iterator<Item = &str>| {
        names
            .map(|name| format!("'{name}'"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let expected = if required == spec.inputs.len() {
        format!("expected {required} inputs")
    } else {
        format!(
            "expected number of inputs between {required} and {}",
            spec.inputs.len()
        )
    };
    let given = quoted(&mut request.inputs.iter().map(|tensor| &*tensor.name));
    let absent =
        |io: &&IoSpec| !io.optional && !request.inputs.iter().any(|tensor| tensor.name == io.name);
    let missing = quoted(&mut spec.inputs.iter().filter(absent).map(|io| &*io.name));
    let text = format!(
        "{expected} but got {} inputs for model '{}'. Got input(s) [{given}], but missing required \
         input(s) [{missing}]. Please provide all required input(s).",
        request.inputs.len(),
        spec.name,
    );
    with_id(&request.id, &text)
}

type Places = SmallVec<[usize; 8]>;

/// For each input of the request, its index in the declaration.
fn places(request: &InferRequest, spec: &ModelSpec) -> Result<Places, Error> {
    let place = |tensor: &Tensor| match spec.input(&tensor.name) {
        Some((place, _)) => Ok(place),
        None => Err(unexpected("input", &tensor.name, spec)),
    };
    request.inputs.iter().map(place).collect()
}

/// The batch dimension on which all inputs agree.
fn rows(request: &InferRequest, spec: &ModelSpec) -> Result<u32, Error> {
    if !spec.batches() {
        return Ok(1);
    }
    let mut rows: Option<i64> = None;
    for tensor in &request.inputs {
        let name = &tensor.name;
        let Some(&batch) = tensor.shape.first() else {
            let text = format!(
                "input '{name}' has no shape but model requires batch dimension for '{}'",
                spec.name
            );
            return Err(with_id(&request.id, &text));
        };
        if rows.is_some_and(|rows| rows != batch) {
            let text = format!(
                "input '{name}' batch size does not match other inputs for '{}'",
                spec.name
            );
            return Err(with_id(&request.id, &text));
        }
        rows = Some(batch);
    }
    let rows = rows.unwrap_or(1);
    if rows > i64::from(spec.max_batch_size) {
        let text = format!(
            "inference request batch-size must be <= {} for '{}'",
            spec.max_batch_size, spec.name
        );
        return Err(with_id(&request.id, &text));
    }
    // A batch dimension of 0 or less is refused with the input it belongs to.
    Ok(u32::try_from(rows).unwrap_or(0))
}

fn input(
    request: &InferRequest,
    spec: &ModelSpec,
    tensor: &Tensor,
    declared: &IoSpec,
) -> Result<(), Error> {
    if tensor.datatype != declared.datatype {
        return Err(wrong_type(
            &request.id,
            spec,
            &tensor.name,
            tensor.datatype.name(),
            declared,
        ));
    }
    let batch = usize::from(spec.batches());
    let dims = &tensor.shape[batch..];
    if tensor.shape.contains(&-1) {
        return Err(unspecified(request, spec, tensor));
    }
    let fits = dims.len() == declared.dims.len()
        && dims
            .iter()
            .zip(&declared.dims)
            .all(|(dim, wanted)| *wanted == -1 || dim == wanted);
    if !fits {
        return Err(wrong_shape(request, spec, tensor, declared));
    }
    // Triton takes a batch dimension of 0 for none, hence its text: `Expected 12, got 0`.
    let shape = if batch == 1 && tensor.shape[0] == 0 {
        dims
    } else {
        &tensor.shape
    };
    size::data(request, spec, tensor, shape)?;
    if tensor.shape.iter().any(|dim| *dim < 0) {
        return Err(unspecified(request, spec, tensor));
    }
    if batch == 1 && tensor.shape[0] == 0 {
        let text = format!(
            "inference request batch-size must be >= 1 for '{}'",
            spec.name
        );
        return Err(with_id(&request.id, &text));
    }
    Ok(())
}

/// The refusal of an input of another type than declared; `given` may be no type at all.
#[cold]
pub(crate) fn wrong_type(
    id: &str,
    spec: &ModelSpec,
    name: &str,
    given: &str,
    declared: &IoSpec,
) -> Error {
    let text = format!(
        "inference input '{name}' data-type is '{given}', but model '{}' expects '{}'",
        spec.name,
        declared.datatype.name()
    );
    with_id(id, &text)
}

#[cold]
fn unspecified(request: &InferRequest, spec: &ModelSpec, tensor: &Tensor) -> Error {
    let text = format!(
        "All input dimensions should be specified for input '{}' for model '{}', got {}",
        tensor.name,
        spec.name,
        list(&tensor.shape)
    );
    with_id(&request.id, &text)
}

#[cold]
fn wrong_shape(
    request: &InferRequest,
    spec: &ModelSpec,
    tensor: &Tensor,
    declared: &IoSpec,
) -> Error {
    let mut expected = declared.dims.clone();
    if spec.batches() {
        expected.insert(0, -1);
    }
    let text = format!(
        "unexpected shape for input '{}' for model '{}'. Expected {}, got {}. {}",
        tensor.name,
        spec.name,
        list(&expected),
        list(&tensor.shape),
        if spec.batches() { BATCH_NOTE } else { "" }
    );
    with_id(&request.id, &text)
}

/// A shape as error texts show it: `[1,-1]`.
pub(crate) fn list(shape: &[i64]) -> String {
    let mut text = String::from("[");
    for (index, dim) in shape.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{dim}", if index == 0 { "" } else { "," });
    }
    text.push(']');
    text
}

/// One number for each thing about the inputs that the declaration leaves open, in its order.
fn key(request: &InferRequest, spec: &ModelSpec, places: &Places) -> BatchKey {
    let mut key = BatchKey::new();
    if !spec.batches() {
        return key;
    }
    for (place, declared) in spec.inputs.iter().enumerate() {
        let open = !declared.allow_ragged_batch && declared.is_variable();
        if !declared.optional && !open {
            continue;
        }
        let given = places.iter().position(|known| *known == place);
        if declared.optional {
            key.push(i64::from(given.is_some()));
        }
        let Some(tensor) = given.map(|index| &request.inputs[index]).filter(|_| open) else {
            continue;
        };
        let dims = tensor.shape[1..].iter().zip(&declared.dims);
        key.extend(
            dims.filter(|(_, wanted)| **wanted == -1)
                .map(|(dim, _)| *dim),
        );
    }
    key
}

#[cfg(test)]
mod tests;
