// SPDX-License-Identifier: Apache-2.0
//! What is counted about a model version, from its first request on.
//!
//! Counters are written once per batch, not once per request, by the thread that finished the batch.
//! They are read by the statistics extension (`spec/triton.md` 7.2) and by [`crate::metrics`]. Where
//! Triton counts nowhere (full queues, invalid requests), Nerite counts too.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nerite_logic::schedulers::Reason;
use nerite_logic::{Code, Error};
use parking_lot::Mutex;

use crate::latencies::Latencies;
use crate::latencies::nanoseconds;
use crate::response_statistics::ResponseStatistics;

/// A count of events and the time they took together.
#[derive(Debug, Default)]
pub struct Spent {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Spent {
    /// Adds `count` events that took `total` together.
    pub fn add(&self, count: u64, total: Duration) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add(nanoseconds(total), Ordering::Relaxed);
    }

    /// Number of events.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Their time in nanoseconds.
    pub fn nanoseconds(&self) -> u64 {
        self.nanoseconds.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets in microseconds: 1-2-5 steps from 50 us to 10 s.
pub const LATENCY_BOUNDS_US: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// How often a duration fell into which bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are bounds: the last is for everything above.
    buckets: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_many(duration, 1);
    }

    /// Counts the same duration for several requests.
    pub fn observe_many(&self, duration: Duration, count: u64) {
        let micros = duration.as_micros();
        let index = LATENCY_BOUNDS_US.partition_point(|bound| u128::from(*bound) < micros);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(
            nanoseconds(duration).saturating_mul(count),
            Ordering::Relaxed,
        );
    }

    /// Cumulative counts, one for each bound and one for infinity, and the sum in nanoseconds.
    pub fn cumulative(&self) -> (Vec<u64>, u64) {
        let mut sum = 0;
        let counts = self.buckets.iter().map(|bucket| {
            sum += bucket.load(Ordering::Relaxed);
            sum
        });
        (counts.collect(), self.nanoseconds.load(Ordering::Relaxed))
    }
}

/// Why a request failed, in the words of `nv_inference_request_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Refused by the scheduler: queue full or queue timeout.
    Rejected,
    /// The caller went away.
    Canceled,
    /// The model raised an error.
    Backend,
    /// The request was invalid, or something else.
    Other,
}

impl Failure {
    /// Every reason, in the order of the metric.
    pub const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The label's value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }

    /// The reason for an error that the scheduler gave.
    #[must_use]
    pub const fn of_refusal(error: &Error) -> Self {
        match error.code {
            Code::Cancelled => Self::Canceled,
            _ => Self::Rejected,
        }
    }
}

/// Executions of one batch size.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchSize {
    /// How many.
    pub count: u64,
    /// Time to gather inputs, in nanoseconds.
    pub input_ns: u64,
    /// Time in the backend.
    pub infer_ns: u64,
    /// Time to take over outputs.
    pub output_ns: u64,
}

/// How long the phases of one execution took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Gathering inputs.
    pub input: Duration,
    /// The backend's `execute`.
    pub infer: Duration,
    /// Taking over outputs.
    pub output: Duration,
}

/// All counters of one model version.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Requests that succeeded, from receipt to reply.
    pub success: Spent,
    /// Requests that failed.
    pub fail: Spent,
    /// Time in the queue.
    pub queue: Spent,
    /// Time gathering inputs.
    pub compute_input: Spent,
    /// Time in the backend.
    pub compute_infer: Spent,
    /// Time taking over outputs.
    pub compute_output: Spent,
    /// Requests answered from the response cache, and the time to find the answer.
    pub cache_hit: Spent,
    /// Requests that were not, and the time to look for the answer and to keep it.
    pub cache_miss: Spent,
    /// Rows that succeeded.
    pub inferences: AtomicU64,
    /// Executions, failed ones too.
    pub executions: AtomicU64,
    failures: [AtomicU64; 4],
    reasons: [AtomicU64; 5],
    last_inference_ms: AtomicU64,
    /// How long the last load took, as the bits of a float in seconds; 0 until it is known.
    load_seconds: AtomicU64,
    /// What is kept only where it was asked for.
    pub latencies: Latencies,
    /// Responses of a decoupled model, by their place.
    pub responses: ResponseStatistics,
    /// From receipt to reply.
    pub request_latency: Histogram,
    /// In the queue.
    pub queue_latency: Histogram,
    /// In the backend.
    pub compute_latency: Histogram,
    by_size: Mutex<BTreeMap<u32, BatchSize>>,
}

/// The names of [`Reason`] in metrics, in the order in which they are counted.
pub const REASONS: [(Reason, &str); 5] = [
    (Reason::Full, "full"),
    (Reason::Preferred, "preferred"),
    (Reason::Delay, "delay"),
    (Reason::Idle, "idle"),
    (Reason::Single, "single"),
];

impl Statistics {
    /// Counters that start from zero.
    #[must_use]
    pub fn new(latencies: Latencies) -> Self {
        Self {
            latencies,
            ..Self::default()
        }
    }

    /// Notes how long loading took.
    pub fn loaded(&self, seconds: f64) {
        self.load_seconds
            .store(seconds.to_bits(), Ordering::Relaxed);
    }

    /// Seconds that loading took; 0 until it is known.
    pub fn load_seconds(&self) -> f64 {
        f64::from_bits(self.load_seconds.load(Ordering::Relaxed))
    }

    /// Counts one execution of `rows` rows.
    pub fn executed(&self, rows: u32, reason: Reason, phases: Phases) {
        self.executions.fetch_add(1, Ordering::Relaxed);
        if let Some(index) = REASONS.iter().position(|(known, _)| *known == reason)
            && let Some(counter) = self.reasons.get(index)
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.last_inference_ms.store(
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        let mut sizes = self.by_size.lock();
        let size = sizes.entry(rows).or_default();
        size.count += 1;
        size.input_ns += nanoseconds(phases.input);
        size.infer_ns += nanoseconds(phases.infer);
        size.output_ns += nanoseconds(phases.output);
    }

    /// Counts a failed request that took `duration`.
    pub fn failed(&self, why: Failure, duration: Duration) {
        self.fail.add(1, duration);
        if let Some(counter) = self.failures.get(why as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request that was answered from the response cache: `waited` before it was looked for,
    /// `looked` for it, and `lasted` in all.
    pub fn answered_from_cache(&self, waited: Duration, lasted: Duration, looked: Duration) {
        self.success.add(1, lasted);
        self.queue.add(1, waited);
        self.cache_hit.add(1, looked);
        self.request_latency.observe(lasted);
        self.queue_latency.observe(waited);
        self.latencies.answered_from_cache(waited, lasted, looked);
    }

    /// Counts the time that the response cache took from a request that was not answered from it.
    pub fn missed_the_cache(&self, took: Duration) {
        self.cache_miss.add(1, took);
        self.latencies.missed_the_cache(took);
    }

    /// Failed requests for one reason.
    pub fn failures(&self, why: Failure) -> u64 {
        self.failures
            .get(why as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// How many batches closed for each of [`REASONS`].
    pub fn reasons(&self) -> [u64; 5] {
        std::array::from_fn(|i| self.reasons.get(i).map_or(0, |c| c.load(Ordering::Relaxed)))
    }

    /// Executions by batch size, ascending.
    pub fn batch_sizes(&self) -> Vec<(u32, BatchSize)> {
        self.by_size
            .lock()
            .iter()
            .map(|(rows, size)| (*rows, *size))
            .collect()
    }

    /// Milliseconds since 1970 at the last execution; 0 if there was none.
    pub fn last_inference_ms(&self) -> u64 {
        self.last_inference_ms.load(Ordering::Relaxed)
    }
}

/// Memory that a model holds, as its backend tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    /// `CPU`, `CPU_PINNED` or `GPU`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which of its kind.
    pub id: i64,
    /// Bytes.
    pub byte_size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(50));
        histogram.observe(Duration::from_micros(51));
        histogram.observe_many(Duration::from_secs(60), 3);
        let (counts, sum) = histogram.cumulative();
        assert_eq!(counts.first(), Some(&1));
        assert_eq!(counts.get(1), Some(&2));
        assert_eq!(counts.get(LATENCY_BOUNDS_US.len() - 1), Some(&2));
        assert_eq!(counts.last(), Some(&5));
        assert_eq!(sum, 101_000 + 3 * 60_000_000_000);
    }
}
