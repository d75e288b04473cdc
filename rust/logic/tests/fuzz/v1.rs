// SPDX-License-Identifier: Apache-2.0
//! Requests of KServe's V1 protocol: rows to tensors, and back to the rows that they were.

use bytes::Bytes;
use nerite_logic::check::check;
use nerite_logic::message::{Form, InferResponse, Tensor};
use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::v1::{encode_predictions, parse_predict, unwrap_event};

use crate::hunt::hunt;
use crate::memory::most;

const SEEDS: [&[u8]; 10] = [
    br#"{"instances": [[1, 2.5], [3e1, -4]]}"#,
    br#"{"instances": [{"A": [1, 2], "B": "x"}, {"B": "y", "A": [3, 4]}], "top": 5}"#,
    br#"{"inputs": {"A": [[1, 2], [3, 4]], "B": ["x", "\u00e9"]}, "d": 0.5, "s": "t", "b": true}"#,
    br#"{"instances": [1, 2, 3]}"#,
    br#"{"instances": ["a", ["b"]], "instances": [["a"], ["b"]]}"#,
    br#"{"instances": [[[[[1]]]], [[]], []]}"#,
    br#"{"specversion": "1.0", "id": "1", "source": "x", "type": "t", "data": {"instances": [[1, 2]]}}"#,
    br#"{"instances": [{"b64": "//8A"}, {"b64": ""}], "base64_data_output": true}"#,
    br#"{"instances": [{"A": [1, 2], "B": {"b64": "AA=="}}, {"B": ["y"], "A": [3, 4]}]}"#,
    br#"{"instances": [[-9223372036854775808, 18446744073709551615]], "x": null, "y": {"z": [1]}}"#,
];

const SPOILERS: [&[u8]; 21] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\"A\":",
    b"\"B\":",
    b"\"instances\":",
    b"\"inputs\":",
    b"{\"b64\": \"gAAB\"}",
    b"NaN",
    b"-Inf",
    b"1e400",
    b"null",
    b"true",
    b"\xff",
    b"\\ud800",
    b"[[[[[[[[[[[[[[[[",
    b"[[],[],[],[],[]],",
];

/// Bytes that a byte of the body may cost, and what every body may.
const PER_BYTE: usize = 24;
const ANY: usize = 32 << 10;

fn models() -> Vec<ModelSpec> {
    let configs = [
        r#"{"name": "two", "max_batch_size": 8, "input": [
            {"name": "A", "data_type": "TYPE_INT64", "dims": [2]},
            {"name": "B", "data_type": "TYPE_STRING", "dims": [1], "optional": true}], "output": [
            {"name": "A", "data_type": "TYPE_INT64", "dims": [2]},
            {"name": "B", "data_type": "TYPE_STRING", "dims": [1]}]}"#,
        r#"{"name": "one", "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [-1]}],
            "output": [{"name": "A", "data_type": "TYPE_FP32", "dims": [-1]}]}"#,
        r#"{"name": "text", "max_batch_size": 8, "input": [
            {"name": "B", "data_type": "TYPE_STRING", "dims": [-1]}],
            "output": [{"name": "B", "data_type": "TYPE_STRING", "dims": [-1]}]}"#,
        r#"{"name": "truth", "max_batch_size": 8, "input": [
            {"name": "A", "data_type": "TYPE_BOOL", "dims": [-1, -1]}],
            "output": [{"name": "A", "data_type": "TYPE_BOOL", "dims": [-1, -1]}]}"#,
    ];
    let read = |config: &&str| ModelSpec::from_config_json(config).unwrap();
    configs.iter().map(read).collect()
}

/// The answer of a model that answers what it is asked, as a request.
fn echoed(spec: &ModelSpec, inputs: &[Tensor], alone: bool, form: Form) -> Option<Bytes> {
    let response = InferResponse {
        outputs: inputs.iter().cloned().collect(),
        ..InferResponse::default()
    };
    let answer = match encode_predictions(spec, &response, alone, form) {
        Ok(answer) => answer,
        Err(why) => {
            // As text, bytes that are none are refused.
            assert!(
                form == Form::Json && why.message.contains("not UTF-8"),
                "{why:?}"
            );
            return None;
        }
    };
    let text = String::from_utf8(answer.to_vec()).unwrap();
    // Strict JSON, which serde reads.
    let _: serde_json::Value = serde_json::from_str(&text).unwrap();
    let member = if text.starts_with(r#"{"predictions":{"#) {
        "inputs"
    } else {
        "instances"
    };
    Some(text.replacen("predictions", member, 1).into())
}

#[test]
fn rows_are_understood_again_after_they_were_written() {
    let models = models();
    let seeds = SEEDS.iter().map(|seed| seed.to_vec()).collect();
    hunt("v1", seeds, &SPOILERS, |text, _| {
        let body = Bytes::copy_from_slice(text);
        let body = unwrap_event(&body).unwrap_or(body);
        let mut word = String::new();
        for spec in &models {
            let (read, bytes) = most(|| {
                let mut predict = parse_predict(&body, spec)?;
                check(&mut predict.request, spec).map(|_| predict)
            });
            assert!(
                bytes <= PER_BYTE * body.len() + ANY,
                "{bytes} bytes for {}",
                body.len()
            );
            match read {
                Ok(predict) => {
                    let was = &predict.request.inputs;
                    for form in [Form::Json, Form::Base64] {
                        let Some(again) = echoed(spec, was, predict.alone, form) else {
                            continue;
                        };
                        let read = parse_predict(&again, spec).unwrap();
                        let is = &read.request.inputs;
                        assert_eq!(was, is, "{}", String::from_utf8_lossy(&again));
                    }
                    word.push_str("ok");
                }
                Err(why) => word.extend(why.message.chars().filter(char::is_ascii_alphabetic)),
            }
        }
        word
    });
}
