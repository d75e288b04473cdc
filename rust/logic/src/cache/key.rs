// SPDX-License-Identifier: Apache-2.0
//! Which requests get the same answer: those that a model cannot tell apart but by their id.
//!
//! Everything else that reaches a model is hashed: the loaded model itself (a number that no other load has,
//! so that a reload never answers with what the old model said), name, datatype, shape and bytes of each
//! input, the outputs that were asked for, the parameters and what the server understands of them. Each part
//! goes with its length, so no part can run into the next. How an answer is encoded (binary data, classes,
//! shared memory) is decided after the cache and does not count. (Triton hashes names and bytes alone, to 64
//! bits, and so mixes up shapes, datatypes and outputs.)
//!
//! The hash is BLAKE3 with a secret of this cache: 256 bits of which nobody has found two equal, even
//! where the secret is known. So inputs are not kept to be compared. The secret keeps clients from aiming at
//! one place of the table.

use std::hash::{Hash, Hasher};

use blake3::Hasher as Blake3;
use smallvec::SmallVec;

use crate::message::{CorrelationId, InferRequest, Parameter};

/// What tells requests apart that get different answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// The hasher of a table whose keys are hashes already.
#[derive(Debug, Default)]
pub struct Uniform(u64);

impl Hasher for Uniform {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The key of a checked request to the model that was loaded as number `generation`.
#[must_use]
pub fn key(secret: &[u8; 32], generation: u64, request: &InferRequest) -> Key {
    let mut parts = Parts(Blake3::new_keyed(secret));
    parts.number(generation);
    inputs(&mut parts, request);
    parts.length(request.outputs.len());
    for output in &request.outputs {
        parts.bytes(output.name.as_bytes());
    }
    parameters(&mut parts, request);
    control(&mut parts, request);
    Key(*parts.0.finalize().as_bytes())
}

/// By name, since models are given them by name.
fn inputs(parts: &mut Parts, request: &InferRequest) {
    let mut inputs: SmallVec<[_; 8]> = request.inputs.iter().collect();
    inputs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    parts.length(inputs.len());
    for tensor in inputs {
        parts.bytes(tensor.name.as_bytes());
        parts.bytes(tensor.datatype.name().as_bytes());
        parts.length(tensor.shape.len());
        for dimension in &tensor.shape {
            parts.number(dimension.cast_unsigned());
        }
        parts.bytes(&tensor.data);
    }
}

fn parameters(parts: &mut Parts, request: &InferRequest) {
    let mut parameters: SmallVec<[_; 8]> = request.parameters.iter().collect();
    parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
    parts.length(parameters.len());
    for (name, value) in parameters {
        parts.bytes(name.as_bytes());
        match value {
            Parameter::Bool(value) => parts.tagged(0, u64::from(*value)),
            Parameter::Int(value) => parts.tagged(1, value.cast_unsigned()),
            Parameter::Uint(value) => parts.tagged(2, *value),
            Parameter::Double(value) => parts.tagged(3, value.to_bits()),
            Parameter::String(value) => {
                parts.number(4);
                parts.bytes(value.as_bytes());
            }
        }
    }
}

fn control(parts: &mut Parts, request: &InferRequest) {
    let control = &request.control;
    match &control.correlation_id {
        CorrelationId::None => parts.number(0),
        CorrelationId::Number(id) => parts.tagged(1, *id),
        CorrelationId::Text(id) => {
            parts.number(2);
            parts.bytes(id.as_bytes());
        }
    }
    parts.number(u64::from(control.sequence_start) | u64::from(control.sequence_end) << 1);
    parts.number(control.priority);
    parts.number(control.timeout_us);
}

struct Parts(Blake3);

impl Parts {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn tagged(&mut self, tag: u64, number: u64) {
        self.number(tag);
        self.number(number);
    }

    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }
}
