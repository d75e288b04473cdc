// SPDX-License-Identifier: Apache-2.0
//! Latencies that are kept only where they were asked for: summaries with quantiles, and the histogram of the
//! first response (`spec/triton.md` 7.1, `--metrics-config`).
//!
//! A version that keeps neither has neither: a batch looks at two empty options and goes on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nerite_logic::quantiles::{Target, Window};
use nerite_logic::spec::ModelSpec;
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;

/// The family whose buckets a configuration may choose.
pub const FIRST_RESPONSE: &str = "nv_inference_first_response_histogram_ms";
/// Its buckets in milliseconds if the configuration does not.
const FIRST_RESPONSE_MS: [f64; 4] = [100.0, 500.0, 2000.0, 5000.0];

/// Which latencies are told, and how; Triton's `--metrics-config`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyOptions {
    /// The sums of microseconds.
    pub counters: bool,
    /// Triton's histogram of the first response.
    pub first_response: bool,
    /// Summaries.
    pub summaries: bool,
    /// Their quantiles, each with its error.
    pub quantiles: Vec<(f64, f64)>,
}

impl Default for LatencyOptions {
    fn default() -> Self {
        Self {
            counters: true,
            first_response: false,
            summaries: false,
            quantiles: Vec::new(),
        }
    }
}

/// How often a number fell between which bounds.
#[derive(Debug)]
pub struct Buckets {
    /// Upper bounds, ascending.
    bounds: Box<[f64]>,
    /// One more than there are bounds: the last is for everything above.
    counts: Box<[AtomicU64]>,
    /// The sum of all numbers, as the bits of a float.
    sum: AtomicU64,
}

impl Buckets {
    /// Empty buckets with these upper bounds, in any order.
    #[must_use]
    pub fn new(bounds: &[f64]) -> Self {
        let mut bounds = bounds.to_vec();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        Self {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds: bounds.into(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one number.
    pub fn observe(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Relaxed);
        }
        add(&self.sum, value);
    }

    /// Bounds with their cumulative counts; the count of everything; the sum.
    pub fn cumulative(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut total = 0;
        let each = self.counts.iter().map(|count| {
            total += count.load(Relaxed);
            total
        });
        let counts: Vec<u64> = each.collect();
        let bounded = self.bounds.iter().copied().zip(counts.iter().copied());
        (
            bounded.collect(),
            total,
            f64::from_bits(self.sum.load(Relaxed)),
        )
    }
}

/// Adds to a float that is kept as bits.
pub fn add(bits: &AtomicU64, value: f64) {
    let sum = |now: u64| Some((f64::from_bits(now) + value).to_bits());
    let _ = bits.fetch_update(Relaxed, Relaxed, sum);
}

/// How long the phases of one request took.
#[derive(Clone, Copy, Debug)]
pub struct Lasted {
    /// From receipt to reply.
    pub request: Duration,
    /// In the queue.
    pub queue: Duration,
    /// Gathering inputs.
    pub input: Duration,
    /// In the backend.
    pub infer: Duration,
    /// Taking over outputs.
    pub output: Duration,
}

/// The summaries of a version, in the order of their families.
#[derive(Debug)]
pub struct Summaries {
    began: Instant,
    /// Locked once for a batch.
    windows: Mutex<[Window; 5]>,
    /// Of a model that caches: hits and misses.
    cache: Option<Mutex<[Window; 2]>>,
}

/// A summary as it is printed: quantiles with their values, count, sum.
pub type Summary = (Vec<(f64, f64)>, u64, f64);

/// The summaries while a batch is counted.
pub struct Open<'a> {
    now: Duration,
    windows: MutexGuard<'a, [Window; 5]>,
}

impl Summaries {
    fn new(targets: &[Target], caches: bool) -> Self {
        let cache = || Mutex::new(std::array::from_fn(|_| Window::new(targets)));
        Self {
            began: Instant::now(),
            windows: Mutex::new(std::array::from_fn(|_| Window::new(targets))),
            cache: caches.then(cache),
        }
    }

    /// Opens them for a batch.
    pub fn open(&self) -> Open<'_> {
        Open {
            now: self.began.elapsed(),
            windows: self.windows.lock(),
        }
    }

    /// All of them as they are now.
    pub fn read(&self) -> [Summary; 5] {
        let mut open = self.open();
        let now = open.now;
        read(&mut open.windows, now)
    }

    /// Those of the response cache, hits and misses, if the model has it.
    pub fn read_cache(&self) -> Option<[Summary; 2]> {
        let windows = self.cache.as_ref()?;
        Some(read(&mut windows.lock(), self.began.elapsed()))
    }

    fn observe_cache(&self, which: usize, took: Duration) {
        if let Some(windows) = &self.cache
            && let Some(window) = windows.lock().get_mut(which)
        {
            window.observe(took.as_secs_f64() * 1e6, self.began.elapsed());
        }
    }
}

fn read<const N: usize>(windows: &mut [Window; N], now: Duration) -> [Summary; N] {
    let mut summaries = windows.iter_mut().map(|window| {
        let (count, sum) = window.totals();
        (window.quantiles(now), count, sum)
    });
    std::array::from_fn(|_| summaries.next().unwrap_or_default())
}

impl Open<'_> {
    /// Counts one request.
    pub fn observe(&mut self, lasted: Lasted) {
        let Lasted {
            request,
            queue,
            input,
            infer,
            output,
        } = lasted;
        for (window, time) in self
            .windows
            .iter_mut()
            .zip([request, queue, input, infer, output])
        {
            window.observe(time.as_secs_f64() * 1e6, self.now);
        }
    }
}

/// What a version keeps besides Triton's sums.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Summaries, if they were asked for.
    pub summaries: Option<Box<Summaries>>,
    /// Milliseconds to the first response, if they were asked for.
    pub first_response: Option<Box<Buckets>>,
}

impl Latencies {
    /// What `options` ask for, with the buckets that the model's configuration chose; also of the response
    /// cache if the model `caches`.
    #[must_use]
    pub fn new(options: &LatencyOptions, spec: &ModelSpec, caches: bool) -> Self {
        let target = |&(quantile, error): &(f64, f64)| Target { quantile, error };
        let targets: Vec<Target> = options.quantiles.iter().map(target).collect();
        let chosen = spec.histogram_buckets.get(FIRST_RESPONSE);
        let bounds = chosen.map_or(&FIRST_RESPONSE_MS[..], Vec::as_slice);
        Self {
            summaries: options
                .summaries
                .then(|| Box::new(Summaries::new(&targets, caches))),
            first_response: options
                .first_response
                .then(|| Box::new(Buckets::new(bounds))),
        }
    }

    /// Observes a request that was answered from the response cache.
    pub fn answered_from_cache(&self, waited: Duration, lasted: Duration, looked: Duration) {
        if let Some(buckets) = &self.first_response {
            buckets.observe(lasted.as_secs_f64() * 1e3);
        }
        if let Some(summaries) = &self.summaries {
            let mut open = summaries.open();
            let now = open.now;
            let [_, queue, ..] = &mut *open.windows;
            queue.observe(waited.as_secs_f64() * 1e6, now);
            drop(open);
            summaries.observe_cache(0, looked);
        }
    }

    /// Observes the time that the response cache took from a request that was not.
    pub fn missed_the_cache(&self, took: Duration) {
        if let Some(summaries) = &self.summaries {
            summaries.observe_cache(1, took);
        }
    }
}

/// A duration as counters keep it.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_falls_into_the_first_bucket_that_holds_it() {
        let buckets = Buckets::new(&[10.0, 1.0]);
        for value in [0.5, 1.0, 1.5, 99.0] {
            buckets.observe(value);
        }
        assert_eq!(buckets.cumulative(), (vec![(1.0, 2), (10.0, 3)], 4, 102.0));
    }
}
