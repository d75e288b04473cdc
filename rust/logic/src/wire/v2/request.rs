// SPDX-License-Identifier: Apache-2.0
//! The request object: id, parameters, and what is asked for.

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use super::{Failure, NON_ARRAY, NON_BOOLEAN, NON_STRING, NON_UNSIGNED, absent, unable};
use crate::check::{MAX_PARAMETERS, MAX_TENSORS, too_many};
use crate::error::Error;
use crate::message::{CorrelationId, Form, InferRequest, Parameter, RequestedOutput, Window};
use crate::spec::ModelSpec;
use crate::wire::json::{Kind, Number, Reader, Text};

/// Reads one request from front to back.
pub(super) struct Parser<'a> {
    pub(super) body: &'a Bytes,
    pub(super) json: Reader<'a>,
    pub(super) spec: &'a ModelSpec,
    /// Where the next binary input begins in `body`; `None` if no header told where bytes begin.
    pub(super) tail: Option<usize>,
}

/// Which members were there already: of equal names the first counts.
#[derive(Default)]
struct Seen {
    id: bool,
    parameters: bool,
    inputs: bool,
    outputs: bool,
}

/// Sets a mark; whether it was not set before.
pub(super) const fn first(seen: &mut bool) -> bool {
    !std::mem::replace(seen, true)
}

impl<'a> Parser<'a> {
    pub(super) fn new(body: &'a Bytes, text: &'a [u8], binary: bool, spec: &'a ModelSpec) -> Self {
        Self {
            body,
            json: Reader::new(text),
            spec,
            tail: binary.then_some(text.len()),
        }
    }

    pub(super) fn request(mut self) -> Result<InferRequest, Failure> {
        let mut request = InferRequest::default();
        if self.json.kind() != Kind::Object {
            return Err(absent("inputs").into());
        }
        self.json.enter();
        let (mut start, mut seen) = (true, Seen::default());
        while let Some(name) = self.json.member(&mut start)? {
            match name.bytes() {
                b"id" if first(&mut seen.id) => request.id = self.string("id")?,
                b"parameters" if first(&mut seen.parameters) => self.parameters(&mut request)?,
                b"inputs" if first(&mut seen.inputs) => self.inputs(&mut request)?,
                b"outputs" if first(&mut seen.outputs) => self.outputs(&mut request)?,
                _ => self.json.skip()?,
            }
        }
        self.json.end()?;
        if !seen.inputs {
            return Err(absent("inputs").into());
        }
        if self.tail.is_some_and(|tail| tail < self.body.len()) {
            let model = &self.spec.name;
            let text = format!("unexpected additional input data for model '{model}'");
            return Err(Error::invalid(text).into());
        }
        Ok(request)
    }

    /// A string that is kept.
    pub(super) fn string(&mut self, member: &str) -> Result<ByteString, Failure> {
        Ok(self.text(member)?.keep(self.body)?)
    }

    pub(super) fn text(&mut self, member: &str) -> Result<Text<'a>, Failure> {
        match self.json.kind() {
            Kind::String => Ok(self.json.text()?),
            _ => Err(unable(member, NON_STRING).into()),
        }
    }

    fn boolean(&mut self, member: &str) -> Result<bool, Failure> {
        match self.json.kind() {
            Kind::Bool => Ok(self.json.boolean()?),
            _ => Err(unable(member, NON_BOOLEAN).into()),
        }
    }

    pub(super) fn unsigned(&mut self) -> Result<Option<u64>, Failure> {
        match self.json.kind() {
            Kind::Number => Ok(self.json.number()?.as_uint()),
            _ => Ok(None),
        }
    }

    /// Goes into the array that must be next.
    pub(super) fn array(&mut self, member: &str) -> Result<(), Failure> {
        if self.json.kind() != Kind::Array {
            return Err(unable(member, NON_ARRAY).into());
        }
        self.json.enter();
        Ok(())
    }

    fn inputs(&mut self, request: &mut InferRequest) -> Result<(), Failure> {
        self.array("inputs")?;
        let mut start = true;
        while self.json.element(&mut start)? {
            if request.inputs.len() >= MAX_TENSORS {
                return Err(too_many("inputs", MAX_TENSORS, self.spec).into());
            }
            let (tensor, window) = self.input(&request.id)?;
            if let Some(window) = window {
                request.windows.push((request.inputs.len(), window));
            }
            request.inputs.push(tensor);
        }
        Ok(())
    }

    fn parameters(&mut self, request: &mut InferRequest) -> Result<(), Failure> {
        if self.json.kind() != Kind::Object {
            let text = "failed to get request params.: attempt to get members for non-object";
            return Err(Error::invalid(text).into());
        }
        self.json.enter();
        let (mut start, mut known) = (true, SmallVec::<[Text<'a>; 4]>::new());
        while let Some(name) = self.json.member(&mut start)? {
            if known.iter().any(|earlier| earlier.bytes() == name.bytes()) {
                self.json.skip()?;
                continue;
            }
            if known.len() >= MAX_PARAMETERS {
                return Err(too_many("parameters", MAX_PARAMETERS, self.spec).into());
            }
            self.parameter(&name, request)?;
            known.push(name);
        }
        Ok(())
    }

    /// A parameter: what the server understands itself, or one for the model.
    fn parameter(&mut self, name: &Text<'_>, request: &mut InferRequest) -> Result<(), Failure> {
        let control = &mut request.control;
        match name.bytes() {
            b"sequence_id" => control.correlation_id = self.correlation_id()?,
            b"sequence_start" => control.sequence_start = self.boolean("sequence_start")?,
            b"sequence_end" => control.sequence_end = self.boolean("sequence_end")?,
            b"priority" => control.priority = self.control_number("priority")?,
            b"timeout" => control.timeout_us = self.control_number("timeout")?,
            b"binary_data_output" => {
                self.form(
                    &mut request.default_form,
                    Form::Binary,
                    "binary_data_output",
                )?;
            }
            b"base64_data_output" => {
                self.form(
                    &mut request.default_form,
                    Form::Base64,
                    "base64_data_output",
                )?;
            }
            reserved if reserved.starts_with(b"triton_") => {
                return Err(Error::invalid(
                    "parameter keys starting with 'triton_' are reserved for Triton usage and should \
                     not be specified.",
                )
                .into());
            }
            _ => {
                let name = name.keep(self.body)?;
                let value = self.value(&name)?;
                request.parameters.push((name, value));
            }
        }
        Ok(())
    }

    /// A switch that asks for a form; it can be one only.
    pub(super) fn form(
        &mut self,
        form: &mut Form,
        wanted: Form,
        member: &str,
    ) -> Result<(), Failure> {
        let on = self.boolean(member)?;
        if on && *form != Form::Json {
            let (binary, base64) = match member.ends_with("_output") {
                true => ("binary_data_output", "base64_data_output"),
                false => ("binary_data", "base64_data"),
            };
            let text = format!("Output can't set both '{binary}' and '{base64}'");
            return Err(Error::invalid(text).into());
        }
        if on {
            *form = wanted;
        }
        Ok(())
    }

    fn control_number(&mut self, name: &str) -> Result<u64, Failure> {
        self.unsigned()?
            .ok_or_else(|| unable(name, NON_UNSIGNED).into())
    }

    fn correlation_id(&mut self) -> Result<CorrelationId, Failure> {
        if self.json.kind() == Kind::Number {
            return match self.unsigned()? {
                Some(0) => Ok(CorrelationId::None),
                Some(number) => Ok(CorrelationId::Number(number)),
                None => Err(unable("sequence_id", NON_STRING).into()),
            };
        }
        let text = self.string("sequence_id")?;
        Ok(if text.is_empty() {
            CorrelationId::None
        } else {
            CorrelationId::Text(text)
        })
    }

    pub(super) fn value(&mut self, name: &str) -> Result<Parameter, Failure> {
        Ok(match self.json.kind() {
            Kind::String => Parameter::String(self.string(name)?),
            Kind::Bool => Parameter::Bool(self.json.boolean()?),
            Kind::Number => match self.json.number()? {
                // Triton makes a double of what an int64 does not hold.
                number @ Number::Uint(_) => number
                    .as_int()
                    .map_or(Parameter::Double(number.as_double()), Parameter::Int),
                Number::Int(value) => Parameter::Int(value),
                Number::Double(value) => Parameter::Double(value),
            },
            Kind::Object | Kind::Array | Kind::Null => {
                return Err(Error::invalid(format!(
                    "parameter '{name}' has invalid type. It should be either 'int', 'bool', or \
                     'string'."
                ))
                .into());
            }
        })
    }

    fn outputs(&mut self, request: &mut InferRequest) -> Result<(), Failure> {
        self.array("outputs")?;
        let mut start = true;
        while self.json.element(&mut start)? {
            if request.outputs.len() >= MAX_TENSORS {
                return Err(too_many("outputs", MAX_TENSORS, self.spec).into());
            }
            let output = self.output()?;
            request.outputs.push(output);
        }
        Ok(())
    }

    fn output(&mut self) -> Result<RequestedOutput, Failure> {
        let (mut name, mut parameters, mut output) = (None, false, RequestedOutput::default());
        let mut shared = SharedMemory::default();
        if self.json.kind() == Kind::Object {
            self.json.enter();
            let mut start = true;
            while let Some(member) = self.json.member(&mut start)? {
                match member.bytes() {
                    b"name" if name.is_none() => name = Some(self.string("name")?),
                    b"parameters" if first(&mut parameters) && self.json.kind() == Kind::Object => {
                        shared = self.output_parameters(&mut output)?;
                    }
                    _ => self.json.skip()?,
                }
            }
        } else {
            self.json.skip()?;
        }
        output.name = name.ok_or_else(|| absent("name"))?;
        if let Some(window) = shared.window() {
            if let Some(conflict) = region_conflict(&output) {
                return Err(conflict.into());
            }
            output.window = Some(Box::new(window));
        }
        Ok(output)
    }

    /// Reads the parameters of an output; returns the shared memory it names.
    fn output_parameters(&mut self, output: &mut RequestedOutput) -> Result<SharedMemory, Failure> {
        self.json.enter();
        let (mut binary, mut base64, mut classification) = (false, false, false);
        let mut shared = SharedMemory::default();
        let mut start = true;
        while let Some(member) = self.json.member(&mut start)? {
            match member.bytes() {
                b"binary_data" if first(&mut binary) => {
                    self.form(&mut output.form, Form::Binary, "binary_data")?;
                }
                b"base64_data" if first(&mut base64) => {
                    self.form(&mut output.form, Form::Base64, "base64_data")?;
                }
                b"classification" if first(&mut classification) => {
                    let count = self.unsigned()?.ok_or_else(|| {
                        Error::invalid(format!("Unable to set 'classification': {NON_UNSIGNED}"))
                    })?;
                    // More classes than there can be are all classes.
                    output.classification = u32::try_from(count).unwrap_or(u32::MAX);
                }
                name => {
                    if !self.shared_memory(name, &mut shared)? {
                        self.json.skip()?;
                    }
                }
            }
        }
        Ok(shared)
    }

    /// Reads the member that is next if it is one of shared memory's; whether it is.
    pub(super) fn shared_memory(
        &mut self,
        name: &[u8],
        shared: &mut SharedMemory,
    ) -> Result<bool, Failure> {
        let (number, name) = match name {
            b"shared_memory_region" if shared.region.is_none() => {
                shared.region = Some(self.string("shared_memory_region")?);
                return Ok(true);
            }
            b"shared_memory_offset" if shared.offset.is_none() => {
                (&mut shared.offset, "shared_memory_offset")
            }
            b"shared_memory_byte_size" if shared.size.is_none() => {
                (&mut shared.size, "shared_memory_byte_size")
            }
            _ => return Ok(false),
        };
        *number = Some(self.unsigned()?.ok_or_else(|| unable(name, NON_UNSIGNED))?);
        Ok(true)
    }
}

fn region_conflict(output: &RequestedOutput) -> Option<Error> {
    let other = match output {
        RequestedOutput {
            classification: 1..,
            ..
        } => "classification",
        RequestedOutput {
            form: Form::Binary, ..
        } => "binary_data",
        RequestedOutput {
            form: Form::Base64, ..
        } => "base64_data",
        _ => return None,
    };
    let text = format!("Output can't set both 'shared_memory_region' and '{other}'");
    Some(Error::invalid(text))
}

/// The parameters that name a part of shared memory, in whatever order they come.
#[derive(Default)]
pub(super) struct SharedMemory {
    pub(super) region: Option<ByteString>,
    offset: Option<u64>,
    size: Option<u64>,
}

impl SharedMemory {
    /// The part that they name, if they name one. Without a size it has none, as in Triton.
    pub(super) fn window(self) -> Option<Window> {
        Some(Window {
            region: self.region?,
            offset: self.offset.unwrap_or(0),
            size: self.size.unwrap_or(0),
        })
    }
}
