// SPDX-License-Identifier: Apache-2.0
//! Refusals over gRPC that no recording has.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use nerite_logic::DataType;
use nerite_logic::message::{Asked, InferResponse, Tensor};
use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::grpc::{encode_infer, parse_infer};

fn spec() -> ModelSpec {
    let io = r#"[{"name": "X", "data_type": "TYPE_INT32", "dims": [-1]}]"#;
    let config = format!(r#"{{"name": "m", "input": {io}, "output": {io}}}"#);
    ModelSpec::from_config_json(&config).unwrap()
}

#[test]
fn an_input_whose_data_comes_twice() {
    // inputs { name: "X" datatype: "INT32" shape: 1 contents { int_contents: 1 int64_contents: 1 } }
    let contents = b"\x2a\x04\x10\x01\x18\x01";
    let input = [b"\x0a\x01X\x12\x05INT32\x18\x01", contents.as_slice()].concat();
    let length = u8::try_from(input.len()).unwrap();
    let message = [&[0x2a, length], input.as_slice()].concat();
    let error = parse_infer(Bytes::from(message), &spec()).unwrap_err();
    assert_eq!(
        error.message,
        "unexpected explicit tensor data for input tensor 'X' for model 'm', binary data was already supplied."
    );
}

#[test]
fn an_answer_that_no_message_can_carry() {
    // Zeros that nobody touches: the machine keeps no page of them.
    let data = Bytes::from(vec![0; 1 << 31]);
    let shape = [1 << 29].into_iter().collect();
    let tensor = Tensor {
        name: "X".into(),
        datatype: DataType::Int32,
        shape,
        data,
    };
    let response = InferResponse {
        outputs: [tensor].into_iter().collect(),
        ..InferResponse::default()
    };
    let error = encode_infer(&spec(), "1", &Asked::default(), &response, &|_| None).unwrap_err();
    let length = error.message.split(' ').nth(4).unwrap();
    assert!(length.parse::<u64>().unwrap() > 1 << 31);
    assert_eq!(
        error.message,
        format!("Response has byte size {length} which exceeds gRPC's byte size limit 2147483647.")
    );
}
