// SPDX-License-Identifier: Apache-2.0
//! The steps of an ensemble, as its configuration names them, with tensors as numbers.

use std::collections::BTreeMap;

use bytestring::ByteString;
use serde::Deserialize;

use super::IoSpec;
use crate::error::Error;

/// A tensor of a step's model, and the ensemble tensor that it is tied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// What the model calls it.
    pub name: ByteString,
    /// The number of the ensemble tensor.
    pub tensor: usize,
}

/// One model of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// The model's name.
    pub model: ByteString,
    /// The version that is called; `None` for the latest.
    pub version: Option<u64>,
    /// What it reads.
    pub inputs: Vec<Tie>,
    /// What it writes.
    pub outputs: Vec<Tie>,
}

/// What an ensemble consists of (`spec/triton.md` 5.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleSpec {
    /// How many tensors there are; the ensemble's inputs are the first, in their order.
    pub tensors: usize,
    /// The tensor of each declared output.
    pub outputs: Vec<usize>,
    /// The steps, in the order of the configuration.
    pub steps: Vec<StepSpec>,
    /// Most requests that each step may have under way, over all requests of the ensemble.
    pub most_in_flight: Option<usize>,
}

/// `ensemble_scheduling` of a configuration.
#[derive(Deserialize)]
pub(super) struct Ensembling {
    #[serde(default)]
    step: Vec<Step>,
    #[serde(default)]
    max_inflight_requests: usize,
}

#[derive(Deserialize)]
struct Step {
    model_name: String,
    #[serde(default)]
    model_version: i64,
    #[serde(default)]
    input_map: BTreeMap<String, String>,
    #[serde(default)]
    output_map: BTreeMap<String, String>,
}

/// Numbers for names.
#[derive(Default)]
struct Numbers(BTreeMap<String, usize>);

impl Numbers {
    fn of(&mut self, name: &str) -> usize {
        let next = self.0.len();
        *self.0.entry(name.to_owned()).or_insert(next)
    }

    fn ties(&mut self, map: &BTreeMap<String, String>) -> Vec<Tie> {
        let tie = |(name, tensor): (&String, &String)| Tie {
            name: name.as_str().into(),
            tensor: self.of(tensor),
        };
        map.iter().map(tie).collect()
    }
}

impl Ensembling {
    pub(super) fn into_spec(
        self,
        model: &str,
        inputs: &[IoSpec],
        outputs: &[IoSpec],
    ) -> Result<EnsembleSpec, Error> {
        let mut numbers = Numbers::default();
        for input in inputs {
            numbers.of(&input.name);
        }
        let mut steps = Vec::with_capacity(self.step.len());
        for step in self.step {
            steps.push(StepSpec {
                version: match step.model_version {
                    -1 => None,
                    number => Some(u64::try_from(number).map_err(|_| {
                        Error::invalid(format!(
                            "ensemble '{model}' asks for version {number} of '{}'; a version, or \
                             -1 for the latest, is expected",
                            step.model_name
                        ))
                    })?),
                },
                inputs: numbers.ties(&step.input_map),
                outputs: numbers.ties(&step.output_map),
                model: step.model_name.into(),
            });
        }
        Ok(EnsembleSpec {
            outputs: outputs.iter().map(|io| numbers.of(&io.name)).collect(),
            tensors: numbers.0.len(),
            steps,
            most_in_flight: (self.max_inflight_requests > 0).then_some(self.max_inflight_requests),
        })
    }
}
