// SPDX-License-Identifier: Apache-2.0
//! What must hold for every request: nothing panics, and what was written can be read back.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use nerite_logic::DataType;
use nerite_logic::check::check;
use nerite_logic::message::{
    Asked, CorrelationId, Form, InferRequest, InferResponse, Parameter, RequestedOutput, Tensor,
};
use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::v2::{Answer, encode_error, encode_response, parse_request};
use proptest::prelude::*;

fn spec(datatype: DataType) -> ModelSpec {
    let name = if datatype == DataType::Bytes {
        "STRING"
    } else {
        datatype.name()
    };
    let io = format!(r#"[{{"name": "X", "data_type": "TYPE_{name}", "dims": [-1]}}]"#);
    let config = format!(r#"{{"name": "m", "max_batch_size": 8, "input": {io}, "output": {io}}}"#);
    ModelSpec::from_config_json(&config).unwrap()
}

/// A tensor of any type, with any values.
fn tensors() -> impl Strategy<Value = Tensor> {
    let datatypes = prop::sample::select(DataType::ALL.to_vec());
    (datatypes, 1..4_i64, 0..5_i64).prop_flat_map(|(datatype, rows, columns)| {
        let count = usize::try_from(rows * columns).unwrap();
        let data: BoxedStrategy<Vec<u8>> = match datatype.size() {
            Some(size) => prop::collection::vec(any::<u8>(), count * size)
                .prop_map(move |bytes| match datatype {
                    DataType::Bool => bytes.iter().map(|byte| byte & 1).collect(),
                    _ => bytes,
                })
                .boxed(),
            None => prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), count)
                .prop_map(|elements| {
                    let each = |bytes: Vec<u8>| {
                        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
                        [length.to_vec(), bytes].concat()
                    };
                    elements.into_iter().flat_map(each).collect()
                })
                .boxed(),
        };
        data.prop_map(move |data| Tensor {
            name: "X".into(),
            datatype,
            shape: [rows, columns].into_iter().collect(),
            data: data.into(),
        })
    })
}

fn encode(tensor: &Tensor, form: Form) -> Answer {
    let response = InferResponse {
        outputs: [tensor.clone()].into_iter().collect(),
        ..Default::default()
    };
    let asked = Asked {
        default_form: form,
        ..Default::default()
    };
    encode_response(&spec(tensor.datatype), "1", &asked, &response, &|_| None).unwrap()
}

fn joined(answer: &Answer) -> Bytes {
    let mut bytes = answer.head.to_vec();
    bytes.extend(answer.tail.iter().flatten());
    bytes.into()
}

/// An answer is nearly a request: its outputs are called inputs there.
fn as_request(answer: &Answer) -> (Bytes, Option<usize>) {
    let bytes = joined(answer);
    let json = bytes.len().min(answer.header_length.unwrap_or(bytes.len()));
    let place = bytes
        .windows(10)
        .position(|word| word == b"\"outputs\":")
        .unwrap();
    let mut request = bytes.to_vec();
    request.splice(place..place + 9, *b"\"inputs\"");
    (request.into(), answer.header_length.map(|_| json - 1))
}

fn read(answer: &Answer, datatype: DataType) -> Tensor {
    let (body, length) = as_request(answer);
    let mut request = parse_request(&body, length, &spec(datatype)).unwrap();
    check(&mut request, &spec(datatype)).unwrap();
    request.inputs.remove(0)
}

/// Bits that NaNs may lose on their way through JSON do not count.
fn same(one: &Tensor, other: &Tensor) -> bool {
    let nan_alike = match one.datatype {
        DataType::Fp32 => alike(&one.data, &other.data, |n| f32::from_le_bytes(n).is_nan()),
        DataType::Fp64 => alike(&one.data, &other.data, |n| f64::from_le_bytes(n).is_nan()),
        DataType::Fp16 => alike(&one.data, &other.data, |n| {
            half::f16::from_le_bytes(n).is_nan()
        }),
        DataType::Bf16 => alike(&one.data, &other.data, |n| {
            half::bf16::from_le_bytes(n).is_nan()
        }),
        _ => one.data == other.data,
    };
    nan_alike
        && one.shape == other.shape
        && one.name == other.name
        && one.datatype == other.datatype
}

fn alike<const N: usize>(one: &[u8], other: &[u8], nan: fn([u8; N]) -> bool) -> bool {
    let (ones, others) = (one.as_chunks::<N>().0, other.as_chunks::<N>().0);
    ones.len() == others.len()
        && ones
            .iter()
            .zip(others)
            .all(|(a, b)| a == b || (nan(*a) && nan(*b)))
}

/// JSON-like text: mostly the words that the parser knows, in any order.
fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\u00",
        b"\"inputs\":",
        b"\"name\":\"X\"",
        b"\"datatype\":",
        b"\"FP32\"",
        b"\"BYTES\"",
        b"\"INT8\"",
        b"\"shape\":[1,",
        b"\"data\":[",
        b"\"parameters\":{",
        b"\"binary_data_size\":",
        b"\"outputs\":[",
        b"\"id\":",
        b"null",
        b"true",
        b"-",
        b"1e5",
        b"18446744073709551616",
        b"0.1",
        b"NaN",
        b"-Inf",
        b"\xef\xbb\xbf",
        b"\xff",
        b" ",
        b"4",
    ];
    let word = prop_oneof![
        9 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        body in prop_oneof![scraps(), prop::collection::vec(any::<u8>(), 0..200)],
        length in prop::option::of(0..250_usize),
        datatype in prop::sample::select(DataType::ALL.to_vec()),
    ) {
        let spec = spec(datatype);
        if let Ok(mut request) = parse_request(&body.into(), length, &spec) {
            // Whatever gets through is one row or more, of the size it says.
            if let Ok(admission) = check(&mut request, &spec) {
                prop_assert!((1..=8).contains(&admission.rows));
                prop_assert!(request.inputs.len() == 1);
            }
        }
    }

    #[test]
    fn a_broken_request_never_panics(tensor in tensors(), cut: prop::sample::Index, byte: u8) {
        let answer = encode(&tensor, Form::Binary);
        let (body, length) = as_request(&answer);
        let mut broken = body.to_vec();
        let at = cut.index(broken.len());
        broken[at] = byte;
        let spec = spec(tensor.datatype);
        let checked = |body: Bytes| {
            parse_request(&body, length, &spec).and_then(|mut request| check(&mut request, &spec))
        };
        drop(checked(broken.into()));
        // Nothing at all would be a raw request.
        if (1..length.unwrap_or(body.len())).contains(&at) {
            prop_assert!(checked(body.slice(..at)).is_err());
        }
    }

    #[test]
    fn binary_tensors_come_back_to_the_bit(tensor in tensors()) {
        prop_assert_eq!(read(&encode(&tensor, Form::Binary), tensor.datatype), tensor);
    }

    #[test]
    fn json_tensors_come_back(tensor in tensors()) {
        let back = read(&encode(&tensor, Form::Json), tensor.datatype);
        prop_assert!(same(&tensor, &back), "{:?} {:?}", tensor, back);
    }

    #[test]
    fn the_order_of_members_does_not_matter(
        tensor in tensors(), order in Just([0, 1, 2, 3]).prop_shuffle(), nested: bool
    ) {
        let answer = joined(&encode(&tensor, Form::Json));
        let start = answer.windows(8).position(|word| word == b"\"data\":[").unwrap() + 7;
        let end = answer.len() - 3;
        let data = answer.slice(start..end);
        let data = if nested { [b"[[", &data[..], b"],[]]"].concat() } else { data.to_vec() };
        let members = [
            b"\"name\":\"X\"".to_vec(),
            format!("\"datatype\":\"{}\"", tensor.datatype.name()).into_bytes(),
            format!("\"shape\":{:?}", tensor.shape.to_vec()).into_bytes(),
            [b"\"data\":", &data[..]].concat(),
        ];
        let members = order.map(|index| members[index].clone()).join(&b',');
        let body = [b"{\"inputs\":[{", &members[..], b"}]}"].concat();
        let request = parse_request(&body.into(), None, &spec(tensor.datatype)).unwrap();
        prop_assert!(same(&tensor, &request.inputs[0]));
    }

    #[test]
    fn errors_are_json_whatever_they_say(message: String) {
        let body = encode_error(&message);
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(json["error"].as_str(), Some(&*message));
    }
}

#[test]
fn large_answers_are_not_copied_and_small_ones_are_one_buffer() {
    let tensor = |bytes: usize| Tensor {
        name: "X".into(),
        datatype: DataType::Uint8,
        shape: [1, i64::try_from(bytes).unwrap()].into_iter().collect(),
        data: vec![7; bytes].into(),
    };
    let small = encode(&tensor(64), Form::Binary);
    assert!(small.tail.is_empty());
    assert_eq!(small.head.len(), small.header_length.unwrap() + 64);
    let data = tensor(1 << 20);
    let large = encode(&data, Form::Binary);
    assert_eq!(large.header_length, Some(large.head.len()));
    assert_eq!(large.tail[0].as_ptr(), data.data.as_ptr());
}

#[test]
fn binary_inputs_and_text_are_slices_of_the_body() {
    let json = br#"{"id":"r1","inputs":[{"name":"X","datatype":"UINT8","shape":[1,3],"parameters":{"binary_data_size":3}}]}"#;
    let body = Bytes::from([json.as_slice(), b"abc"].concat());
    let request = parse_request(&body, Some(json.len()), &spec(DataType::Uint8)).unwrap();
    let inside = |piece: &[u8]| body.as_ptr_range().contains(&piece.as_ptr());
    assert!(inside(&request.inputs[0].data) && inside(request.id.as_bytes()));
    assert!(inside(request.inputs[0].name.as_bytes()));
}

#[test]
fn all_that_a_request_may_say_is_understood() {
    let body = br#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"data":[1]}],
        "parameters":{"sequence_id":"s","sequence_start":true,"sequence_end":true,"priority":2,"timeout":9,
            "binary_data_output":true,"i":-3,"big":9223372036854775808,"d":0.5,"b":true,"s":"x","s":5},
        "outputs":[{"name":"X","parameters":{"binary_data":true,"classification":3}}],
        "id":"first","id":"second","unknown":[{}]}"#;
    let request = parse_request(&Bytes::from_static(body), None, &spec(DataType::Fp32)).unwrap();
    let control = &request.control;
    assert_eq!(control.correlation_id, CorrelationId::Text("s".into()));
    assert!(control.sequence_start && control.sequence_end);
    assert_eq!((control.priority, control.timeout_us), (2, 9));
    assert_eq!(
        request.parameters,
        [
            ("i".into(), Parameter::Int(-3)),
            ("big".into(), Parameter::Double(9_223_372_036_854_775_808.0)),
            ("d".into(), Parameter::Double(0.5)),
            ("b".into(), Parameter::Bool(true)),
            ("s".into(), Parameter::String("x".into())),
        ]
    );
    let output = RequestedOutput {
        name: "X".into(),
        form: Form::Binary,
        classification: 3,
        window: None,
    };
    assert_eq!(request.outputs.to_vec(), [output]);
    assert_eq!(request.default_form, Form::Binary);
    assert_eq!(request.id, "first");
}

fn refusal(body: &str, length: Option<usize>) -> (u16, String) {
    let spec = spec(DataType::Fp32);
    let read = |mut request: InferRequest| check(&mut request, &spec).map(|_| request);
    let error = parse_request(&Bytes::copy_from_slice(body.as_bytes()), length, &spec)
        .and_then(read)
        .unwrap_err();
    (error.code.http_status(), error.message.into_owned())
}

#[test]
fn refusals_that_no_recording_has() {
    let deep = format!(
        r#"{{"inputs":[{{"name":"X","datatype":"FP32","shape":[1,1],"data":{}1{}}}]}}"#,
        "[".repeat(101),
        "]".repeat(101)
    );
    for (body, length, status, text) in [
        (
            deep.as_str(),
            None,
            400,
            "JSON nesting depth exceeds maximum allowed limit (100)",
        ),
        (
            r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"data":["x"]}]"#,
            None,
            400,
            "failed to parse the request JSON buffer: Missing a comma or '}' after an object member. at 69",
        ),
        (
            r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,2],"data":[1]}]}"#,
            None,
            400,
            "Unable to parse 'data': Shape does not match true shape of 'data' field",
        ),
        (
            r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[18446744073709551615],"data":[1]}]}"#,
            None,
            400,
            "Unable to parse 'shape': dimension 18446744073709551615 exceeds maximum size of \
             9223372036854775807",
        ),
        (
            r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"parameters":{"binary_data_size":4}}]}"#,
            None,
            400,
            "must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when \
             passing inputs in binary data format",
        ),
        (
            r#"{"inputs":[]}xx"#,
            Some(13),
            400,
            "unexpected additional input data for model 'm'",
        ),
        (
            r#"{"inputs":[{"name":"X","datatype":"F","shape":[1,1],"parameters":{"binary_data_size":0}}]}"#,
            Some(90),
            400,
            "[request id: <id_unknown>] inference input 'X' data-type is '<invalid>', but model 'm' expects \
             'FP32'",
        ),
        (
            r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"parameters":{"binary_data_size":18446744073709551615}}]}"#,
            Some(112),
            400,
            "unexpected size for input 'X', expecting 18446744073709551615 additional bytes for model 'm'",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"X","parameters":{"shared_memory_region":"r","shared_memory_byte_size":4,"classification":1}}]}"#,
            None,
            400,
            "Output can't set both 'shared_memory_region' and 'classification'",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"X","parameters":{"shared_memory_region":"r","binary_data":true}}]}"#,
            None,
            400,
            "Output can't set both 'shared_memory_region' and 'binary_data'",
        ),
        (
            r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"data":[1],"parameters":{"binary_data_size":4}}]}"#,
            Some(104),
            400,
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', \
             'shared_memory_region' in 'parameters'. But set 'data' 'binary_data_size'",
        ),
        (
            "{}",
            Some(3),
            400,
            "inference header size should be in range (0, 2), got: 3",
        ),
    ] {
        assert_eq!(
            refusal(body, length),
            (status, text.to_owned()),
            "{body:.120}"
        );
    }
}
