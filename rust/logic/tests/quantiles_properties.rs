// SPDX-License-Identifier: Apache-2.0
//! Quantiles lie within their errors, whatever comes in whatever order, and few samples are kept.

use nerite_logic::quantiles::{Sketch, Target};
use proptest::prelude::*;

const TARGETS: [Target; 4] = [
    Target {
        quantile: 0.5,
        error: 0.05,
    },
    Target {
        quantile: 0.9,
        error: 0.01,
    },
    Target {
        quantile: 0.99,
        error: 0.001,
    },
    Target {
        quantile: 0.999,
        error: 0.001,
    },
];

/// Whether `value` stands at a rank of `sorted` that the target allows, give or take one.
fn is_near(sorted: &[f64], value: f64, target: Target) -> bool {
    let below = sorted.partition_point(|other| *other < value) as f64;
    let upto = sorted.partition_point(|other| *other <= value) as f64;
    let count = sorted.len() as f64;
    let wanted = target.quantile * count;
    let off = target.error * count + 1.0;
    below - off <= wanted && wanted <= upto + off
}

fn check(values: &[f64]) -> Result<(), TestCaseError> {
    let mut sketch = Sketch::default();
    for value in values {
        sketch.insert(*value, &TARGETS);
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    for target in TARGETS {
        match sketch.query(target.quantile, &TARGETS) {
            None => prop_assert!(values.is_empty()),
            Some(value) => {
                prop_assert!(is_near(&sorted, value, target), "{target:?} gave {value}");
                prop_assert!(values.contains(&value), "{value} was never observed");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn quantiles_lie_within_their_errors(values in prop::collection::vec(0.0_f64..1e6, 0..4000)) {
        check(&values)?;
    }

    #[test]
    fn equal_and_sorted_values_are_no_exception(
        mut values in prop::collection::vec((0_u8..5).prop_map(f64::from), 0..3000),
        falling in any::<bool>(),
    ) {
        values.sort_by(f64::total_cmp);
        if falling {
            values.reverse();
        }
        check(&values)?;
    }
}

#[test]
fn a_long_stream_keeps_few_samples() {
    let mut sketch = Sketch::default();
    let mut seed = 1_u64;
    for _ in 0..200_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sketch.insert((seed >> 33) as f64, &TARGETS);
    }
    assert!(sketch.len() < 2_000, "{} samples", sketch.len());
}
