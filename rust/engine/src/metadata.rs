// SPDX-License-Identifier: Apache-2.0
//! What a server and its models say about themselves, for both protocols.
#![allow(missing_docs)] // Names are those of the protocol (`spec/triton.md` 1.3, 7.2).

use crate::statistics::MemoryUsage;
use nerite_logic::spec::{IoSpec, ModelSpec};
use serde::{Serialize, Serializer};

use crate::options::Options;
use crate::response_statistics::{AtPlace, Tally};
use crate::routes::guard::Sight;
use crate::shared::Shared;
use crate::statistics::{Spent, Statistics};
use crate::table::Table;
use crate::version::Version;
use nerite_logic::Error;
use std::sync::Arc;

/// The answer to `GET /v2`.
#[derive(Serialize)]
pub struct Server<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub extensions: &'a [String],
}

impl<'a> Server<'a> {
    pub fn of(options: &'a Options) -> Self {
        Self {
            name: &options.server_name,
            version: &options.server_version,
            extensions: &options.extensions,
        }
    }
}

/// An input or output in a model's metadata.
#[derive(Serialize)]
pub struct TensorMetadata {
    pub name: String,
    pub datatype: &'static str,
    pub shape: Vec<i64>,
}

impl TensorMetadata {
    fn of(spec: &ModelSpec, tensor: &IoSpec, dims: &[i64]) -> Self {
        let batch = spec.batches().then_some(-1);
        Self {
            name: tensor.name.to_string(),
            datatype: tensor.datatype.name(),
            shape: batch.into_iter().chain(dims.iter().copied()).collect(),
        }
    }
}

/// The answer to `GET /v2/models/{m}`.
#[derive(Serialize)]
pub struct Model {
    pub name: String,
    pub versions: Vec<String>,
    pub platform: String,
    pub inputs: Vec<TensorMetadata>,
    pub outputs: Vec<TensorMetadata>,
}

impl Model {
    /// About `version`; lists all ready versions unless `only` this one was asked for.
    pub fn of(table: &Table, version: &Version, only: bool) -> Self {
        let spec = &version.spec;
        let inputs = spec.inputs.iter();
        let outputs = spec.outputs.iter();
        let ready = table
            .entry(&spec.name)
            .map(|entry| entry.ready.as_slice())
            .unwrap_or_default();
        Self {
            name: spec.name.to_string(),
            versions: match only {
                true => vec![version.number_text.to_string()],
                false => ready
                    .iter()
                    .map(|version| version.number_text.to_string())
                    .collect(),
            },
            platform: spec.platform.to_string(),
            inputs: inputs
                .map(|input| TensorMetadata::of(spec, input, &input.dims))
                .collect(),
            outputs: outputs
                .map(|output| TensorMetadata::of(spec, output, spec.answered_dims(output)))
                .collect(),
        }
    }
}

/// A count and its time, as the statistics extension prints it.
#[derive(Serialize, Clone, Copy, Default)]
pub struct Duration {
    pub count: u64,
    pub ns: u64,
}

impl From<&Spent> for Duration {
    fn from(spent: &Spent) -> Self {
        Self {
            count: spent.count(),
            ns: spent.nanoseconds(),
        }
    }
}

#[derive(Serialize)]
pub struct InferenceStatistics {
    pub success: Duration,
    pub fail: Duration,
    pub queue: Duration,
    pub compute_input: Duration,
    pub compute_infer: Duration,
    pub compute_output: Duration,
    pub cache_hit: Duration,
    pub cache_miss: Duration,
}

#[derive(Serialize)]
pub struct BatchStatistics {
    pub batch_size: u64,
    pub compute_input: Duration,
    pub compute_infer: Duration,
    pub compute_output: Duration,
}

/// The responses of a decoupled model at one place.
#[derive(Serialize)]
pub struct ResponseStatistics {
    pub compute_infer: Duration,
    pub compute_output: Duration,
    pub success: Duration,
    pub fail: Duration,
    pub empty_response: Duration,
    pub cancel: Duration,
}

impl From<AtPlace> for ResponseStatistics {
    fn from(at: AtPlace) -> Self {
        let spent = |tally: Tally| Duration {
            count: tally.count,
            ns: tally.ns,
        };
        Self {
            compute_infer: spent(at.compute_infer),
            compute_output: spent(at.compute_output),
            success: spent(at.success),
            fail: spent(at.fail),
            empty_response: spent(at.empty_response),
            cancel: spent(at.cancel),
        }
    }
}

/// One entry of the statistics extension (`spec/triton.md` 7.2).
#[derive(Serialize)]
pub struct ModelStatistics {
    pub name: String,
    pub version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub last_inference: u64,
    pub inference_count: u64,
    pub execution_count: u64,
    pub inference_stats: InferenceStatistics,
    /// By place of the response; filled by decoupled models only.
    #[serde(serialize_with = "by_place")]
    pub response_stats: Vec<ResponseStatistics>,
    pub batch_stats: Vec<BatchStatistics>,
    pub memory_usage: Vec<MemoryUsage>,
}

fn by_place<S: Serializer>(all: &[ResponseStatistics], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        all.iter()
            .enumerate()
            .map(|(place, at)| (place.to_string(), at)),
    )
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The signature is serde's.
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ModelStatistics {
    pub fn of(version: &Version) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let counted: &Statistics = &version.statistics;
        let batches = counted
            .batch_sizes()
            .into_iter()
            .map(|(rows, size)| BatchStatistics {
                batch_size: u64::from(rows),
                compute_input: Duration {
                    count: size.count,
                    ns: size.input_ns,
                },
                compute_infer: Duration {
                    count: size.count,
                    ns: size.infer_ns,
                },
                compute_output: Duration {
                    count: size.count,
                    ns: size.output_ns,
                },
            });
        Self {
            name: version.spec.name.to_string(),
            version: version.number_text.to_string(),
            last_inference: counted.last_inference_ms(),
            inference_count: counted.inferences.load(Relaxed),
            execution_count: counted.executions.load(Relaxed),
            inference_stats: InferenceStatistics {
                success: (&counted.success).into(),
                fail: (&counted.fail).into(),
                queue: (&counted.queue).into(),
                compute_input: (&counted.compute_input).into(),
                compute_infer: (&counted.compute_infer).into(),
                compute_output: (&counted.compute_output).into(),
                cache_hit: (&counted.cache_hit).into(),
                cache_miss: (&counted.cache_miss).into(),
            },
            response_stats: counted
                .responses
                .read()
                .into_iter()
                .map(Into::into)
                .collect(),
            batch_stats: batches.collect(),
            memory_usage: version.memory.get().cloned().unwrap_or_default(),
        }
    }

    /// The same as JSON, for the control plane.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The statistics of one version, of all versions of a model, or of everything that may be seen.
pub fn statistics_of(
    name: Option<&str>,
    number: Option<u64>,
    sight: Sight<'_>,
    shared: &Shared,
) -> Result<Vec<ModelStatistics>, Error> {
    let table = shared.table();
    let Some(name) = name else {
        return Ok(table
            .ready()
            .filter(|version| sight.sees(&version.spec.name))
            .map(|version| ModelStatistics::of(version))
            .collect());
    };
    let versions: Vec<&Arc<Version>> = match table.entry(name) {
        Some(entry) => entry
            .ready
            .iter()
            .filter(|v| number.is_none_or(|n| v.number == n))
            .collect(),
        None => Vec::new(),
    };
    if versions.is_empty() {
        return Err(Error::invalid(match number {
            Some(_) => format!("requested model version is not available for model '{name}'"),
            None => format!("requested model '{name}' is not available"),
        }));
    }
    Ok(versions
        .into_iter()
        .map(|version| ModelStatistics::of(version))
        .collect())
}
