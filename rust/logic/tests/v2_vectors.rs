// SPDX-License-Identifier: Apache-2.0
//! Every recorded HTTP infer exchange, as far as codec and check decide it.
//!
//! `tests/wire/vectors/http` was recorded from Triton 2.51; `models.json` beside it holds the models'
//! declarations. Identity models answer with their own inputs, the others with the recorded tensors, and
//! the answer must be the recorded one to the byte. A case is in exactly one of three groups: it agrees,
//! Nerite does better ([`BETTER`]), or something else than the codec decides it ([`ELSEWHERE`]).
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use nerite_logic::check::check;
use nerite_logic::message::{InferRequest, InferResponse, Parameter, Parameters, Tensor};
use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::v2::{encode_error, encode_response, parse_header_length, parse_request};
use nerite_logic::{DataType, Error};
use serde_json::Value;

const THEMES: [&str; 5] = [
    "infer_json",
    "infer_errors",
    "infer_binary",
    "parameters",
    "classification",
];

/// Cases that are answered otherwise than Triton does: what is wrong there, and the text here.
const BETTER: [(&str, &str); 8] = [
    // Wraps silently.
    (
        "ij_val_uint8_over",
        "value 256 of input 'INPUT0' for model 't_uint8' is out of range for UINT8, which holds 0 to 255",
    ),
    (
        "ij_val_int32_over",
        "value 3000000000 of input 'INPUT0' for model 't_int32' is out of range for INT32, which holds \
         -2147483648 to 2147483647",
    ),
    // Ends the server.
    (
        "ie_shape_huge",
        "[request id: <id_unknown>] byte size overflow for input 'INPUT0' for model 'id_nb': FP32 elements \
         of shape [9223372036854775807]",
    ),
    (
        "cl_zero",
        "class result not available for output 'OUTPUT0' of model 'id_nb': its 0 bytes are not one or more \
         FP32 elements in each of 1 rows",
    ),
    // The second list is broken.
    (
        "ie_extra_input",
        "[request id: <id_unknown>] expected 1 inputs but got 2 inputs for model 'id_fp32'. Got input(s) \
         ['INPUT0','ZZ'], but missing required input(s) []. Please provide all required input(s).",
    ),
    // Headers that are no numbers are read as some number.
    (
        "ib_hl_text",
        "Unable to parse Inference-Header-Content-Length, got: x",
    ),
    (
        "ib_hl_float",
        "Unable to parse Inference-Header-Content-Length, got: 12.5",
    ),
    // An element longer than the data reaches the model.
    (
        "ib_bytes_trunc",
        "[request id: <id_unknown>] incomplete string data for inference input 'INPUT0' for model \
         't_string', expecting string of length 9 but only 2 bytes available. Please make sure the string \
         is in one buffer.",
    ),
];

/// Cases that Triton refuses, and the data that is answered here: it has no JSON for half precision.
const ANSWERED: [(&str, &str); 2] = [
    ("ij_type_fp16", "\"data\":[1.5,0.0,-1.0]"),
    ("ib_json_out_fp16", "\"data\":[1.5,0.0,-2.0]"),
];

/// Cases that the model table, a scheduler or the model itself answers.
const ELSEWHERE: [&str; 19] = [
    "ij_version_missing",
    "ij_version_huge",
    "ij_seq",
    "ij_seq_zero",
    "ij_seq_empty",
    "ie_unknown_model",
    "ie_bad_model_version",
    "ie_decoupled",
    "ie_py_raise",
    "ie_py_none",
    "ie_py_string",
    "ie_py_plain_error",
    "ie_py_unknown_code",
    "ie_py_not_found_code",
    "ie_py_invalid_arg_code",
    "ie_py_unsupported_code",
    "ie_py_cancelled_code",
    "ie_py_id",
    "ie_ens_raise",
];

fn vectors(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/wire/vectors");
    let path = PathBuf::from(folder).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
    serde_json::from_str(&text).unwrap()
}

struct Model {
    spec: ModelSpec,
    identity: bool,
    labels: BTreeMap<String, Vec<String>>,
}

fn models() -> BTreeMap<String, Model> {
    let read = |(name, config): (&String, &Value)| {
        let spec = ModelSpec::from_config_json(&config.to_string()).unwrap();
        let labels = serde_json::from_value(config["labels"].clone()).unwrap_or_default();
        (
            name.clone(),
            Model {
                spec,
                identity: config["backend"] == "identity",
                labels,
            },
        )
    };
    vectors("models.json")
        .as_object()
        .unwrap()
        .iter()
        .map(read)
        .collect()
}

fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = alphabet.iter().position(|known| *known == digit).unwrap();
        word = word << 6 | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff).unwrap());
        }
    }
    bytes
}

/// `value[name]` as bytes, whichever way it is recorded.
fn bytes(value: &Value, name: &str) -> Vec<u8> {
    match (&value[name], &value[format!("{name}_b64")]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(text)) => base64(text),
        _ => Vec::new(),
    }
}

/// What came out, in the terms of the recording.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    header_length: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    fn recorded(expect: &Value) -> Self {
        let mut body = bytes(expect, "body");
        body.extend(bytes(expect, "json"));
        body.extend(bytes(expect, "tail"));
        let header_length = expect["headers"]["inference-header-content-length"].as_str();
        Self {
            status: u16::try_from(expect["status"].as_u64().unwrap_or(0)).unwrap(),
            header_length: header_length.map(str::to_owned),
            body,
        }
    }

    fn failed(error: &Error) -> Self {
        let body = encode_error(&error.message).to_vec();
        Self {
            status: error.code.http_status(),
            header_length: None,
            body,
        }
    }
}

fn accept(model: &Model, request: &Value) -> Result<InferRequest, Error> {
    let body = Bytes::from(bytes(request, "body"));
    let header = request["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|header| {
            let name = header[0].as_str()?;
            name.eq_ignore_ascii_case("inference-header-content-length")
                .then(|| header[1].as_str())?
        });
    let length = header
        .map(|text| parse_header_length(text.as_bytes(), body.len()))
        .transpose()?;
    let mut request = parse_request(&body, length, &model.spec)?;
    // The engine looks for regions before anything is checked; none is registered here.
    let windows = request.windows.iter().map(|(_, window)| window);
    let outputs = request.outputs.iter().filter_map(|it| it.window.as_deref());
    if let Some(window) = windows.chain(outputs).next() {
        let text = format!("Unable to find shared memory region: '{}'", window.region);
        return Err(Error::not_found(text));
    }
    check(&mut request, &model.spec)?;
    Ok(request)
}

/// What the identity backend of Triton answers: each input under the output's name.
fn echo(model: &Model, request: &InferRequest) -> InferResponse {
    let parameters = vec![
        (
            "param0".into(),
            Parameter::String("an example string parameter".into()),
        ),
        ("param1".into(), Parameter::Int(42)),
        ("param2".into(), Parameter::Bool(false)),
        ("param3".into(), Parameter::Double(123.123)),
    ];
    let outputs = model
        .spec
        .outputs
        .iter()
        .zip(&model.spec.inputs)
        .filter_map(|(output, input)| {
            let given = request
                .inputs
                .iter()
                .find(|tensor| tensor.name == input.name)?;
            Some(Tensor {
                name: output.name.clone(),
                ..given.clone()
            })
        });
    InferResponse {
        parameters,
        outputs: outputs.collect(),
    }
}

/// The recorded answer as what the model must have returned.
fn recorded_response(recorded: &Answer) -> InferResponse {
    let json = match &recorded.header_length {
        Some(length) => &recorded.body[..length.parse::<usize>().unwrap()],
        None => &recorded.body[..],
    };
    let mut tail = recorded.body[json.len()..].to_vec();
    let answer: Value = serde_json::from_slice(json).unwrap();
    let outputs = answer["outputs"].as_array().unwrap().iter().map(|output| {
        let datatype = DataType::from_name(output["datatype"].as_str().unwrap()).unwrap();
        let data = match output["parameters"]["binary_data_size"].as_u64() {
            Some(size) => {
                let rest = tail.split_off(usize::try_from(size).unwrap());
                std::mem::replace(&mut tail, rest)
            }
            None => output["data"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|v| wire(datatype, v))
                .collect(),
        };
        Tensor {
            name: output["name"].as_str().unwrap().into(),
            datatype,
            shape: output["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_i64().unwrap())
                .collect(),
            data: data.into(),
        }
    });
    InferResponse {
        parameters: Parameters::new(),
        outputs: outputs.collect(),
    }
}

#[allow(clippy::cast_possible_truncation)]
fn wire(datatype: DataType, value: &Value) -> Vec<u8> {
    match datatype {
        DataType::Bool => vec![u8::from(value.as_bool().unwrap())],
        DataType::Int32 => i32::try_from(value.as_i64().unwrap())
            .unwrap()
            .to_le_bytes()
            .to_vec(),
        DataType::Int64 => value.as_i64().unwrap().to_le_bytes().to_vec(),
        DataType::Uint64 => value.as_u64().unwrap().to_le_bytes().to_vec(),
        DataType::Fp32 => (value.as_f64().unwrap() as f32).to_le_bytes().to_vec(),
        DataType::Bytes => {
            let text = value.as_str().unwrap();
            let length = u32::try_from(text.len()).unwrap().to_le_bytes();
            [length.as_slice(), text.as_bytes()].concat()
        }
        other => panic!("{} is not in the recordings of such models", other.name()),
    }
}

fn replay(model: &Model, request: &Value, recorded: &Answer, id: &str) -> Answer {
    let answered = accept(model, request).and_then(|request| {
        let asked = request.take_asked();
        // Classes were made of what the model said, which only an identity tells again.
        let identity = model.identity || id == "cl_onnx";
        let mut response = if identity {
            echo(model, &request)
        } else {
            recorded_response(recorded)
        };
        if id == "cl_onnx" {
            response.parameters.clear();
        }
        let labels = |output: &str| model.labels.get(output).map(Vec::as_slice);
        encode_response(&model.spec, "1", &asked, &response, &labels)
    });
    match answered {
        Err(error) => Answer::failed(&error),
        Ok(answer) => {
            let mut body = answer.head.to_vec();
            body.extend(answer.tail.iter().flatten());
            let header_length = answer.header_length.map(|length| length.to_string());
            Answer {
                status: 200,
                header_length,
                body,
            }
        }
    }
}

/// What the recording is to become here.
fn wanted(case: &Value, mut recorded: Answer) -> Answer {
    let id = case["id"].as_str().unwrap();
    if let Some((_, text)) = BETTER.iter().find(|(known, _)| *known == id) {
        return Answer::failed(&Error::invalid(*text));
    }
    match case["defect"].as_str() {
        Some("client error answered 500") => recorded.status = 400,
        Some("internal sequence parameters in the answer") => {
            let internal = "\"parameters\":{\"sequence_id\":0,\"sequence_start\":false,\
                            \"sequence_end\":false},";
            let body = String::from_utf8(recorded.body).unwrap();
            recorded.body = body.replacen(internal, "", 1).into_bytes();
        }
        _ => {}
    }
    recorded
}

#[test]
fn recorded_exchanges_come_out_to_the_byte() {
    let models = models();
    let (mut agreeing, mut elsewhere, mut differing) = (0, 0, Vec::new());
    for theme in THEMES {
        for case in vectors(&format!("http/{theme}.json"))["cases"]
            .as_array()
            .unwrap()
        {
            let id = case["id"].as_str().unwrap();
            if ELSEWHERE.contains(&id) {
                elsewhere += 1;
                continue;
            }
            for step in case["steps"].as_array().unwrap() {
                let request = &step["request"];
                let name = request["path"].as_str().unwrap().split('/').nth(3).unwrap();
                let recorded = wanted(case, Answer::recorded(&step["expect"]));
                let answer = replay(&models[name], request, &recorded, id);
                let body = String::from_utf8_lossy(&answer.body);
                let better = ANSWERED.iter().find(|(known, _)| *known == id);
                let as_wanted = match better {
                    Some((_, data)) => answer.status == 200 && body.contains(data),
                    None => answer == recorded,
                };
                if as_wanted {
                    agreeing += 1;
                } else {
                    let show = |answer: &Answer| {
                        let (status, length) = (answer.status, &answer.header_length);
                        format!(
                            "{status} {length:?} {}",
                            String::from_utf8_lossy(&answer.body)
                        )
                    };
                    differing.push(format!("{id}\n  {}\n  {}", show(&answer), show(&recorded)));
                }
            }
        }
    }
    assert!(
        differing.is_empty(),
        "{} differ:\n{}",
        differing.len(),
        differing.join("\n")
    );
    // Of the exchanges that agree, eight do so with [`BETTER`] and two with [`ANSWERED`].
    assert_eq!((agreeing, elsewhere), (143, 19));
}

#[test]
fn requests_that_something_else_refuses_pass_codec_and_check() {
    let models = models();
    for theme in THEMES {
        for case in vectors(&format!("http/{theme}.json"))["cases"]
            .as_array()
            .unwrap()
        {
            if !ELSEWHERE.contains(&case["id"].as_str().unwrap()) {
                continue;
            }
            for step in case["steps"].as_array().unwrap() {
                let request = &step["request"];
                let name = request["path"].as_str().unwrap().split('/').nth(3).unwrap();
                if let Some(model) = models.get(name) {
                    assert!(accept(model, request).is_ok(), "{}", case["id"]);
                }
            }
        }
    }
}
