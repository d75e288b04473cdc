// SPDX-License-Identifier: Apache-2.0
//! Infer requests over HTTP: the JSON, and the bytes behind it.

use bytes::Bytes;
use nerite_logic::check::check;
use nerite_logic::message::{Asked, Form, InferRequest, InferResponse, RequestedOutput, Tensor};
use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::v2::{encode_response, parse_header_length, parse_request};
use nerite_logic::{DataType, Error};

use crate::hunt::{Random, hunt};
use crate::memory::most;
use crate::seeds;

const SPOILERS: [&[u8]; 36] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\u00",
    b"\\ud800",
    b"\"inputs\":[",
    b"\"outputs\":[",
    b"\"name\":\"INPUT0\",",
    b"\"name\":\"OUTPUT0\",",
    b"\"datatype\":\"BYTES\",",
    b"\"datatype\":\"INT8\",",
    b"\"datatype\":\"BF16\",",
    b"\"shape\":[1,",
    b"\"shape\":[9223372036854775807],",
    b"\"data\":[",
    b"\"parameters\":{",
    b"\"binary_data_size\":4,",
    b"\"binary_data_size\":18446744073709551615,",
    b"\"classification\":4294967296,",
    b"\"id\":\"x\",",
    b"null",
    b"true",
    b"-0.0",
    b"1e400",
    b"NaN",
    b"\xef\xbb\xbf",
    b"\xff\xff\xff\xff",
    b"\x04\0\0\0abcd",
    b"{\"b64\":\"gAAB\"},",
    b"\"base64_data\":true,",
    b"[[[[[[[[[[[[[[[[",
    b"{\"inputs\":[],",
];

/// Bytes that a byte of the body may cost, and what every body may.
const PER_BYTE: usize = 24;
const ANY: usize = 32 << 10;

fn read(body: &Bytes, length: Option<usize>, spec: &ModelSpec) -> Result<InferRequest, Error> {
    let (read, bytes) = most(|| {
        let mut request = parse_request(body, length, spec)?;
        check(&mut request, spec).map(|_| request)
    });
    assert!(
        bytes <= PER_BYTE * body.len() + ANY,
        "{bytes} bytes for {}",
        body.len()
    );
    read
}

/// Writes `tensors` as an answer, which is nearly a request: its outputs are called inputs there.
fn written(spec: &ModelSpec, tensors: &[Tensor], form: Form) -> (Bytes, Option<usize>) {
    let response = InferResponse {
        outputs: tensors.iter().cloned().collect(),
        ..InferResponse::default()
    };
    let asked = Asked {
        default_form: form,
        ..Asked::default()
    };
    let answer = encode_response(spec, "1", &asked, &response, &|_| None).unwrap();
    let mut bytes = answer.head.to_vec();
    bytes.extend(answer.tail.iter().flatten());
    let place = bytes
        .windows(10)
        .position(|word| word == b"\"outputs\":")
        .unwrap();
    bytes.splice(place..place + 9, *b"\"inputs\"");
    (bytes.into(), answer.header_length.map(|length| length - 1))
}

/// What was understood is understood again, and alike, after it was written in any form.
fn again(spec: &ModelSpec, request: &InferRequest) {
    // Triton's JSON strings carry any bytes; as text they come back only if they were text.
    for form in [Form::Binary, Form::Json, Form::Base64] {
        let (body, length) = written(spec, &request.inputs, form);
        let read = read(&body, length, spec).unwrap();
        assert_eq!(read.inputs.len(), request.inputs.len());
        for (one, other) in request.inputs.iter().zip(&read.inputs) {
            assert_eq!(
                (&one.name, one.datatype, &one.shape),
                (&other.name, other.datatype, &other.shape)
            );
            let float = matches!(
                one.datatype,
                DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64
            );
            let boolean = one.datatype == DataType::Bool;
            assert!(
                one.data == other.data || form != Form::Binary && (float || boolean),
                "{one:?} {other:?}"
            );
        }
    }
}

/// Asks for as many classes as there are bytes to say so.
fn classes(spec: &ModelSpec, request: &InferRequest, random: &mut Random) {
    let outputs = request.inputs.iter().map(|tensor| Tensor {
        name: "OUTPUT0".into(),
        ..tensor.clone()
    });
    let response = InferResponse {
        outputs: outputs.collect(),
        ..InferResponse::default()
    };
    let classification = u32::try_from(random.next() >> 32).unwrap() >> random.below(32);
    let output = RequestedOutput {
        name: "OUTPUT0".into(),
        form: Form::Binary,
        classification,
        window: None,
    };
    let asked = Asked {
        outputs: [output].into_iter().collect(),
        ..Asked::default()
    };
    let sent: usize = request.inputs.iter().map(|tensor| tensor.data.len()).sum();
    let (_, bytes) = most(|| encode_response(spec, "1", &asked, &response, &|_| None));
    // One class of an INT8 takes some 30 bytes of text.
    assert!(bytes <= 400 * sent + ANY, "{bytes} bytes for {sent}");
}

#[test]
fn any_body_is_a_request_or_refused() {
    let models: Vec<_> = DataType::ALL
        .into_iter()
        .flat_map(|datatype| [true, false].map(|batches| seeds::model(datatype, batches)))
        .collect();
    hunt("bodies", seeds::bodies(), &SPOILERS, |body, random| {
        let spec = random.one(&models);
        let length = match random.below(4) {
            0 => Some(random.below(body.len() + 2)),
            1 => body
                .iter()
                .rposition(|byte| *byte == b'}')
                .map(|last| last + 1),
            _ => None,
        };
        match read(&Bytes::copy_from_slice(body), length, spec) {
            Ok(request) => {
                again(spec, &request);
                classes(spec, &request, random);
                format!(
                    "{:?} {} {:?}",
                    request.inputs.first().map(|t| t.datatype),
                    request.outputs.len(),
                    request.default_form
                )
            }
            Err(error) => error.message.into_owned(),
        }
    });
}

#[test]
fn tensors_are_split_at_the_sizes_that_were_sent_and_nowhere_else() {
    let models: Vec<_> = DataType::ALL
        .into_iter()
        .map(|datatype| seeds::model(datatype, true))
        .collect();
    let seeds = (0..64_u8).map(|size| (0..size).collect()).collect();
    hunt("splits", seeds, &SPOILERS, |bytes, random| {
        let spec = random.one(&models);
        let datatype = spec.inputs[0].datatype;
        let claimed = if random.below(2) == 0 {
            bytes.len()
        } else {
            random.below(2 * bytes.len() + 2)
        };
        let columns = claimed / datatype.size().unwrap_or(5);
        let json = format!(
            r#"{{"inputs":[{{"name":"INPUT0","datatype":"{}","shape":[1,{columns}],"parameters":{{"binary_data_size":{claimed}}}}}]}}"#,
            datatype.name()
        );
        let body = Bytes::from([json.as_bytes(), bytes].concat());
        match read(&body, Some(json.len()), spec) {
            Ok(request) => {
                assert_eq!((claimed, &*request.inputs[0].data), (bytes.len(), bytes));
                again(spec, &request);
                format!("{datatype:?}")
            }
            Err(error) => {
                let message = error.message.into_owned();
                assert!(
                    claimed != bytes.len()
                        || datatype == DataType::Bytes
                        || columns * datatype.size().unwrap() != claimed,
                    "{message}"
                );
                message
            }
        }
    });
}

#[test]
fn any_header_length_is_within_the_body_or_refused() {
    let seeds = [
        b"0".to_vec(),
        b"83".to_vec(),
        b"-1".to_vec(),
        b" 7 ".to_vec(),
        b"12.5".to_vec(),
    ];
    hunt(
        "header lengths",
        seeds.to_vec(),
        &[b"9999999999999999999999", b"-", b"+", b"\xff", b" "],
        |text, random| {
            let length = random.below(100);
            match parse_header_length(text, length) {
                Ok(read) => {
                    assert!(read <= length);
                    "within".into()
                }
                Err(error) => error.message.into_owned(),
            }
        },
    );
}
