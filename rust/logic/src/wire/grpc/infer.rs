// SPDX-License-Identifier: Apache-2.0
//! `ModelInferRequest`: read in one pass over the message, tensors and text staying slices of it.

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use super::contents;
use super::parameters::{Map, find, read_entry, split, window};
use super::reader::{Malformed, Reader, Span, Wire};
use crate::DataType;
use crate::error::Error;
use crate::message::{Form, InferRequest, Parameter, RequestedOutput, Shape, Tensor, Window};
use crate::spec::ModelSpec;

/// Most inputs, outputs and dimensions of one request.
const MOST: usize = 1024;

/// A request whose model is not known yet.
#[derive(Debug)]
pub struct InferEnvelope {
    message: Bytes,
    model_name: ByteString,
    model_version: ByteString,
    id: ByteString,
    parameters: Map,
    inputs: SmallVec<[Input; 2]>,
    outputs: SmallVec<[Output; 2]>,
    raw: SmallVec<[Span; 2]>,
}

#[derive(Debug, Default)]
struct Input {
    name: ByteString,
    datatype: ByteString,
    shape: Shape,
    parameters: Map,
    contents: SmallVec<[Span; 1]>,
}

#[derive(Debug, Default)]
struct Output {
    name: ByteString,
    parameters: Map,
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::internal("Unable to parse request")
    }
}

/// Reads a request for the model that `spec` declares.
///
/// # Errors
/// If the message is malformed or does not suit the protocol.
pub fn parse_infer(message: Bytes, spec: &ModelSpec) -> Result<InferRequest, Error> {
    InferEnvelope::decode(message)?.into_request(spec)
}

impl InferEnvelope {
    /// Reads the message's fields, each as deep as needed to know what is asked of whom.
    ///
    /// # Errors
    /// INTERNAL `Unable to parse request` if it is no such message.
    pub fn decode(message: Bytes) -> Result<Self, Error> {
        let mut envelope = Self {
            model_name: ByteString::new(),
            model_version: ByteString::new(),
            id: ByteString::new(),
            parameters: Map::new(),
            inputs: SmallVec::new(),
            outputs: SmallVec::new(),
            raw: SmallVec::new(),
            message: Bytes::new(),
        };
        let mut reader = Reader::new(
            &message,
            Span {
                start: 0,
                end: message.len(),
            },
        )?;
        while let Some((field, wire)) = reader.field()? {
            if !(1..=7).contains(&field) {
                reader.skip(field, wire)?;
                continue;
            }
            if wire != Wire::Block {
                return Err(Malformed.into());
            }
            let span = reader.block()?;
            match field {
                1 => envelope.model_name = span.text(&message)?,
                2 => envelope.model_version = span.text(&message)?,
                3 => envelope.id = span.text(&message)?,
                4 => read_entry(&message, span, &mut envelope.parameters)?,
                5 => envelope.inputs.push(read_input(&message, span)?),
                6 => envelope.outputs.push(read_output(&message, span)?),
                _ => envelope.raw.push(span),
            }
            if envelope
                .inputs
                .len()
                .max(envelope.outputs.len())
                .max(envelope.raw.len())
                > MOST
            {
                return Err(Error::invalid(format!(
                    "a request may have at most {MOST} tensors"
                )));
            }
        }
        envelope.message = message;
        Ok(envelope)
    }

    /// The model that is asked.
    #[must_use]
    pub fn model_name(&self) -> &str {
        &self.model_name
    }

    /// The version that is asked for, as text; empty for the latest.
    #[must_use]
    pub fn model_version(&self) -> &str {
        &self.model_version
    }

    /// The client's id for it; empty if it gave none.
    #[must_use]
    pub const fn id(&self) -> &ByteString {
        &self.id
    }

    /// The request, with its data found.
    ///
    /// # Errors
    /// The texts of `spec/triton.md` 2.3.
    pub fn into_request(self, spec: &ModelSpec) -> Result<InferRequest, Error> {
        let (control, parameters) = split(self.parameters)?;
        let mut raw = self.raw.iter();
        let mut inputs = SmallVec::with_capacity(self.inputs.len());
        let mut windows = Vec::new();
        let any_raw = !self.raw.is_empty();
        for input in self.inputs {
            let raw = any_raw.then_some(&mut raw);
            let (tensor, window) = read_data(&self.message, spec, input, raw)?;
            if let Some(window) = window {
                windows.push((inputs.len(), window));
            }
            inputs.push(tensor);
        }
        let surplus = raw.count();
        if surplus > 0 {
            // Triton ignores them; a client that sends them has made a mistake it should hear of.
            return Err(Error::invalid(format!(
                "request for model '{}' has {surplus} more raw_input_contents than inputs that need \
                 them",
                spec.name
            )));
        }
        let outputs = self.outputs.into_iter().map(Output::into_requested);
        Ok(InferRequest {
            id: self.id,
            control,
            parameters,
            inputs,
            windows,
            outputs: outputs.collect::<Result<_, _>>()?,
            default_form: Form::Binary,
        })
    }
}

fn read_input(message: &Bytes, span: Span) -> Result<Input, Malformed> {
    let mut input = Input::default();
    let mut reader = Reader::new(message, span)?;
    while let Some((field, wire)) = reader.field()? {
        match (field, wire) {
            (1, Wire::Block) => input.name = reader.block()?.text(message)?,
            (2, Wire::Block) => input.datatype = reader.block()?.text(message)?,
            (3, Wire::Varint) => push_dim(&mut input.shape, reader.varint()?)?,
            (3, Wire::Block) => {
                let mut dims = PackedVarints::new(message, reader.block()?);
                while let Some(dim) = dims.next()? {
                    push_dim(&mut input.shape, dim)?;
                }
            }
            (4, Wire::Block) => read_entry(message, reader.block()?, &mut input.parameters)?,
            (5, Wire::Block) => input.contents.push(reader.block()?),
            (1..=5, _) => return Err(Malformed),
            _ => reader.skip(field, wire)?,
        }
    }
    Ok(input)
}

fn push_dim(shape: &mut Shape, dim: u64) -> Result<(), Malformed> {
    if shape.len() >= MOST {
        return Err(Malformed);
    }
    shape.push(dim.cast_signed());
    Ok(())
}

/// The numbers of a packed field.
struct PackedVarints<'a> {
    rest: &'a [u8],
}

impl<'a> PackedVarints<'a> {
    fn new(message: &'a [u8], span: Span) -> Self {
        Self {
            rest: message.get(span.start..span.end).unwrap_or_default(),
        }
    }

    fn next(&mut self) -> Result<Option<u64>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        prost::encoding::decode_varint(&mut self.rest)
            .map(Some)
            .map_err(|_| Malformed)
    }
}

fn read_output(message: &Bytes, span: Span) -> Result<Output, Malformed> {
    let mut output = Output::default();
    let mut reader = Reader::new(message, span)?;
    while let Some((field, wire)) = reader.field()? {
        match (field, wire) {
            (1, Wire::Block) => output.name = reader.block()?.text(message)?,
            (2, Wire::Block) => read_entry(message, reader.block()?, &mut output.parameters)?,
            (1 | 2, _) => return Err(Malformed),
            _ => reader.skip(field, wire)?,
        }
    }
    Ok(output)
}

fn read_data(
    message: &Bytes,
    spec: &ModelSpec,
    input: Input,
    raw: Option<&mut std::slice::Iter<'_, Span>>,
) -> Result<(Tensor, Option<Window>), Error> {
    let (name, model) = (&input.name, &spec.name);
    let datatype = DataType::from_name(&input.datatype);
    let window = window(&input.parameters, name)?;
    let data = match raw {
        _ if window.is_some() => {
            if !input.contents.is_empty() {
                return Err(Error::invalid(format!(
                    "unexpected 'content' provided when using shared memory for input tensor '{name}' for \
                     model '{model}'"
                )));
            }
            Some(Bytes::new())
        }
        Some(_) if !input.contents.is_empty() => {
            return Err(Error::invalid(format!(
                "contents field must not be specified when using raw_input_contents for '{name}' for \
                 model '{model}'"
            )));
        }
        Some(raw) => raw.next().map(|span| span.slice(message)),
        None if input.contents.is_empty() => None,
        None => Some(
            contents::read(message, &input.contents, datatype)?
                .map_err(|mistake| mistake.into_error(name, model, datatype))?,
        ),
    };
    let Some(data) = data else {
        return Err(Error::invalid(format!(
            "unable to find data for input tensor '{name}' for model '{model}' in request."
        )));
    };
    let Some(datatype) = datatype else {
        let Some((_, declared)) = spec.input(name) else {
            let text = format!("unexpected inference input '{name}' for model '{model}'");
            return Err(Error::invalid(text));
        };
        return Err(crate::check::with_id(
            "",
            &format!(
                "inference input '{name}' data-type is '<invalid>', but model '{model}' expects '{}'",
                declared.datatype.name()
            ),
        ));
    };
    let tensor = Tensor {
        name: input.name,
        datatype,
        shape: input.shape,
        data,
    };
    Ok((tensor, window))
}

impl Output {
    fn into_requested(self) -> Result<RequestedOutput, Error> {
        let window = window(&self.parameters, &self.name)?;
        let classification = match find(&self.parameters, "classification") {
            None => 0,
            Some(Some(Parameter::Int(k))) if *k > 0 => u32::try_from(*k).unwrap_or(u32::MAX),
            Some(Some(Parameter::Int(_))) => {
                return Err(Error::invalid(
                    "invalid value for 'classification' parameter, expected >= 0",
                ));
            }
            Some(_) => {
                return Err(Error::invalid(
                    "invalid value type for 'classification' parameter, expected int64_param",
                ));
            }
        };
        if window.is_some() && classification > 0 {
            return Err(Error::invalid(
                "Output can't set both 'shared_memory_region' and 'classification'",
            ));
        }
        Ok(RequestedOutput {
            name: self.name,
            form: Form::Binary,
            classification,
            window: window.map(Box::new),
        })
    }
}
