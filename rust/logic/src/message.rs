// SPDX-License-Identifier: Apache-2.0
//! Requests and responses, as plain values between the wire and the schedulers.
//!
//! Text and tensor data are reference-counted slices of the body they came in, so that a request is
//! parsed without copying and may travel to another thread. The types know nothing of JSON, protobuf
//! or sockets; [`crate::wire`] makes and reads them.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use crate::DataType;

/// The sizes of a tensor's dimensions; never negative once a request was checked.
pub type Shape = SmallVec<[i64; 4]>;

/// The value of a request or response parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `true` or `false`.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer above `i64::MAX` (gRPC `uint64_param`).
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    String(ByteString),
}

/// Named parameters, in the order in which they were given.
pub type Parameters = Vec<(ByteString, Parameter)>;

/// A tensor with its data in wire layout: little-endian, row-major, dense; each BYTES element is a
/// `u32` length and that many bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The input's or output's name.
    pub name: ByteString,
    /// The element type.
    pub datatype: DataType,
    /// The shape, with the batch dimension if the model batches.
    pub shape: Shape,
    /// The elements.
    pub data: Bytes,
}

/// Which sequence a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum CorrelationId {
    /// Not in a sequence.
    #[default]
    None,
    /// A number other than zero.
    Number(u64),
    /// Text other than the empty one.
    Text(ByteString),
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => to.write_str("0"),
            Self::Number(number) => number.fmt(to),
            Self::Text(text) => text.fmt(to),
        }
    }
}

/// The parameters of a request that mean something to the server (`spec/triton.md` 0.3).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Control {
    /// The sequence, if any.
    pub correlation_id: CorrelationId,
    /// First request of its sequence.
    pub sequence_start: bool,
    /// Last request of its sequence.
    pub sequence_end: bool,
    /// Priority level; 0 is the model's default.
    pub priority: u64,
    /// Queue timeout in microseconds; 0 is none.
    pub timeout_us: u64,
    /// Streams: the end of the request is told even where no response tells it.
    pub empty_final: bool,
}

/// A part of a registered region of shared memory, as a request names it (`spec/triton.md` 1.8).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Window {
    /// The name under which the region was registered.
    pub region: ByteString,
    /// Where the part begins in the region, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

/// How the data of an output are written over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// In the JSON.
    #[default]
    Json,
    /// In the JSON, where each BYTES element is an object with its base64.
    Base64,
    /// As bytes behind the JSON.
    Binary,
}

/// How one output is to be answered.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RequestedOutput {
    /// The output's name.
    pub name: ByteString,
    /// HTTP: how its data are written.
    pub form: Form,
    /// The `k` best classes instead of the tensor; 0 for the tensor itself.
    pub classification: u32,
    /// Into shared memory, so that the answer has no data.
    pub window: Option<Box<Window>>,
}

/// An inference request, checked for form but not yet against its model.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct InferRequest {
    /// The client's id for it; empty if none was given.
    pub id: ByteString,
    /// What the server itself understands.
    pub control: Control,
    /// What is passed on to the model.
    pub parameters: Parameters,
    /// The input tensors, in the client's order.
    pub inputs: SmallVec<[Tensor; 2]>,
    /// The inputs, by their place in `inputs`, whose data are in shared memory and not here yet.
    pub windows: Vec<(usize, Window)>,
    /// The outputs asked for; empty for all of them.
    pub outputs: SmallVec<[RequestedOutput; 2]>,
    /// HTTP: how the data of outputs are written that are not listed.
    pub default_form: Form,
}

/// What the answer to a request must know of it; the request itself goes to the model.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Asked {
    /// The client's id for it; empty if none was given.
    pub id: ByteString,
    /// How the outputs that were listed are to be answered.
    pub outputs: SmallVec<[RequestedOutput; 2]>,
    /// HTTP: how the data of outputs are written that are not listed.
    pub default_form: Form,
}

impl InferRequest {
    /// What the answer will need. Nothing is lost to the request: a few reference counts go up.
    #[must_use]
    pub fn take_asked(&self) -> Asked {
        Asked {
            id: self.id.clone(),
            outputs: self.outputs.clone(),
            default_form: self.default_form,
        }
    }
}

/// What a model answered to one request.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct InferResponse {
    /// Parameters the model attached.
    pub parameters: Parameters,
    /// The output tensors, already pruned to those asked for.
    pub outputs: SmallVec<[Tensor; 2]>,
}
