// SPDX-License-Identifier: Apache-2.0
//! What passes, what does not, and who may share a batch.

use bytes::Bytes;

use super::*;
use crate::DataType;
use crate::message::RequestedOutput;

fn spec(json: &str) -> ModelSpec {
    ModelSpec::from_config_json(json).unwrap()
}

/// Batches up to 4: A FP32 [-1], optional B INT32 [2,-1], optional ragged R FP32 [-1], S BYTES [1].
fn full() -> ModelSpec {
    spec(
        r#"{"name": "m", "max_batch_size": 4, "input": [
            {"name": "A", "data_type": "TYPE_FP32", "dims": [-1]},
            {"name": "B", "data_type": "TYPE_INT32", "dims": [2, -1], "optional": true},
            {"name": "R", "data_type": "TYPE_FP32", "dims": [-1], "optional": true,
             "allow_ragged_batch": true},
            {"name": "S", "data_type": "TYPE_STRING", "dims": [1]}],
            "output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1]},
                       {"name": "P", "data_type": "TYPE_FP32", "dims": [1]}]}"#,
    )
}

fn tensor(name: &'static str, datatype: DataType, shape: &[i64], bytes: usize) -> Tensor {
    let data = Bytes::from(vec![0; bytes]);
    Tensor {
        name: name.into(),
        datatype,
        shape: shape.iter().copied().collect(),
        data,
    }
}

fn a(rows: i64, length: i64) -> Tensor {
    let bytes = usize::try_from(rows * length * 4).unwrap();
    tensor("A", DataType::Fp32, &[rows, length], bytes)
}

fn b(rows: i64, length: i64) -> Tensor {
    let bytes = usize::try_from(rows * 2 * length * 4).unwrap();
    tensor("B", DataType::Int32, &[rows, 2, length], bytes)
}

fn r(rows: i64, length: i64) -> Tensor {
    Tensor {
        name: "R".into(),
        ..a(rows, length)
    }
}

fn s(rows: i64) -> Tensor {
    tensor(
        "S",
        DataType::Bytes,
        &[rows, 1],
        usize::try_from(rows * 4).unwrap(),
    )
}

fn request(inputs: impl IntoIterator<Item = Tensor>) -> InferRequest {
    InferRequest {
        inputs: inputs.into_iter().collect(),
        ..InferRequest::default()
    }
}

fn refusal(spec: &ModelSpec, inputs: impl IntoIterator<Item = Tensor>) -> String {
    let error = check(&mut request(inputs), spec).unwrap_err();
    assert_eq!(error.code.http_status(), 400);
    error.message.into_owned()
}

fn admit(inputs: impl IntoIterator<Item = Tensor>) -> Admission {
    check(&mut request(inputs), &full()).unwrap()
}

#[test]
fn rows_are_the_batch_dimension_and_one_without_batching() {
    assert_eq!(admit([a(3, 5), s(3)]).rows, 3);
    let plain = spec(
        r#"{"name": "m", "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [-1, 2]}]}"#,
    );
    let admission = check(&mut request([a(3, 2)]), &plain).unwrap();
    assert_eq!(
        admission,
        Admission {
            rows: 1,
            key: BatchKey::new()
        }
    );
}

#[test]
fn keys_are_equal_exactly_if_the_requests_may_share_a_batch() {
    let key = |inputs: Vec<Tensor>| admit(inputs).key;
    let plain = key(vec![a(1, 5), s(1)]);
    assert_eq!(
        plain,
        key(vec![s(3), a(3, 5)]),
        "neither rows nor order matter"
    );
    let with_b = key(vec![a(1, 5), s(1), b(1, 7)]);
    assert_eq!(with_b, key(vec![b(2, 7), a(2, 5), s(2)]));
    let with_r = key(vec![a(1, 5), s(1), r(1, 3)]);
    assert_eq!(
        with_r,
        key(vec![a(1, 5), s(1), r(1, 9)]),
        "a ragged length does not matter"
    );
    let others = [
        plain,
        with_b,
        with_r,
        key(vec![a(1, 6), s(1)]),
        key(vec![a(1, 5), s(1), b(1, 8)]),
        key(vec![a(1, 5), s(1), b(1, 7), r(1, 3)]),
    ];
    for (index, one) in others.iter().enumerate() {
        assert!(!others[..index].contains(one), "{index}");
    }
}

#[test]
fn keys_are_empty_if_nothing_can_vary() {
    let fixed = spec(
        r#"{"name": "m", "max_batch_size": 4, "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [2]}]}"#,
    );
    assert!(
        check(&mut request([a(2, 2)]), &fixed)
            .unwrap()
            .key
            .is_empty()
    );
}

#[test]
fn refusals_say_what_triton_says() {
    let spec = full();
    let unknown = "[request id: <id_unknown>] ";
    for (inputs, text) in [
        (
            vec![a(1, 1), a(1, 1)],
            "input 'A' already exists in request",
        ),
        (
            vec![],
            "expected number of inputs between 2 and 4 but got 0 inputs for model 'm'. Got input(s) [], but \
             missing required input(s) ['A','S']. Please provide all required input(s).",
        ),
        // Triton only counts.
        (
            vec![a(1, 1), r(1, 1)],
            "expected number of inputs between 2 and 4 but got 2 inputs for model 'm'. Got input(s) \
             ['A','R'], but missing required input(s) ['S']. Please provide all required input(s).",
        ),
        (
            vec![tensor("A", DataType::Fp32, &[], 4), s(1)],
            "input 'A' has no shape but model requires batch dimension for 'm'",
        ),
        (
            vec![a(1, 1), s(2)],
            "input 'S' batch size does not match other inputs for 'm'",
        ),
        (
            vec![a(5, 1), s(5)],
            "inference request batch-size must be <= 4 for 'm'",
        ),
        (
            vec![tensor("A", DataType::Int32, &[1, 1], 4), s(1)],
            "inference input 'A' data-type is 'INT32', but model 'm' expects 'FP32'",
        ),
        (
            vec![tensor("A", DataType::Fp32, &[1, -1], 4), s(1)],
            "All input dimensions should be specified for input 'A' for model 'm', got [1,-1]",
        ),
        (
            vec![tensor("A", DataType::Fp32, &[1, -2], 4), s(1)],
            "input byte size mismatch for input 'A' for model 'm'. Expected -8, got 4",
        ),
        (
            vec![
                tensor("A", DataType::Fp32, &[-2, -2], 16),
                tensor("S", DataType::Bytes, &[-2, 1], 4),
            ],
            "All input dimensions should be specified for input 'A' for model 'm', got [-2,-2]",
        ),
        (
            vec![tensor("A", DataType::Fp32, &[1, 3], 8), s(1)],
            "input byte size mismatch for input 'A' for model 'm'. Expected 12, got 8",
        ),
        (
            vec![tensor("A", DataType::Fp32, &[0, 3], 0), s(0)],
            "input byte size mismatch for input 'A' for model 'm'. Expected 12, got 0",
        ),
        (
            vec![tensor("A", DataType::Fp32, &[0, 0], 0), s(0)],
            "inference request batch-size must be >= 1 for 'm'",
        ),
        (
            vec![a(1, 1), tensor("S", DataType::Bytes, &[1, 1], 8)],
            "unexpected number of string elements 2 for inference input 'S' for model 'm', expecting 1",
        ),
        (
            vec![a(1, 1), tensor("S", DataType::Bytes, &[1, 1], 0)],
            "expected 1 string elements for inference input 'S' for model 'm', got 0",
        ),
    ] {
        assert_eq!(refusal(&spec, inputs), format!("{unknown}{text}"));
    }
    let shape = refusal(&spec, [tensor("A", DataType::Fp32, &[3], 12), s(3)]);
    let expected =
        "unexpected shape for input 'A' for model 'm'. Expected [-1,-1], got [3]. NOTE: Setting";
    assert!(
        shape.starts_with(&format!("{unknown}{expected}")),
        "{shape}"
    );
    assert_eq!(
        refusal(&spec, [a(1, 1), tensor("Z", DataType::Fp32, &[1, 1], 4)]),
        "unexpected inference input 'Z' for model 'm'"
    );
}

#[test]
fn shapes_that_no_number_holds_are_refused() {
    let open = spec(
        r#"{"name": "m", "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [-1, -1]}]}"#,
    );
    for (shape, text) in [
        (
            [1 << 32, 1 << 32],
            "invalid shape for input 'A' for model 'm': [4294967296,4294967296] causes total element count \
             to exceed maximum size of 9223372036854775807",
        ),
        (
            [1, i64::MAX],
            "byte size overflow for input 'A' for model 'm': FP32 elements of shape \
             [1,9223372036854775807]",
        ),
    ] {
        let refused = refusal(&open, [tensor("A", DataType::Fp32, &shape, 4)]);
        assert_eq!(refused, format!("[request id: <id_unknown>] {text}"));
    }
}

#[test]
fn the_clients_id_is_in_the_text() {
    let mut request = InferRequest {
        id: "q7".into(),
        ..request([])
    };
    let error = check(&mut request, &full()).unwrap_err();
    assert!(
        error
            .message
            .starts_with("[request id: q7] expected number"),
        "{error}"
    );
}

#[test]
fn outputs_must_be_known_and_count_once() {
    let output = |name: &'static str| RequestedOutput {
        name: name.into(),
        ..Default::default()
    };
    let mut good = request([a(1, 1), s(1)]);
    good.outputs.extend(["P", "O", "P", "O", "O"].map(output));
    check(&mut good, &full()).unwrap();
    assert_eq!(good.outputs.to_vec(), ["P", "O"].map(output));
    let mut bad = request([]);
    bad.outputs.push(output("NOPE"));
    let error = check(&mut bad, &full()).unwrap_err();
    assert_eq!(
        error.message,
        "unexpected inference output 'NOPE' for model 'm'"
    );
}

#[test]
fn lists_have_limits() {
    let spec = full();
    let long = vec![1; MAX_DIMENSIONS + 1];
    let text = refusal(&spec, [tensor("A", DataType::Fp32, &long, 4), s(1)]);
    assert_eq!(
        text,
        "request for model 'm' has too many dimensions in one shape; at most 64 are accepted"
    );
    let many = vec![a(1, 1); MAX_TENSORS + 1];
    assert!(refusal(&spec, many).contains("too many inputs or outputs; at most 1024"));
}
