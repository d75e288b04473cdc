// SPDX-License-Identifier: Apache-2.0
//! A full response cache takes no more memory than its size, and the answer that is on its way in: what
//! answers cost is what the allocator gives.

#[path = "fuzz/memory.rs"]
mod memory;

use std::sync::Arc;

use bytes::Bytes;
use nerite_logic::DataType;
use nerite_logic::cache::key::key;
use nerite_logic::cache::{Store, cost, kept};
use nerite_logic::message::{InferRequest, InferResponse, Tensor};
use nerite_logic::spec::ModelSpec;

const SIZE: usize = 8 << 20;

/// The bytes that are taken while a store is filled twice over with answers of some outputs.
fn taken(outputs: usize, bytes: usize) -> usize {
    let declared =
        |number| format!(r#"{{"name":"OUTPUT{number}","data_type":"TYPE_UINT8","dims":[-1]}}"#);
    let declared = (0..outputs).map(declared).collect::<Vec<_>>().join(",");
    let spec = format!(r#"{{"name":"m","output":[{declared}]}}"#);
    let spec = ModelSpec::from_config_json(&spec).unwrap();
    let data = Bytes::from(vec![1; bytes]);
    let tensor = |number: usize| Tensor {
        name: format!("OUTPUT{number}").into(),
        datatype: DataType::Uint8,
        shape: [1, 1, 1, 1, i64::try_from(bytes).unwrap()]
            .into_iter()
            .collect(),
        data: data.clone(),
    };
    let response = InferResponse {
        outputs: (0..outputs).map(tensor).collect(),
        ..InferResponse::default()
    };
    let (mut store, most) = memory::most(|| {
        let mut store = Store::new(SIZE);
        for number in 0.. {
            let key = key(&[1; 32], number, &InferRequest::default());
            store.put(key, Arc::new(kept(&response, &spec)));
            let counts = store.counts();
            if counts.evictions as usize > counts.entries {
                break;
            }
        }
        store
    });
    assert!(
        store
            .get(&key(&[1; 32], 0, &InferRequest::default()))
            .is_none()
    );
    most - cost(&response)
}

#[test]
fn small_answers_and_large_ones_take_what_they_cost() {
    for (outputs, bytes) in [
        (1, 0),
        (1, 4),
        (2, 16),
        (3, 16),
        (8, 100),
        (1, 100_000),
        (20, 1),
    ] {
        let taken = taken(outputs, bytes);
        assert!(
            taken <= SIZE,
            "{outputs} outputs of {bytes} bytes took {taken}"
        );
    }
}
