// SPDX-License-Identifier: Apache-2.0
//! Requests that were recorded from Triton's clients, and the models they were for.

use std::path::PathBuf;

use nerite_logic::DataType;
use nerite_logic::spec::ModelSpec;
use serde_json::Value;

const THEMES: [&str; 5] = [
    "infer_json",
    "infer_errors",
    "infer_binary",
    "parameters",
    "classification",
];

fn vectors(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/wire/vectors");
    let text = std::fs::read_to_string(PathBuf::from(folder).join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every body that was sent as text; binary ones are made from tensors.
pub fn bodies() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for theme in THEMES {
        for case in vectors(&format!("http/{theme}.json"))["cases"]
            .as_array()
            .unwrap()
        {
            for step in case["steps"].as_array().unwrap() {
                if let Some(body) = step["request"]["body"].as_str() {
                    found.push(body.as_bytes().to_vec());
                }
            }
        }
    }
    assert!(found.len() > 50);
    found
}

/// The configurations, as the config endpoint shows them.
pub fn configurations() -> Vec<Vec<u8>> {
    let models = vectors("models.json");
    let each = models.as_object().unwrap().values();
    each.map(|config| config.to_string().into_bytes()).collect()
}

/// A model with one input and one output of a type, called as those of the recordings.
pub fn model(datatype: DataType, batches: bool) -> ModelSpec {
    let name = if datatype == DataType::Bytes {
        "STRING"
    } else {
        datatype.name()
    };
    let io = |side: &str| {
        format!(
            r#"[{{"name": "{side}0", "data_type": "TYPE_{name}", "dims": [-1], "optional": false}}]"#
        )
    };
    let (input, output, size) = (io("INPUT"), io("OUTPUT"), if batches { 8 } else { 0 });
    let config = format!(
        r#"{{"name": "m", "max_batch_size": {size}, "input": {input}, "output": {output}}}"#
    );
    ModelSpec::from_config_json(&config).unwrap()
}
