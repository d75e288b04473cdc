// SPDX-License-Identifier: Apache-2.0
//! The generate extension: a flat JSON object in place of tensors, both ways (`spec/triton.md` 1.11).
//!
//! A member with the name of an input becomes that tensor, its shape deduced; every other one a parameter
//! of the request. An answer is flat too, its members sorted by name.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

use super::data::Elements;
use super::request::{Parser, first};
use super::response::{self, value};
use super::{Failure, NON_STRING, unable};
use crate::check::{MAX_PARAMETERS, MAX_TENSORS, too_many};
use crate::error::Error;
use crate::message::{Form, InferRequest, InferResponse, Parameter, Shape, Tensor};
use crate::spec::{IoSpec, ModelSpec};
use crate::wire::json::write::string;
use crate::wire::json::{self, Kind};

/// The member that asks for base64 in the answer.
const BASE64: &str = "base64_data_output";

/// Reads a generate request.
///
/// # Errors
/// If it is none, in Triton's words; always the client's mistake.
pub fn parse_generate(body: &Bytes, spec: &ModelSpec) -> Result<InferRequest, Error> {
    let mut request = InferRequest::default();
    let mut parser = Parser::new(body, body, false, spec);
    let read = parser.generate(&mut request);
    read.map_err(|failure| failure.told(body))?;
    // Triton makes nothing of it here; the model is told all the same, as it is there.
    let asked = request
        .parameters
        .iter()
        .find_map(|parameter| match parameter {
            (name, Parameter::Int(level)) if *name == "priority" => u64::try_from(*level).ok(),
            _ => None,
        });
    request.control.priority = asked.unwrap_or(0);
    Ok(request)
}

impl Parser<'_> {
    fn generate(&mut self, request: &mut InferRequest) -> Result<(), Failure> {
        if self.json.kind() != Kind::Object {
            json::validate(self.body)?;
            return Err(Error::invalid("attempt to get members for non-object").into());
        }
        self.flat_members(request, true)?;
        Ok(self.json.end()?)
    }

    /// The members of the object that is next; those of `parameters` are treated like its own.
    fn flat_members(&mut self, request: &mut InferRequest, outer: bool) -> Result<(), Failure> {
        self.json.enter();
        let (mut start, mut nested, mut named) = (true, false, false);
        while let Some(name) = self.json.member(&mut start)? {
            match name.bytes() {
                b"parameters" if outer => {
                    if !first(&mut nested) {
                        self.json.skip()?;
                    } else if self.json.kind() == Kind::Object {
                        self.flat_members(request, false)?;
                    } else {
                        let text = "Expected JSON object for keyword: 'parameters'";
                        return Err(Error::invalid(text).into());
                    }
                    continue;
                }
                b"id" if outer && first(&mut named) => {
                    if self.json.kind() != Kind::String {
                        return Err(unable("id", NON_STRING).into());
                    }
                    let at = self.json.position();
                    request.id = self.string("id")?;
                    // It goes to the model as well, as whatever it is there.
                    self.json.seek(at);
                }
                _ => {}
            }
            if name.bytes() == BASE64.as_bytes() {
                request.default_form = Form::Json;
                self.form(&mut request.default_form, Form::Base64, BASE64)?;
                continue;
            }
            let name = name.keep(self.body)?;
            self.flat_member(name, request)?;
        }
        Ok(())
    }

    fn flat_member(&mut self, name: ByteString, request: &mut InferRequest) -> Result<(), Failure> {
        // Of equal names the first counts.
        let known = request.inputs.iter().any(|tensor| tensor.name == name)
            || request.parameters.iter().any(|(known, _)| *known == name);
        if known {
            return Ok(self.json.skip()?);
        }
        if request.parameters.len() >= MAX_PARAMETERS || request.inputs.len() >= MAX_TENSORS {
            return Err(too_many("members", MAX_PARAMETERS, self.spec).into());
        }
        if let Some((_, declared)) = self.spec.input(&name) {
            let tensor = self.flat_tensor(declared)?;
            request.inputs.push(tensor);
        } else {
            let value = self.value(&name)?;
            request.parameters.push((name, value));
        }
        Ok(())
    }

    fn flat_tensor(&mut self, declared: &IoSpec) -> Result<Tensor, Failure> {
        let elements = match self.json.kind() {
            Kind::Array => self.elements(&declared.name, declared.datatype, 0)?,
            _ => self.scalar(declared)?,
        };
        let mut shape: Shape = declared.dims.iter().copied().collect();
        if self.spec.batches() {
            shape.insert(0, -1);
        }
        if !distribute(&mut shape, elements.count) {
            return Err(Error::invalid(format!(
                "The schema can not convert input '{}' to tensor with proper shape",
                declared.name
            ))
            .into());
        }
        Ok(Tensor {
            name: declared.name.clone(),
            datatype: declared.datatype,
            shape,
            data: elements.bytes.into(),
        })
    }

    /// A value that is no array is the only element of one.
    fn scalar(&mut self, declared: &IoSpec) -> Result<Elements, Failure> {
        let from = self.json.position();
        self.json.skip()?;
        let value = &self.json.bytes()[from..self.json.position()];
        let array = Bytes::from([b"[", value, b"]"].concat());
        Parser::new(&array, &array, false, self.spec).elements(&declared.name, declared.datatype, 1)
    }
}

/// Gives the innermost variable dimension what the fixed ones leave of `count` elements, all others 1;
/// whether that comes out even.
fn distribute(shape: &mut Shape, count: usize) -> bool {
    let Ok(mut left) = i64::try_from(count) else {
        return false;
    };
    for dim in shape.iter().filter(|dim| **dim != -1) {
        if *dim == 0 || left % dim != 0 {
            return false;
        }
        left /= dim;
    }
    for dim in shape.iter_mut().rev().filter(|dim| **dim == -1) {
        *dim = std::mem::replace(&mut left, 1);
    }
    left == 1
}

/// Writes an answer as a flat object.
///
/// # Errors
/// If an output cannot be written as JSON, or has not the size that its shape says.
pub fn encode_generated(
    spec: &ModelSpec,
    version: &str,
    id: &str,
    response: &InferResponse,
    form: Form,
) -> Result<Bytes, Error> {
    enum Member<'a> {
        Text(&'a str),
        Value(&'a Parameter),
        Tensor(&'a Tensor),
    }
    let mut members: Vec<(Cow<'_, str>, Member<'_>)> = Vec::with_capacity(4);
    if !id.is_empty() {
        members.push(("id".into(), Member::Text(id)));
    }
    members.push(("model_name".into(), Member::Text(&spec.name)));
    members.push(("model_version".into(), Member::Text(version)));
    for tensor in &response.outputs {
        members.push((Cow::Borrowed(&tensor.name), Member::Tensor(tensor)));
    }
    for (name, value) in &response.parameters {
        members.push((Cow::Borrowed(name), Member::Value(value)));
    }
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    members.dedup_by(|(later, _), (earlier, _)| later == earlier);
    let mut out = Vec::with_capacity(response::capacity(response));
    for (name, member) in &members {
        out.push(if out.is_empty() { b'{' } else { b',' });
        string(&mut out, name.as_bytes());
        out.push(b':');
        match member {
            Member::Text(text) => string(&mut out, text.as_bytes()),
            Member::Value(parameter) => value(&mut out, parameter),
            Member::Tensor(tensor) => flat_output(&mut out, tensor, form)?,
        }
    }
    out.push(b'}');
    Ok(out.into())
}

/// A tensor as an array of its elements, or as its only element.
fn flat_output(out: &mut Vec<u8>, tensor: &Tensor, form: Form) -> Result<(), Error> {
    let single = crate::check::element_count(&tensor.shape) == Some(1);
    if !single {
        out.push(b'[');
    }
    response::data(out, tensor, form)?;
    if out.last() == Some(&b',') {
        out.pop();
    }
    if !single {
        out.push(b']');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataType;

    fn model(batch: u32) -> ModelSpec {
        let config = format!(
            r#"{{"name": "m", "max_batch_size": {batch}, "input": [
                {{"name": "text", "data_type": "TYPE_STRING", "dims": [1]}},
                {{"name": "grid", "data_type": "TYPE_INT32", "dims": [-1, 2, -1]}}]}}"#
        );
        ModelSpec::from_config_json(&config).unwrap()
    }

    fn parse(text: &'static str, batch: u32) -> Result<InferRequest, Error> {
        parse_generate(&Bytes::from_static(text.as_bytes()), &model(batch))
    }

    #[test]
    fn members_are_inputs_or_parameters_wherever_they_stand() {
        let request = parse(
            r#" {"text": "hi \u00e9", "id": "7", "top": 2, "parameters": {"grid": [1, 2, 3, 4], "b": false,
                "top": 9}, "d": 0.5, "text": "not this"} "#,
            0,
        )
        .unwrap();
        assert_eq!(request.id, "7");
        let inputs: Vec<_> = request
            .inputs
            .iter()
            .map(|i| (&*i.name, &i.shape[..]))
            .collect();
        assert_eq!(inputs, [("text", &[1][..]), ("grid", &[1, 2, 2])]);
        assert_eq!(request.inputs[0].data, b"\x05\0\0\0hi \xc3\xa9".as_slice());
        let named = |name: &str| {
            let found = request.parameters.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(named("id"), Some(Parameter::String("7".into())));
        assert_eq!(named("top"), Some(Parameter::Int(2)));
        assert_eq!(named("b"), Some(Parameter::Bool(false)));
        assert_eq!(named("d"), Some(Parameter::Double(0.5)));
        assert_eq!(request.parameters.len(), 4);
    }

    #[test]
    fn shapes_are_deduced_from_the_number_of_elements() {
        for (text, batch, shape) in [
            (r#"{"grid": [1, 2]}"#, 0, Some(&[1, 2, 1][..])),
            (r#"{"grid": [1, 2, 3, 4, 5, 6]}"#, 4, Some(&[1, 1, 2, 3])),
            (r#"{"grid": [1, 2, 3]}"#, 0, None),
            (r#"{"grid": 1}"#, 0, None),
            (r#"{"text": []}"#, 0, None),
            (r#"{"text": ["a", "b"]}"#, 4, Some(&[2, 1])),
        ] {
            match (parse(text, batch), shape) {
                (Ok(request), Some(shape)) => assert_eq!(&request.inputs[0].shape[..], shape),
                (Err(error), None) => assert!(error.message.contains("proper shape"), "{text}"),
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, message) in [
            (
                "",
                "failed to parse the request JSON buffer: The document is empty. at 0",
            ),
            ("[1]", "attempt to get members for non-object"),
            (
                "[1",
                "failed to parse the request JSON buffer: Missing a comma or ']' after an array element. at 2",
            ),
            (
                r#"{"text": 5}"#,
                "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
            ),
            (
                r#"{"id": 5}"#,
                "Unable to parse 'id': attempt to access JSON non-string as string",
            ),
            (
                r#"{"parameters": 5}"#,
                "Expected JSON object for keyword: 'parameters'",
            ),
            (
                r#"{"list": [5]} x"#,
                "failed to parse the request JSON buffer: The document root must not be followed by other \
                 values. at 14",
            ),
            (
                r#"{"grid": 3000000000}"#,
                "value 3000000000 of input 'grid' for model 'm' is out of range for INT32, which holds -2147483648 to 2147483647",
            ),
        ] {
            assert_eq!(parse(text, 0).unwrap_err().message, message, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_come_and_go_as_base64() {
        let request = parse(
            r#"{"text": {"b64": "/wA"}, "parameters": {"base64_data_output": true}}"#,
            0,
        )
        .unwrap();
        assert_eq!(request.inputs[0].data, b"\x02\0\0\0\xff\0".as_slice());
        assert_eq!(
            (request.default_form, request.parameters.len()),
            (Form::Base64, 0)
        );
        let response = InferResponse {
            outputs: request.inputs.clone(),
            ..InferResponse::default()
        };
        let told = |form| encode_generated(&model(0), "1", "", &response, form).unwrap();
        let (binary, base64) = (told(Form::Json), told(Form::Base64));
        assert!(binary.ends_with(b"\"text\":\"\xff\\u0000\"}"));
        assert!(base64.ends_with(b"\"text\":{\"b64\":\"/wA=\"}}"));
    }

    #[test]
    fn an_answer_is_flat_and_sorted() {
        let tensor = |name: &'static str, shape: &[i64], data: &'static [u8]| Tensor {
            name: ByteString::from_static(name),
            datatype: DataType::Uint8,
            shape: Shape::from_slice(shape),
            data: Bytes::from_static(data),
        };
        let response = InferResponse {
            parameters: vec![("also".into(), Parameter::Bool(true))],
            outputs: [tensor("z", &[1, 1], b"\x07"), tensor("Y", &[0], b"")].into(),
        };
        let text = encode_generated(&model(0), "3", "i\"d", &response, Form::Json).unwrap();
        assert_eq!(
            text,
            r#"{"Y":[],"also":true,"id":"i\"d","model_name":"m","model_version":"3","z":7}"#
        );
    }
}
