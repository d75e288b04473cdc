// SPDX-License-Identifier: Apache-2.0
//! Writes `ModelInferRequest`s, which the server only reads.

use nerite_logic::message::{CorrelationId, InferRequest, Parameter, Tensor};

/// A message that grows.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    pub fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    pub fn block(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn inner(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.block(field, &inner.0);
    }

    fn parameter(&mut self, field: u64, name: &str, value: &Parameter) {
        self.inner(field, |entry| {
            entry.block(1, name.as_bytes());
            entry.inner(2, |out| match value {
                Parameter::Bool(value) => out.number(1, u64::from(*value)),
                Parameter::Int(value) => out.number(2, value.cast_unsigned()),
                Parameter::String(value) => out.block(3, value.as_bytes()),
                Parameter::Double(value) => {
                    out.varint(4 << 3 | 1);
                    out.0.extend_from_slice(&value.to_le_bytes());
                }
                Parameter::Uint(value) => out.number(5, *value),
            });
        });
    }

    fn input(&mut self, tensor: &Tensor) {
        self.inner(5, |input| {
            input.block(1, tensor.name.as_bytes());
            input.block(2, tensor.datatype.name().as_bytes());
            input.inner(3, |dims| {
                tensor
                    .shape
                    .iter()
                    .for_each(|dim| dims.varint(dim.cast_unsigned()))
            });
        });
    }
}

/// `request` to `model`, its tensors raw.
pub fn encode(model: &str, request: &InferRequest) -> Vec<u8> {
    let mut out = Writer::default();
    out.block(1, model.as_bytes());
    out.block(3, request.id.as_bytes());
    let control = &request.control;
    match &control.correlation_id {
        CorrelationId::None => {}
        CorrelationId::Number(id) => {
            out.parameter(4, "sequence_id", &Parameter::Int(id.cast_signed()))
        }
        CorrelationId::Text(id) => out.parameter(4, "sequence_id", &Parameter::String(id.clone())),
    }
    out.parameter(
        4,
        "sequence_start",
        &Parameter::Bool(control.sequence_start),
    );
    out.parameter(4, "sequence_end", &Parameter::Bool(control.sequence_end));
    out.parameter(4, "priority", &Parameter::Uint(control.priority));
    out.parameter(
        4,
        "timeout",
        &Parameter::Int(control.timeout_us.cast_signed()),
    );
    for (name, value) in &request.parameters {
        out.parameter(4, name, value);
    }
    for tensor in &request.inputs {
        out.input(tensor);
    }
    for output in &request.outputs {
        out.inner(6, |wanted| {
            wanted.block(1, output.name.as_bytes());
            if output.classification > 0 {
                let classes = Parameter::Int(output.classification.into());
                wanted.parameter(2, "classification", &classes);
            }
        });
    }
    for tensor in &request.inputs {
        out.block(7, &tensor.data);
    }
    out.0
}

/// `tensor` with its elements in the typed field `field`, one by one or packed.
pub fn typed(tensor: &Tensor, field: u64, elements: &[u64], packed: bool) -> Vec<u8> {
    let mut out = Writer::default();
    out.inner(5, |input| {
        input.block(1, tensor.name.as_bytes());
        input.block(2, tensor.datatype.name().as_bytes());
        tensor
            .shape
            .iter()
            .for_each(|dim| input.number(3, dim.cast_unsigned()));
        input.inner(5, |contents| match packed {
            true => contents.inner(field, |out| {
                elements.iter().for_each(|value| out.varint(*value))
            }),
            false => elements
                .iter()
                .for_each(|value| contents.number(field, *value)),
        });
    });
    out.0
}
