// SPDX-License-Identifier: Apache-2.0
//! Conditions that KServe's own router was asked.

use serde_json::Value;

use super::{Document, holds};

#[test]
fn every_recorded_condition_holds_where_it_did_in_kserve() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/conditions.json")).unwrap();
    let parse = |body: &Value| Document::parse(body.as_str().unwrap().as_bytes()).unwrap();
    let bodies: Vec<Document> = vectors["bodies"]
        .as_array()
        .unwrap()
        .iter()
        .map(parse)
        .collect();
    let mut wrong = Vec::new();
    for vector in vectors["vectors"].as_array().unwrap() {
        let condition = vector["condition"].as_str().unwrap();
        for (index, body) in bodies.iter().enumerate() {
            if Value::from(holds(body, condition)) != vector["matches"][index] {
                wrong.push((vector["id"].clone(), condition, index));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
