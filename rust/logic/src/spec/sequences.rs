// SPDX-License-Identifier: Apache-2.0
//! What a configuration says about sequences (`spec/triton.md` 5.4).

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use smallvec::smallvec;

use super::IoSpec;
use crate::DataType;
use crate::error::Error;
use crate::message::{CorrelationId, Shape, Tensor};

/// Longer than any server runs, and short enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The settings of the sequence batcher.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceBatching {
    /// How requests of different sequences become batches.
    pub strategy: SequenceStrategy,
    /// A sequence without requests for so long ends by itself.
    pub max_idle: Duration,
    /// Instances of the model, each with slots of its own.
    pub instances: usize,
    /// Inputs that tell the model where in which sequence a request stands.
    pub controls: Vec<ControlSpec>,
}

/// How requests of different sequences become batches.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceStrategy {
    /// Each sequence has a row of its own.
    Direct(Direct),
    /// The oldest requests run together.
    Oldest(Oldest),
}

/// The settings of the strategy *direct*.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Direct {
    /// How long the oldest request may wait for company.
    pub max_delay: Duration,
    /// The share of the slots that need not wait; 0 is to wait for nothing.
    pub minimum_share: f32,
}

/// The settings of the strategy *oldest*.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oldest {
    /// Most sequences under way in one instance; 0 for as many as a batch has rows.
    pub max_candidates: usize,
    /// Batch sizes that are sent without waiting for the delay.
    pub preferred_sizes: Vec<u32>,
    /// How long the oldest request may wait for company.
    pub max_delay: Duration,
}

/// An input that the scheduler adds to every request.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlSpec {
    /// The input.
    pub input: IoSpec,
    /// What it tells.
    pub tells: Tells,
}

/// What a control input tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Tells {
    /// Whether it is the first request of its sequence: the bytes of no and yes.
    Start([Bytes; 2]),
    /// Whether it is the last one.
    End([Bytes; 2]),
    /// Whether there is a request in this row.
    Ready([Bytes; 2]),
    /// The correlation id.
    Id,
}

impl ControlSpec {
    /// The tensor for a request with these flags; `present` is false for a row without a request.
    #[must_use]
    pub fn tensor(
        &self,
        id: &CorrelationId,
        (start, end, present): (bool, bool, bool),
        batches: bool,
    ) -> Tensor {
        let data = match &self.tells {
            Tells::Start(values) => values[usize::from(start)].clone(),
            Tells::End(values) => values[usize::from(end)].clone(),
            Tells::Ready(values) => values[usize::from(present)].clone(),
            Tells::Id => id_bytes(id, self.input.datatype),
        };
        let shape: Shape = if batches {
            smallvec![1, 1]
        } else {
            smallvec![1]
        };
        Tensor {
            name: self.input.name.clone(),
            datatype: self.input.datatype,
            shape,
            data,
        }
    }

    /// Makes sure that the id of a request can be told to the model.
    ///
    /// # Errors
    /// If it is text and the model takes a number.
    pub fn admits(&self, id: &CorrelationId, model: &str) -> Result<(), Error> {
        let (CorrelationId::Text(_), Tells::Id) = (id, &self.tells) else {
            return Ok(());
        };
        if self.input.datatype == DataType::Bytes {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "sequence batching control '{}' data-type is 'BYTES', but model '{model}' expects '{}'",
            self.input.name,
            self.input.datatype.name()
        )))
    }
}

/// An id as an element of `datatype`; what does not fit into 32 bits is cut off, as Triton does.
fn id_bytes(id: &CorrelationId, datatype: DataType) -> Bytes {
    let number = match id {
        CorrelationId::Number(number) => *number,
        CorrelationId::None | CorrelationId::Text(_) => 0,
    };
    match datatype {
        DataType::Bytes => {
            let text = match id {
                CorrelationId::None => String::new(),
                id => id.to_string(),
            };
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            [&length.to_le_bytes()[..], text.as_bytes()].concat().into()
        }
        DataType::Uint32 | DataType::Int32 => Bytes::copy_from_slice(&number.to_le_bytes()[..4]),
        _ => Bytes::copy_from_slice(&number.to_le_bytes()),
    }
}

#[derive(Deserialize)]
pub(super) struct Sequence {
    #[serde(default)]
    max_sequence_idle_microseconds: u64,
    #[serde(default)]
    control_input: Vec<ControlInput>,
    direct: Option<DirectFields>,
    oldest: Option<OldestFields>,
}

#[derive(Deserialize)]
struct ControlInput {
    name: String,
    #[serde(default)]
    control: Vec<Control>,
}

#[derive(Deserialize)]
struct Control {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    int32_false_true: Vec<i32>,
    #[serde(default)]
    fp32_false_true: Vec<f32>,
    #[serde(default)]
    bool_false_true: Vec<bool>,
    #[serde(default)]
    data_type: String,
}

#[derive(Default, Deserialize)]
struct DirectFields {
    #[serde(default)]
    max_queue_delay_microseconds: u64,
    #[serde(default)]
    minimum_slot_utilization: f32,
}

#[derive(Deserialize)]
struct OldestFields {
    #[serde(default)]
    max_candidate_sequences: usize,
    #[serde(default)]
    preferred_batch_size: Vec<u32>,
    #[serde(default)]
    max_queue_delay_microseconds: u64,
}

fn delay(micros: u64) -> Duration {
    Duration::from_micros(micros).min(LONGEST)
}

impl Sequence {
    pub(super) fn into_settings(
        self,
        instances: usize,
        model: &str,
    ) -> Result<SequenceBatching, Error> {
        let strategy = match (self.oldest, self.direct) {
            (Some(oldest), _) => SequenceStrategy::Oldest(Oldest {
                max_candidates: oldest.max_candidate_sequences,
                preferred_sizes: oldest.preferred_batch_size,
                max_delay: delay(oldest.max_queue_delay_microseconds),
            }),
            (None, direct) => {
                let direct = direct.unwrap_or_default();
                let share = direct.minimum_slot_utilization;
                SequenceStrategy::Direct(Direct {
                    // Without a share to wait for there is nothing to wait for.
                    max_delay: match share > 0.0 {
                        true => delay(direct.max_queue_delay_microseconds),
                        false => Duration::ZERO,
                    },
                    minimum_share: share,
                })
            }
        };
        let inputs = self.control_input.into_iter();
        let controls = inputs.flat_map(|input| {
            let name = input.name;
            input
                .control
                .into_iter()
                .map(move |control| control.into_spec(&name, model))
        });
        Ok(SequenceBatching {
            strategy,
            max_idle: delay(self.max_sequence_idle_microseconds),
            instances,
            controls: controls.collect::<Result<_, _>>()?,
        })
    }
}

impl Control {
    fn into_spec(self, name: &str, model: &str) -> Result<ControlSpec, Error> {
        let unusable = || {
            Error::invalid(format!(
                "control input '{name}' of model '{model}' has no usable values"
            ))
        };
        let (datatype, tells) = if self.kind == "CONTROL_SEQUENCE_CORRID" {
            let datatype = DataType::from_config(&self.data_type).ok_or_else(unusable)?;
            (datatype, Tells::Id)
        } else {
            let (datatype, values) = self.values().ok_or_else(unusable)?;
            let tells = match self.kind.as_str() {
                "CONTROL_SEQUENCE_END" => Tells::End(values),
                "CONTROL_SEQUENCE_READY" => Tells::Ready(values),
                _ => Tells::Start(values),
            };
            (datatype, tells)
        };
        let input = IoSpec {
            name: name.into(),
            datatype,
            dims: vec![1],
            reshape: None,
            optional: false,
            allow_ragged_batch: false,
        };
        Ok(ControlSpec { input, tells })
    }

    /// What no and yes look like to the model.
    fn values(&self) -> Option<(DataType, [Bytes; 2])> {
        let two = |no: &[u8], yes: &[u8]| [no, yes].map(Bytes::copy_from_slice);
        match (
            &*self.int32_false_true,
            &*self.fp32_false_true,
            &*self.bool_false_true,
        ) {
            ([no, yes], ..) => Some((DataType::Int32, two(&no.to_le_bytes(), &yes.to_le_bytes()))),
            (_, [no, yes], _) => Some((DataType::Fp32, two(&no.to_le_bytes(), &yes.to_le_bytes()))),
            (.., [no, yes]) => Some((DataType::Bool, two(&[u8::from(*no)], &[u8::from(*yes)]))),
            _ => None,
        }
    }
}
