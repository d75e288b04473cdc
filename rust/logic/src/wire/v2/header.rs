// SPDX-License-Identifier: Apache-2.0
//! Where the JSON ends and the bytes begin, and requests that are nothing but bytes.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::smallvec;

use super::request::Parser;
use crate::DataType;
use crate::check::{self, size, with_id};
use crate::error::Error;
use crate::message::{Form, InferRequest, Shape, Tensor};
use crate::spec::{IoSpec, ModelSpec};

/// Reads the value of `Inference-Header-Content-Length` for a body of `content_length` bytes.
///
/// # Errors
/// If it is not a number or more than the body has.
pub fn parse_header_length(text: &[u8], content_length: usize) -> Result<usize, Error> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::invalid(format!(
            "Unable to parse Inference-Header-Content-Length, got: {}",
            String::from_utf8_lossy(text)
        )));
    }
    let length = str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    length
        .filter(|length| *length <= content_length)
        .ok_or_else(|| outside(text, content_length))
}

#[cold]
fn outside(text: &[u8], content_length: usize) -> Error {
    Error::invalid(format!(
        "inference header size should be in range (0, {content_length}), got: {}",
        String::from_utf8_lossy(text)
    ))
}

/// Reads an infer request.
///
/// `header_length` is the value of `Inference-Header-Content-Length`: `None` if the header was not sent,
/// so that all of `body` is JSON; 0 for the bytes of the model's only input.
///
/// # Errors
/// If it is not a request, in Triton's words.
pub fn parse_request(
    body: &Bytes,
    header_length: Option<usize>,
    spec: &ModelSpec,
) -> Result<InferRequest, Error> {
    let length = match header_length {
        Some(0) => return raw(body, spec),
        None if body.is_empty() => return raw(body, spec),
        Some(length) => length,
        None => body.len(),
    };
    let Some(text) = body.get(..length) else {
        return Err(outside(length.to_string().as_bytes(), body.len()));
    };
    let read = Parser::new(body, text, header_length.is_some(), spec).request();
    read.map_err(|failure| failure.told(text))
}

/// A request without JSON: the body is the only input, its shape is deduced, all outputs are bytes.
fn raw(body: &Bytes, spec: &ModelSpec) -> Result<InferRequest, Error> {
    let [input] = &spec.inputs[..] else {
        let text = format!(
            "Raw request must only have 1 input (found 1) to be deduced but got {} inputs in '{}' model \
             configuration",
            spec.inputs.len(),
            spec.name
        );
        return Err(with_id("", &text));
    };
    let mut shape: Shape = input.dims.iter().copied().collect();
    let data = match input.datatype.size() {
        None => one_string(body, input)?,
        Some(size) => {
            deduce(&mut shape, input, body.len() / size)?;
            // Triton calls the input otherwise here than everywhere else.
            let bytes = check::byte_size(input.datatype, &shape).unwrap_or(i64::MAX);
            if usize::try_from(bytes) != Ok(body.len()) {
                return Err(size::mismatch("", spec, "raw_input", bytes, body.len()));
            }
            body.clone()
        }
    };
    if spec.batches() {
        shape.insert(0, 1);
    }
    let (name, datatype) = (input.name.clone(), input.datatype);
    let inputs = smallvec![Tensor {
        name,
        datatype,
        shape,
        data
    }];
    Ok(InferRequest {
        inputs,
        default_form: Form::Binary,
        ..InferRequest::default()
    })
}

/// Gives the only variable dimension, if there is one, its share of `elements`.
fn deduce(shape: &mut Shape, input: &IoSpec, elements: usize) -> Result<(), Error> {
    let mut open = shape
        .iter()
        .enumerate()
        .filter(|(_, dim)| **dim == -1)
        .map(|(index, _)| index);
    let Some(place) = open.next() else {
        return Ok(());
    };
    if open.next().is_some() {
        let text = format!(
            "The shape of the raw input '{}' can not be deduced because there are more than one \
             variable-sized dimension",
            input.name
        );
        return Err(with_id("", &text));
    }
    shape[place] = 1;
    let rest = check::element_count(shape).unwrap_or(i64::MAX);
    shape[place] = i64::try_from(elements)
        .unwrap_or(i64::MAX)
        .checked_div(rest)
        .unwrap_or(0);
    Ok(())
}

/// The body as the only BYTES element.
fn one_string(body: &Bytes, input: &IoSpec) -> Result<Bytes, Error> {
    debug_assert_eq!(input.datatype, DataType::Bytes);
    if check::element_count(&input.dims) != Some(1) {
        let text = format!(
            "For BYTE datatype raw input '{}', the model must have input shape [1]",
            input.name
        );
        return Err(with_id("", &text));
    }
    let length = u32::try_from(body.len())
        .map_err(|_| Error::invalid(format!("raw input '{}' is longer than 4 GiB", input.name)))?;
    let mut data = BytesMut::with_capacity(4 + body.len());
    data.put_u32_le(length);
    data.put_slice(body);
    Ok(data.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lengths_are_numbers_within_the_body() {
        for (text, read) in [
            ("0", Ok(0)),
            (" 83 ", Ok(83)),
            ("007", Ok(7)),
            (
                "84",
                Err("inference header size should be in range (0, 83), got: 84"),
            ),
            (
                "999999",
                Err("inference header size should be in range (0, 83), got: 999999"),
            ),
            (
                "-1",
                Err("inference header size should be in range (0, 83), got: -1"),
            ),
            (
                "99999999999999999999999",
                Err(
                    "inference header size should be in range (0, 83), got: 99999999999999999999999",
                ),
            ),
            (
                "x",
                Err("Unable to parse Inference-Header-Content-Length, got: x"),
            ),
            (
                "12.5",
                Err("Unable to parse Inference-Header-Content-Length, got: 12.5"),
            ),
            (
                "",
                Err("Unable to parse Inference-Header-Content-Length, got: "),
            ),
            (
                "-",
                Err("Unable to parse Inference-Header-Content-Length, got: -"),
            ),
            (
                "+5",
                Err("Unable to parse Inference-Header-Content-Length, got: +5"),
            ),
        ] {
            let result = parse_header_length(text.as_bytes(), 83);
            assert_eq!(
                result.as_ref().map_err(|error| &*error.message),
                read.as_ref().map_err(|e| *e)
            );
        }
    }

    fn model(dims: &str, datatype: &str, batch: u32) -> ModelSpec {
        let input =
            format!(r#"[{{"name": "X", "data_type": "TYPE_{datatype}", "dims": [{dims}]}}]"#);
        let config = format!(r#"{{"name": "m", "max_batch_size": {batch}, "input": {input}}}"#);
        ModelSpec::from_config_json(&config).unwrap()
    }

    #[test]
    fn the_shape_of_a_raw_request_is_deduced() {
        for (dims, batch, length, shape) in [
            ("3", 0, 12, Ok(&[3][..])),
            ("-1", 0, 12, Ok(&[3])),
            ("-1", 4, 0, Ok(&[1, 0])),
            ("2,-1,3", 4, 48, Ok(&[1, 2, 2, 3])),
            ("2,-1", 0, 12, Err("Expected 8, got 12")),
            ("0,-1", 0, 12, Err("Expected 0, got 12")),
            ("3", 0, 8, Err("Expected 12, got 8")),
            (
                "4294967296,4294967296",
                0,
                8,
                Err("Expected 9223372036854775807, got 8"),
            ),
        ] {
            let body = Bytes::from(vec![0; length]);
            match (
                parse_request(&body, Some(0), &model(dims, "FP32", batch)),
                shape,
            ) {
                (Ok(request), Ok(shape)) => {
                    assert_eq!(request.inputs[0].shape[..], *shape, "{dims}");
                    assert_eq!(request.inputs[0].data.as_ptr(), body.as_ptr());
                    assert_eq!(request.default_form, Form::Binary);
                }
                (Err(error), Err(end)) => assert!(error.message.ends_with(end), "{dims}: {error}"),
                (result, _) => panic!("{dims}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_raw_string_gets_its_length_before_it() {
        let read = |dims, body: &'static [u8]| {
            parse_request(
                &Bytes::from_static(body),
                Some(0),
                &model(dims, "STRING", 4),
            )
        };
        let request = read("1", b"hello").unwrap();
        assert_eq!(request.inputs[0].data, b"\x05\0\0\0hello".as_slice());
        assert_eq!(request.inputs[0].shape[..], [1, 1]);
        for dims in ["-1", "2"] {
            let error = read(dims, b"hello").unwrap_err();
            assert!(
                error
                    .message
                    .ends_with("the model must have input shape [1]"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_empty_body_is_a_raw_request_too() {
        let request = parse_request(&Bytes::new(), None, &model("-1", "FP32", 0)).unwrap();
        assert_eq!(request.inputs[0].shape[..], [0]);
    }
}
