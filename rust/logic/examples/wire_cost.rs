// SPDX-License-Identifier: Apache-2.0
//! What the v2 codec costs on this machine: `cargo run --release --example wire_cost -p nerite-logic`.
//!
//! Prints the best of several rounds, in nanoseconds: the budget of one small binary request (parse,
//! check and encode together below 1.2 us), and the cost of one JSON number in each direction.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nerite_logic::check::check;
use nerite_logic::message::{InferResponse, Tensor};
use nerite_logic::spec::ModelSpec;
use nerite_logic::wire::v2::{encode_response, parse_request};

/// Nanoseconds of one call: the best of many short rounds, so that a neighbour's work does not count.
fn cost(mut call: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    let start = Instant::now();
    call();
    let calls = (2_000_000 / start.elapsed().as_nanos().max(200)).max(1);
    for _ in 0..200 {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        best = best.min(start.elapsed());
    }
    best.as_nanos() as f64 / calls as f64
}

fn model(datatype: &str, dims: &str) -> ModelSpec {
    let io = format!(r#"[{{"name": "INPUT0", "data_type": "TYPE_{datatype}", "dims": [{dims}]}}]"#);
    let output = io.replace("INPUT0", "OUTPUT0");
    let config = format!(
        r#"{{"name": "identity", "max_batch_size": 64, "input": {io}, "output": {output}}}"#
    );
    ModelSpec::from_config_json(&config).unwrap()
}

/// A body as tritonclient writes it.
fn binary_body(shape: &str, bytes: usize) -> (Bytes, Option<usize>) {
    let json = format!(
        r#"{{"parameters":{{"binary_data_output":true}},"inputs":[{{"name":"INPUT0","shape":{shape},"datatype":"FP32","parameters":{{"binary_data_size":{bytes}}}}}]}}"#
    );
    let length = json.len();
    (
        Bytes::from([json.into_bytes(), vec![0; bytes]].concat()),
        Some(length),
    )
}

fn json_body(datatype: &str, numbers: &[String]) -> Bytes {
    let (count, list) = (numbers.len(), numbers.join(","));
    let body = format!(
        r#"{{"inputs":[{{"name":"INPUT0","shape":[1,{count}],"datatype":"{datatype}","data":[{list}]}}]}}"#
    );
    Bytes::from(body)
}

fn exchange(label: &str, spec: &ModelSpec, body: &Bytes, length: Option<usize>, per: usize) {
    let mut request = parse_request(body, length, spec).unwrap();
    check(&mut request, spec).unwrap();
    let asked = request.take_asked();
    let input = request.inputs[0].clone();
    let outputs = [Tensor {
        name: spec.outputs[0].name.clone(),
        ..input
    }]
    .into_iter()
    .collect();
    let response = InferResponse {
        outputs,
        ..InferResponse::default()
    };
    let parse = cost(|| drop(black_box(parse_request(black_box(body), length, spec))));
    let checked = cost(|| drop(black_box(check(black_box(&mut request), spec))));
    let ask = cost(|| drop(black_box(request.take_asked())));
    let encode = cost(|| {
        drop(black_box(encode_response(
            spec,
            "1",
            &asked,
            black_box(&response),
            &|_| None,
        )))
    });
    let unit = |ns: f64| ns / per as f64;
    println!(
        "{label:<34} parse {:8.1}  check {:6.1}  asked {:5.1}  encode {:8.1}  sum {:8.1}",
        unit(parse),
        unit(checked),
        unit(ask),
        unit(encode),
        unit(parse + checked + ask + encode)
    );
}

/// Numbers of a fixed pseudo-random sequence in [0, 1).
fn noise(count: u32) -> impl Iterator<Item = f64> {
    (0..count).scan(0x9E37_79B9_7F4A_7C15_u64, |state, _| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 11) as f64 / (1_u64 << 53) as f64)
    })
}

fn main() {
    println!("nanoseconds per request");
    let spec = model("FP32", "16");
    let (body, length) = binary_body("[1,16]", 64);
    exchange("binary FP32 [1,16]", &spec, &body, length, 1);
    let (body, length) = binary_body("[1,150528]", 602_112);
    exchange(
        "binary FP32 [1,150528]",
        &model("FP32", "150528"),
        &body,
        length,
        1,
    );
    let numbers: Vec<String> = (0..16).map(|n| format!("{n}.5")).collect();
    exchange(
        "JSON FP32 [1,16]",
        &spec,
        &json_body("FP32", &numbers),
        None,
        1,
    );

    println!(
        "nanoseconds per element of 10,000 in JSON, which the processor learns by heart, and of more"
    );
    #[allow(clippy::cast_possible_truncation)]
    let lists: [(&str, &str, Vec<String>); 7] = [
        (
            "FP32, 150,528 of an image",
            "FP32",
            noise(150_528)
                .zip(noise(150_529).skip(1))
                .map(|(a, b)| (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos())
                .map(|n| format!("{:?}", f64::from(n as f32)))
                .collect(),
        ),
        (
            "FP32, as float32.tolist()",
            "FP32",
            noise(10_000)
                .map(|n| format!("{:?}", f64::from(n as f32)))
                .collect(),
        ),
        (
            "FP64, 16-17 digits",
            "FP64",
            noise(10_000).map(|n| format!("{n:?}")).collect(),
        ),
        (
            "FP32, 4 places",
            "FP32",
            noise(10_000).map(|n| format!("{n:.4}")).collect(),
        ),
        (
            "INT32",
            "INT32",
            noise(10_000)
                .map(|n| format!("{}", (n * 1e6) as i64))
                .collect(),
        ),
        (
            "UINT8",
            "UINT8",
            noise(10_000)
                .map(|n| format!("{}", (n * 256.0) as u8))
                .collect(),
        ),
        (
            "BYTES, 16 each",
            "BYTES",
            noise(10_000).map(|n| format!("\"{n:.14}\"")).collect(),
        ),
    ];
    for (label, datatype, numbers) in lists {
        let config = if datatype == "BYTES" {
            "STRING"
        } else {
            datatype
        };
        let spec = model(config, &numbers.len().to_string());
        exchange(
            label,
            &spec,
            &json_body(datatype, &numbers),
            None,
            numbers.len(),
        );
    }
}
