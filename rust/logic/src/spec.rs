// SPDX-License-Identifier: Apache-2.0
//! What a model declares: the parts of its completed configuration that every request is held against.
//!
//! The control plane hands the configuration over as the JSON that the config endpoint answers with
//! (one schema, `spec/triton.md` 1.3), and only the fields that the data plane needs are read here.

mod sequences;

use std::collections::BTreeMap;
use std::time::Duration;

use bytestring::ByteString;
use serde::Deserialize;

use crate::DataType;
use crate::error::Error;
use crate::rate_limit::Group;

mod ensemble;

pub use ensemble::{EnsembleSpec, StepSpec, Tie};

pub use sequences::{ControlSpec, Direct, Oldest, SequenceBatching, SequenceStrategy, Tells};

/// The parameter of a configuration that says [`ModelSpec::as_kserve`].
const AS_KSERVE: &str = "accept_as_kserve";

/// A declared input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoSpec {
    /// Its name.
    pub name: ByteString,
    /// Its element type.
    pub datatype: DataType,
    /// Its dimensions without the batch dimension; -1 for a size chosen by the request.
    pub dims: Vec<i64>,
    /// The dimensions that the backend sees instead of `dims`, if they differ.
    pub reshape: Option<Vec<i64>>,
    /// Inputs: the request may leave it out.
    pub optional: bool,
    /// Inputs: requests of unequal shape may share a batch.
    pub allow_ragged_batch: bool,
}

impl IoSpec {
    /// Whether requests may send different shapes for it.
    #[must_use]
    pub fn is_variable(&self) -> bool {
        self.dims.contains(&-1)
    }
}

/// What happens to a request whose queue timeout has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimeoutAction {
    /// It is refused.
    #[default]
    Reject,
    /// It waits behind all requests that are not late.
    Delay,
}

/// How long and in what company requests may wait (`spec/triton.md` 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueuePolicy {
    /// What happens at the timeout.
    pub timeout_action: TimeoutAction,
    /// The timeout of requests that bring none; `None` is forever.
    pub default_timeout: Option<Duration>,
    /// Requests may shorten the timeout.
    pub allow_timeout_override: bool,
    /// Most requests that may wait; `None` is no limit.
    pub max_queue_size: Option<usize>,
}

/// How requests become batches.
#[derive(Clone, Debug, PartialEq)]
pub enum SchedulerSpec {
    /// One request per execution, first come first served.
    Default,
    /// Triton's dynamic batcher (`spec/triton.md` 5.2).
    Dynamic(DynamicBatching),
    /// The sequence batcher (`spec/triton.md` 5.4).
    Sequences(SequenceBatching),
}

/// The settings of the dynamic batcher.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DynamicBatching {
    /// Batch sizes, ascending, that are sent without waiting for the delay.
    pub preferred_sizes: Vec<u32>,
    /// How long the oldest request may wait for company.
    pub max_queue_delay: Duration,
    /// Responses leave in the order in which requests came.
    pub preserve_ordering: bool,
    /// The default queue policy.
    pub policy: QueuePolicy,
    /// The levels of priority, if there are any.
    pub priorities: Option<Priorities>,
}

/// Levels of priority, of which 1 runs first (`spec/triton.md` 5.3).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Priorities {
    /// How many there are.
    pub levels: u32,
    /// The level of requests that ask for none, or for one that there is not.
    pub default: u32,
    /// The policies of levels that do not have the default one.
    pub policies: BTreeMap<u32, QueuePolicy>,
}

impl Priorities {
    /// The level of a request that asks for `priority`.
    #[must_use]
    pub fn level(&self, priority: u32) -> u32 {
        if (1..=self.levels).contains(&priority) {
            priority
        } else {
            self.default
        }
    }

    /// The policy of `level`, where `default` is that of levels without one.
    #[must_use]
    pub fn policy(&self, level: u32, default: QueuePolicy) -> QueuePolicy {
        self.policies.get(&level).copied().unwrap_or(default)
    }
}

/// A model version as the data plane knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The model's name.
    pub name: ByteString,
    /// `platform`, or the backend if there is none: what metadata calls platform.
    pub platform: ByteString,
    /// Most rows in one execution; 0 if tensors have no batch dimension.
    pub max_batch_size: u32,
    /// Declared inputs, in order.
    pub inputs: Vec<IoSpec>,
    /// Declared outputs, in order.
    pub outputs: Vec<IoSpec>,
    /// It may answer a request with any number of responses.
    pub decoupled: bool,
    /// How requests become batches.
    pub scheduler: SchedulerSpec,
    /// The instance groups that run, and what their instances need beside each other.
    pub groups: Vec<Group>,
    /// Its answers may be kept and given again (`response_cache`).
    pub caches: bool,
    /// The models that do the work, if it is an ensemble.
    pub ensemble: Option<EnsembleSpec>,
    /// It takes and answers what KServe's own servers do, which look at an input's rows alone.
    pub as_kserve: bool,
    /// Extra metric labels, without the leading underscore.
    pub metric_tags: BTreeMap<String, String>,
    /// Upper bounds of histograms by the name of their family, where the configuration chooses them.
    pub histogram_buckets: BTreeMap<String, Vec<f64>>,
}

impl ModelSpec {
    /// Reads the completed configuration, as the config endpoint shows it.
    ///
    /// # Errors
    /// If `json` is not such a configuration or names an element type that does not exist.
    pub fn from_config_json(json: &str) -> Result<Self, Error> {
        let config: Config = serde_json::from_str(json)
            .map_err(|why| Error::invalid(format!("model configuration is not usable: {why}")))?;
        config.into_spec()
    }

    /// Whether tensors carry a batch dimension.
    #[must_use]
    pub const fn batches(&self) -> bool {
        self.max_batch_size > 0
    }

    /// Whether answers leave in the order in which their requests came.
    #[must_use]
    pub const fn preserves_order(&self) -> bool {
        matches!(&self.scheduler, SchedulerSpec::Dynamic(dynamic) if dynamic.preserve_ordering)
    }

    /// The inputs that the scheduler adds to what requests bring.
    #[must_use]
    pub fn controls(&self) -> &[ControlSpec] {
        match &self.scheduler {
            SchedulerSpec::Sequences(settings) => &settings.controls,
            SchedulerSpec::Default | SchedulerSpec::Dynamic(_) => &[],
        }
    }

    /// What an execution gets: the declared inputs and those that the scheduler adds.
    pub fn batch_inputs(&self) -> impl Iterator<Item = &IoSpec> {
        let added = self.controls().iter().map(|control| &control.input);
        self.inputs.iter().chain(added)
    }

    /// The input at a place of [`Self::batch_inputs`].
    #[must_use]
    pub fn batch_input(&self, place: usize) -> Option<&IoSpec> {
        self.inputs.get(place).or_else(|| {
            let added = place.checked_sub(self.inputs.len())?;
            self.controls().get(added).map(|control| &control.input)
        })
    }

    /// The declared input called `name`, with its index.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<(usize, &IoSpec)> {
        self.inputs
            .iter()
            .enumerate()
            .find(|(_, input)| &*input.name == name)
    }

    /// The dimensions of an output as clients see them, behind the batch dimension. KServe's servers answer
    /// with the array as it is: one value per row is one dimension, which no `dims` can say.
    #[must_use]
    pub fn answered_dims<'a>(&self, output: &'a IoSpec) -> &'a [i64] {
        match &output.reshape {
            Some(reshape) if self.as_kserve => reshape,
            _ => &output.dims,
        }
    }

    /// The declared output called `name`.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&IoSpec> {
        self.outputs.iter().find(|output| &*output.name == name)
    }
}

#[derive(Deserialize)]
struct Config {
    name: String,
    #[serde(default)]
    platform: String,
    #[serde(default)]
    backend: String,
    #[serde(default)]
    max_batch_size: u32,
    #[serde(default)]
    input: Vec<Io>,
    #[serde(default)]
    output: Vec<Io>,
    #[serde(default)]
    dynamic_batching: Option<Dynamic>,
    ensemble_scheduling: Option<ensemble::Ensembling>,
    #[serde(default)]
    sequence_batching: Option<sequences::Sequence>,
    #[serde(default)]
    model_transaction_policy: Option<Transaction>,
    #[serde(default)]
    instance_group: Vec<Group>,
    #[serde(default)]
    response_cache: ResponseCache,
    #[serde(default)]
    metric_tags: BTreeMap<String, String>,
    #[serde(default)]
    parameters: BTreeMap<String, ConfigParameter>,
    #[serde(default)]
    model_metrics: ModelMetrics,
}

#[derive(Deserialize)]
struct ConfigParameter {
    #[serde(default)]
    string_value: String,
}

#[derive(Default, Deserialize)]
struct ResponseCache {
    #[serde(default)]
    enable: bool,
}

#[derive(Default, Deserialize)]
struct ModelMetrics {
    #[serde(default)]
    metric_control: Vec<MetricControl>,
}

#[derive(Deserialize)]
struct MetricControl {
    metric_identifier: MetricIdentifier,
    histogram_options: HistogramOptions,
}

#[derive(Deserialize)]
struct MetricIdentifier {
    family: String,
}

#[derive(Deserialize)]
struct HistogramOptions {
    buckets: Vec<f64>,
}

impl ModelMetrics {
    fn into_buckets(self) -> BTreeMap<String, Vec<f64>> {
        let controls = self.metric_control.into_iter();
        controls
            .map(|control| {
                (
                    control.metric_identifier.family,
                    control.histogram_options.buckets,
                )
            })
            .collect()
    }
}

#[derive(Deserialize)]
struct Io {
    name: String,
    data_type: String,
    #[serde(default)]
    dims: Vec<i64>,
    reshape: Option<Reshape>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    allow_ragged_batch: bool,
}

#[derive(Deserialize)]
struct Reshape {
    #[serde(default)]
    shape: Vec<i64>,
}

#[derive(Deserialize)]
struct Dynamic {
    #[serde(default)]
    preferred_batch_size: Vec<u32>,
    #[serde(default)]
    max_queue_delay_microseconds: u64,
    #[serde(default)]
    preserve_ordering: bool,
    default_queue_policy: Option<Policy>,
    #[serde(default)]
    priority_levels: u64,
    #[serde(default)]
    default_priority_level: u64,
    #[serde(default)]
    priority_queue_policy: BTreeMap<u64, Policy>,
}

#[derive(Deserialize)]
struct Policy {
    #[serde(default)]
    timeout_action: String,
    #[serde(default)]
    default_timeout_microseconds: u64,
    #[serde(default)]
    allow_timeout_override: bool,
    #[serde(default)]
    max_queue_size: usize,
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    decoupled: bool,
}

impl Config {
    fn into_spec(self) -> Result<ModelSpec, Error> {
        let model = self.name.clone();
        let io = |list: Vec<Io>| {
            list.into_iter()
                .map(|io| io.into_spec(&model))
                .collect::<Result<Vec<_>, Error>>()
        };
        let platform = if self.platform.is_empty() {
            self.backend
        } else {
            self.platform
        };
        let decoupled = self.model_transaction_policy;
        let decoupled = decoupled.is_some_and(|policy| policy.decoupled);
        let (inputs, outputs) = (io(self.input)?, io(self.output)?);
        let ensemble = self
            .ensemble_scheduling
            .map(|steps| steps.into_spec(&model, &inputs, &outputs))
            .transpose()?;
        let groups: Vec<Group> = (self.instance_group.into_iter())
            .filter(|group| !group.passive)
            .collect();
        // What an ensemble answers depends on models that may be loaded anew.
        let caches = self.response_cache.enable && !decoupled && ensemble.is_none();
        Ok(ModelSpec {
            caches,
            inputs,
            outputs,
            ensemble,
            platform: platform.into(),
            max_batch_size: self.max_batch_size,
            decoupled,
            scheduler: match (self.dynamic_batching, self.sequence_batching) {
                (_, Some(sequences)) => {
                    let instances = groups.iter().map(|group| group.count as usize).sum();
                    SchedulerSpec::Sequences(sequences.into_settings(instances, &model)?)
                }
                (Some(dynamic), None) => SchedulerSpec::Dynamic(dynamic.into_settings()),
                (None, None) => SchedulerSpec::Default,
            },
            groups,
            as_kserve: self
                .parameters
                .get(AS_KSERVE)
                .is_some_and(|parameter| parameter.string_value == "true"),
            metric_tags: self.metric_tags,
            histogram_buckets: self.model_metrics.into_buckets(),
            name: self.name.into(),
        })
    }
}

impl Io {
    fn into_spec(self, model: &str) -> Result<IoSpec, Error> {
        let datatype = DataType::from_config(&self.data_type).ok_or_else(|| {
            Error::invalid(format!(
                "tensor '{}' of model '{model}' has data_type '{}', which no tensor can have",
                self.name, self.data_type
            ))
        })?;
        Ok(IoSpec {
            name: self.name.into(),
            datatype,
            dims: self.dims,
            reshape: self.reshape.map(|reshape| reshape.shape),
            optional: self.optional,
            allow_ragged_batch: self.allow_ragged_batch,
        })
    }
}

impl Dynamic {
    fn into_settings(mut self) -> DynamicBatching {
        self.preferred_batch_size.sort_unstable();
        self.preferred_batch_size.dedup();
        let level = |level: u64| u32::try_from(level).unwrap_or(u32::MAX);
        let priorities = (self.priority_levels > 0).then(|| Priorities {
            levels: level(self.priority_levels),
            default: level(self.default_priority_level),
            policies: (self.priority_queue_policy.into_iter())
                .map(|(of, policy)| (level(of), policy.into_settings()))
                .collect(),
        });
        DynamicBatching {
            priorities,
            preferred_sizes: self.preferred_batch_size,
            max_queue_delay: Duration::from_micros(self.max_queue_delay_microseconds),
            preserve_ordering: self.preserve_ordering,
            policy: self
                .default_queue_policy
                .map(Policy::into_settings)
                .unwrap_or_default(),
        }
    }
}

impl Policy {
    fn into_settings(self) -> QueuePolicy {
        QueuePolicy {
            timeout_action: match self.timeout_action.as_str() {
                "DELAY" => TimeoutAction::Delay,
                _ => TimeoutAction::Reject,
            },
            default_timeout: (self.default_timeout_microseconds > 0)
                .then(|| Duration::from_micros(self.default_timeout_microseconds)),
            allow_timeout_override: self.allow_timeout_override,
            max_queue_size: (self.max_queue_size > 0).then_some(self.max_queue_size),
        }
    }
}
