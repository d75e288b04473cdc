// SPDX-License-Identifier: Apache-2.0
//! What is counted of ensembles: the phases of a request are the sums of those of its steps, as Triton
//! counts them, and a request that fails counts as OTHER, whatever its step says.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nerite_logic::schedulers::Reason;

use crate::instance::{Kept, Totals};
use crate::statistics::{Failure, Phases};
use crate::version::Version;

/// How long the steps of one request took together.
#[derive(Debug, Default)]
pub struct Timings {
    queue: AtomicU64,
    input: AtomicU64,
    infer: AtomicU64,
    output: AtomicU64,
}

impl Timings {
    /// Adds a step that waited in its queue, and then went through these phases.
    pub fn add(&self, waited: Duration, phases: Phases) {
        let each = [
            (&self.queue, waited),
            (&self.input, phases.input),
            (&self.infer, phases.infer),
            (&self.output, phases.output),
        ];
        for (sum, lasted) in each {
            let nanoseconds = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
            sum.fetch_add(nanoseconds, Relaxed);
        }
    }

    fn sums(&self) -> (Duration, Phases) {
        let sum = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        let phases = Phases {
            input: sum(&self.input),
            infer: sum(&self.infer),
            output: sum(&self.output),
        };
        (sum(&self.queue), phases)
    }
}

/// One request to an ensemble, which is counted at its end; one that is dropped before was cancelled.
#[derive(Debug)]
pub struct Account {
    version: Arc<Version>,
    rows: u32,
    received: Instant,
    /// What its steps add to.
    pub timings: Arc<Timings>,
    /// What it adds to itself, being a step.
    outer: Option<Arc<Timings>>,
    begun: bool,
    over: bool,
}

impl Account {
    /// The account of a request that has passed its check.
    pub fn new(
        version: Arc<Version>,
        rows: u32,
        received: Instant,
        outer: Option<Arc<Timings>>,
    ) -> Self {
        Self {
            version,
            rows,
            received,
            timings: Arc::default(),
            outer,
            begun: false,
            over: false,
        }
    }

    /// There is an answer.
    pub fn answered(&mut self) {
        let latencies = &self.version.statistics.latencies;
        if !std::mem::replace(&mut self.begun, true)
            && let Some(buckets) = latencies.first_response.as_deref()
        {
            buckets.observe(self.received.elapsed().as_secs_f64() * 1e3);
        }
    }

    /// It has ended, well or not.
    pub fn end(&mut self, good: bool) {
        self.over = true;
        let (waited, phases) = self.timings.sums();
        if let Some(outer) = &self.outer {
            outer.add(waited, phases);
        }
        if !good {
            self.failed(Failure::Other);
            return;
        }
        let (statistics, lasted) = (&self.version.statistics, self.received.elapsed());
        statistics.request_latency.observe(lasted);
        statistics.queue_latency.observe(waited);
        statistics.compute_latency.observe(phases.infer);
        statistics.executed(self.rows, Reason::Single, phases);
        Kept::summaries(&statistics.latencies).add(waited, lasted, phases);
        let mut totals = Totals::default();
        totals.add(self.rows, waited, lasted);
        totals.store(statistics, phases);
    }

    fn failed(&self, why: Failure) {
        let lasted = self.received.elapsed();
        self.version.statistics.request_latency.observe(lasted);
        self.version.statistics.failed(why, lasted);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.over {
            self.failed(Failure::Canceled);
        }
    }
}
