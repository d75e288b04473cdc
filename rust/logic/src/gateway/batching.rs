// SPDX-License-Identifier: Apache-2.0
//! V1 requests joined into one, and its answer split again. Instances and predictions are moved as text.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::payload::Members;

/// What one caller brings to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its instances, with commas between them.
    instances: String,
    /// How many they are.
    pub count: usize,
}

/// Reads a caller's body; `None` if it says more than its instances, which a batch could not say for all.
///
/// # Errors
/// What KServe's batcher says: the body is no JSON object, or has no instances.
pub fn part_of(body: &[u8]) -> Result<Option<Part>, &'static str> {
    let members: Members<'_> = serde_json::from_slice(body).map_err(|_| "can't Unmarshal body")?;
    let instances = members.last(|key| key == "instances");
    let instances: Vec<&RawValue> = instances
        .and_then(|list| serde_json::from_str(list).ok())
        .unwrap_or_default();
    if instances.is_empty() {
        return Err("no instances in the request");
    }
    let texts: Vec<&str> = instances.iter().map(|one| one.get()).collect();
    let alone = members.others("instances").next().is_some();
    Ok((!alone).then(|| Part {
        instances: texts.join(","),
        count: texts.len(),
    }))
}

/// One body of many.
#[must_use]
pub fn joined(parts: &[&Part]) -> String {
    let instances: Vec<&str> = parts.iter().map(|part| part.instances.as_str()).collect();
    format!(r#"{{"instances":[{}]}}"#, instances.join(","))
}

#[derive(Deserialize)]
struct Predicted<'a> {
    #[serde(borrow)]
    predictions: Vec<&'a RawValue>,
}

/// The answer of each caller, who brought `counts` instances.
///
/// # Errors
/// If there are not as many predictions as instances.
pub fn split(body: &[u8], counts: &[usize], batch_id: &str) -> Result<Vec<String>, String> {
    let predicted: Predicted<'_> = serde_json::from_slice(body)
        .map_err(|why| format!("the answer to a batch has no list of predictions: {why}"))?;
    let mut left = predicted.predictions.as_slice();
    let expected: usize = counts.iter().sum();
    if left.len() != expected {
        return Err(format!(
            "size of prediction is not equal to the size of instances: {} for {expected}",
            left.len()
        ));
    }
    let mut answers = Vec::with_capacity(counts.len());
    for count in counts {
        let (own, others) = left.split_at(*count);
        let own: Vec<&str> = own.iter().map(|one| one.get()).collect();
        let own = own.join(",");
        answers.push(format!(
            r#"{{"message":"","batchId":"{batch_id}","predictions":[{own}]}}"#
        ));
        left = others;
    }
    Ok(answers)
}
