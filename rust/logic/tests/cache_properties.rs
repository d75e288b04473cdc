// SPDX-License-Identifier: Apache-2.0
//! The response cache against a list that does the same slowly, and its keys against each other.

use std::sync::Arc;

use bytes::Bytes;
use nerite_logic::DataType;
use nerite_logic::cache::key::{Key, key};
use nerite_logic::cache::{Counts, ENTRY_BYTES, Store, cost, kept};
use nerite_logic::message::{
    CorrelationId, Form, InferRequest, InferResponse, Parameter, RequestedOutput, Tensor,
};
use nerite_logic::spec::ModelSpec;
use proptest::prelude::*;

const SECRET: [u8; 32] = [7; 32];

fn tensor(name: &str, datatype: DataType, shape: &[i64], data: &[u8]) -> Tensor {
    Tensor {
        name: name.into(),
        datatype,
        shape: shape.iter().copied().collect(),
        data: Bytes::copy_from_slice(data),
    }
}

/// An answer whose data tell which request it answers.
fn answer(number: u8, bytes: usize) -> Arc<InferResponse> {
    Arc::new(InferResponse {
        outputs: [tensor("Y", DataType::Uint8, &[1], &vec![number; bytes])]
            .into_iter()
            .collect(),
        ..InferResponse::default()
    })
}

fn key_of(number: u8) -> Key {
    key(&SECRET, u64::from(number), &InferRequest::default())
}

/// The same, as a list in the order of use: the first was used last.
#[derive(Default)]
struct Model {
    entries: Vec<(u8, usize)>,
    counts: Counts,
}

impl Model {
    fn get(&mut self, number: u8) -> Option<usize> {
        let Some(place) = self.entries.iter().position(|(each, _)| *each == number) else {
            self.counts.misses += 1;
            return None;
        };
        self.counts.hits += 1;
        let entry = self.entries.remove(place);
        self.entries.insert(0, entry);
        Some(entry.1)
    }

    fn put(&mut self, number: u8, bytes: usize) {
        if bytes + ENTRY_BYTES > self.counts.size {
            return;
        }
        self.entries.retain(|(each, _)| *each != number);
        self.entries.insert(0, (number, bytes));
        while self.used() > self.counts.size {
            self.entries.pop();
            self.counts.evictions += 1;
        }
    }

    fn used(&self) -> usize {
        let costs = self.entries.iter().map(|(_, bytes)| bytes + ENTRY_BYTES);
        costs.sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Put(u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..12_u8;
    prop_oneof![
        number.clone().prop_map(Step::Get),
        (number, 0..4_000_usize).prop_map(|(number, bytes)| Step::Put(number, bytes)),
    ]
}

proptest! {
    #[test]
    fn the_answers_used_last_stay_and_never_cost_more_than_the_size(
        size in ENTRY_BYTES..12_000,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut store = Store::new(size);
        let mut model = Model { counts: Counts { size, ..Counts::default() }, ..Model::default() };
        for step in steps {
            match step {
                Step::Get(number) => {
                    let found = store.get(&key_of(number));
                    let expected = model.get(number).map(|bytes| answer(number, bytes));
                    prop_assert_eq!(found, expected);
                }
                Step::Put(number, bytes) => {
                    let before = store.counts().entries;
                    let left = store.put(key_of(number), answer(number, bytes));
                    model.put(number, bytes);
                    // Nothing is lost: what was there, and what came, stays or is handed back.
                    prop_assert_eq!(before + 1, store.counts().entries + left.len());
                }
            }
            let counts = store.counts();
            prop_assert!(counts.used <= size);
            let expected = Counts { entries: model.entries.len(), used: model.used(), ..model.counts };
            prop_assert_eq!(counts, expected);
        }
    }

    #[test]
    fn requests_that_differ_in_anything_but_their_id_have_different_keys(
        one in request(), other in request(), id in "[a-z]{0,3}",
    ) {
        let keys = (key(&SECRET, 1, &one), key(&SECRET, 1, &other));
        prop_assert_eq!(one == other, keys.0 == keys.1);
        let again = InferRequest { id: id.into(), ..one };
        prop_assert_eq!(keys.0, key(&SECRET, 1, &again));
        prop_assert_ne!(keys.0, key(&SECRET, 2, &again));
        prop_assert_ne!(keys.0, key(&[8; 32], 1, &again));
    }
}

/// Small requests, of which many are nearly the same.
fn request() -> impl Strategy<Value = InferRequest> {
    let types = prop::sample::select(vec![DataType::Int8, DataType::Uint8, DataType::Bytes]);
    let one = (
        "[ab]{0,2}",
        types,
        prop::collection::vec(0..2_i64, 0..3),
        prop::collection::vec(0..2_u8, 0..3),
    );
    let input =
        one.prop_map(|(name, datatype, shape, data)| tensor(&name, datatype, &shape, &data));
    let inputs = prop::collection::vec(input, 0..3).prop_map(sorted_inputs);
    let value = prop_oneof![
        any::<bool>().prop_map(Parameter::Bool),
        (0..2_i64).prop_map(Parameter::Int),
        (0..2_u64).prop_map(Parameter::Uint),
        (0..2_u8).prop_map(|n| Parameter::Double(f64::from(n))),
        "[01]".prop_map(|text| Parameter::String(text.into())),
    ];
    let parameters = prop::collection::btree_map("[ab]{0,1}", value, 0..2);
    let outputs = prop::collection::btree_set("[ab]{0,2}", 0..3);
    (inputs, parameters, outputs, 0..3_u64, 0..2_u64).prop_map(
        |(inputs, parameters, outputs, correlation, priority)| {
            let mut request = InferRequest {
                inputs: inputs.into_iter().collect(),
                parameters: parameters.into_iter().map(|(k, v)| (k.into(), v)).collect(),
                outputs: outputs.into_iter().map(output).collect(),
                ..InferRequest::default()
            };
            request.control.priority = priority;
            request.control.correlation_id = match correlation {
                0 => CorrelationId::None,
                1 => CorrelationId::Number(1),
                _ => CorrelationId::Text("1".into()),
            };
            request
        },
    )
}

/// Names of inputs are unique once a request was checked, and their order means nothing.
fn sorted_inputs(mut inputs: Vec<Tensor>) -> Vec<Tensor> {
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    inputs.dedup_by(|a, b| a.name == b.name);
    inputs
}

fn output(name: String) -> RequestedOutput {
    RequestedOutput {
        name: name.into(),
        ..RequestedOutput::default()
    }
}

#[test]
fn the_order_of_inputs_and_how_outputs_are_encoded_make_no_difference() {
    let inputs = [
        tensor("A", DataType::Int8, &[1], &[1]),
        tensor("B", DataType::Int8, &[1], &[2]),
    ];
    let mut one = InferRequest {
        inputs: inputs.iter().cloned().collect(),
        ..InferRequest::default()
    };
    one.outputs.push(output("Y".into()));
    let mut other = InferRequest {
        inputs: inputs.into_iter().rev().collect(),
        ..one.clone()
    };
    other.outputs[0].form = Form::Binary;
    other.outputs[0].classification = 3;
    other.default_form = Form::Binary;
    assert_eq!(key(&SECRET, 1, &one), key(&SECRET, 1, &other));
    other.outputs.push(output("Z".into()));
    assert_ne!(key(&SECRET, 1, &one), key(&SECRET, 1, &other));
}

#[test]
fn what_is_kept_is_a_copy_without_parameters() {
    let spec = r#"{"name":"m","output":[{"name":"Y","data_type":"TYPE_UINT8","dims":[-1]}]}"#;
    let spec = ModelSpec::from_config_json(spec).unwrap();
    let body = Bytes::from(vec![9_u8; 1 << 20]);
    let mut response = InferResponse::default();
    response
        .parameters
        .push(("p".into(), Parameter::Bool(true)));
    for name in ["Y", "Other"] {
        let mut each = tensor(name, DataType::Uint8, &[3], &[]);
        each.data = body.slice(1..4);
        response.outputs.push(each);
    }
    let kept = kept(&response, &spec);
    assert!(kept.parameters.is_empty());
    assert_eq!(kept.outputs, response.outputs);
    drop(response);
    assert!(body.is_unique(), "nothing of the answer's memory is held");
    assert_eq!(cost(&kept), ENTRY_BYTES + 6);
}
