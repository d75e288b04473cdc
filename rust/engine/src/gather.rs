// SPDX-License-Identifier: Apache-2.0
//! The inputs of a batch, joined so that a backend sees one array per input.
//!
//! One request is passed on as it came, without a copy, if its bytes lie where their type may lie. Several
//! are copied once, side by side, into a pooled buffer. Requests of unequal shape (ragged batching) are
//! not joined; a backend takes them one by one.

use std::sync::Arc;

use bytes::Bytes;
use nerite_logic::DataType;
use nerite_logic::message::{Shape, Tensor};
use nerite_logic::schedulers::Ticket;
use nerite_logic::spec::{IoSpec, ModelSpec};

use crate::buffers::Pool;
use crate::lane::Pending;

/// One input of a batch.
#[derive(Debug)]
pub struct Gathered {
    /// Index of the declared input.
    pub input: usize,
    /// Shape of `data`, with the batch dimension if the model batches and the reshape applied; `None` if
    /// the requests' shapes differ.
    pub shape: Option<Shape>,
    /// The elements of all requests; for BYTES, and for unequal shapes, empty.
    pub data: Bytes,
    /// Whether `data` is a request's own memory.
    pub borrowed: bool,
}

/// Joins each input that the requests of a batch bring. All bring the same ones: the scheduler's key
/// says so.
#[must_use]
pub fn gather(
    spec: &ModelSpec,
    pools: &[Arc<Pool>],
    tickets: &[Ticket<Box<Pending>>],
) -> Vec<Gathered> {
    let Some(first) = tickets.first() else {
        return Vec::new();
    };
    let present = spec
        .batch_inputs()
        .enumerate()
        .filter_map(|(index, declared)| {
            let tensor = find(&first.payload.request.inputs, declared)?;
            Some((index, declared, tensor))
        });
    present
        .map(|(index, declared, tensor)| {
            let Some(shape) = joined_shape(spec, declared, tickets) else {
                return Gathered {
                    input: index,
                    shape: None,
                    data: Bytes::new(),
                    borrowed: false,
                };
            };
            let (data, borrowed) = match (tensor.datatype, tickets) {
                (DataType::Bytes, _) => (Bytes::new(), false),
                (_, [_]) if is_aligned(tensor) => (tensor.data.clone(), true),
                _ => (join(declared, pools.get(index), tickets), false),
            };
            Gathered {
                input: index,
                shape: Some(shape),
                data,
                borrowed,
            }
        })
        .collect()
}

/// The tensor that a request brings for a declared input.
#[must_use]
pub fn find<'a>(tensors: &'a [Tensor], declared: &IoSpec) -> Option<&'a Tensor> {
    tensors.iter().find(|tensor| tensor.name == declared.name)
}

/// Whether a tensor's bytes lie where its elements may be read in place.
#[must_use]
pub fn is_aligned(tensor: &Tensor) -> bool {
    let size = tensor.datatype.size().unwrap_or(1);
    (tensor.data.as_ptr() as usize).is_multiple_of(size)
}

/// The shape that a backend sees for one request's tensor.
#[must_use]
pub fn backend_shape(spec: &ModelSpec, declared: &IoSpec, shape: &[i64]) -> Shape {
    let Some(reshape) = &declared.reshape else {
        return Shape::from_slice(shape);
    };
    apply_reshape(spec, &declared.dims, reshape, shape)
}

/// The shape that a client sees for an output that the backend gave in the declared `reshape`.
#[must_use]
pub fn client_shape(spec: &ModelSpec, declared: &IoSpec, shape: &[i64]) -> Shape {
    let Some(reshape) = &declared.reshape else {
        return Shape::from_slice(shape);
    };
    let full_rank = reshape.len() + usize::from(spec.batches());
    if shape.len() == full_rank {
        apply_reshape(spec, reshape, spec.answered_dims(declared), shape)
    } else {
        Shape::from_slice(shape)
    }
}

/// Rewrites `shape` from the form `from` to the form `to`: variable sizes carry over in order, as a
/// checked configuration guarantees that they can.
fn apply_reshape(spec: &ModelSpec, from: &[i64], to: &[i64], shape: &[i64]) -> Shape {
    let batch = usize::from(spec.batches()).min(shape.len());
    let (head, tail) = shape.split_at(batch);
    let mut variable = from
        .iter()
        .zip(tail)
        .filter(|(dim, _)| **dim == -1)
        .map(|(_, size)| *size);
    let sizes = to.iter().map(|dim| {
        if *dim == -1 {
            variable.next().unwrap_or(1)
        } else {
            *dim
        }
    });
    head.iter().copied().chain(sizes).collect()
}

fn joined_shape(
    spec: &ModelSpec,
    declared: &IoSpec,
    tickets: &[Ticket<Box<Pending>>],
) -> Option<Shape> {
    let batch = usize::from(spec.batches());
    let mut shapes = tickets
        .iter()
        .filter_map(|ticket| find(&ticket.payload.request.inputs, declared))
        .map(|tensor| &tensor.shape);
    let mut shape = shapes.next()?.clone();
    for other in shapes {
        if batch == 0 || other.len() != shape.len() || other.get(1..) != shape.get(1..) {
            return None;
        }
        // Each row count was checked to be at most `max_batch_size`.
        *shape.first_mut()? += other.first()?;
    }
    Some(backend_shape(spec, declared, &shape))
}

fn join(declared: &IoSpec, pool: Option<&Arc<Pool>>, tickets: &[Ticket<Box<Pending>>]) -> Bytes {
    let parts = || {
        tickets
            .iter()
            .filter_map(|ticket| find(&ticket.payload.request.inputs, declared))
            .map(|tensor| &tensor.data)
    };
    let total = parts().map(Bytes::len).sum();
    let Some(mut buffer) = pool.and_then(|pool| pool.take(total)) else {
        return Bytes::new();
    };
    parts().for_each(|part| buffer.append(part));
    Bytes::from_owner(buffer)
}
