// SPDX-License-Identifier: Apache-2.0
//! One model instance's turn: take a batch, have it executed, reply.
//!
//! The thread that owns an instance keeps one [`Work`] for its whole life, so that nothing is allocated
//! anew for each batch but what the batch itself needs. Who executes is the caller's business.

use std::time::{Duration, Instant};

use nerite_logic::Error;
use nerite_logic::schedulers::{Reason, Ticket};
use smallvec::SmallVec;

use crate::gather::{Gathered, gather};
use crate::lane::{Done, Outcome, Pending};
use crate::latencies::{Buckets, Lasted, Latencies, Open, Summaries};
use crate::rate_limit::Turn;
use crate::statistics::{Failure, Phases};
use crate::trace::{Point, Trace};
use crate::version::Version;

/// A batch on its way through an instance.
#[derive(Debug)]
pub struct Work {
    /// The requests, in order of arrival.
    pub tickets: Vec<Ticket<Box<Pending>>>,
    /// Their inputs, joined.
    pub inputs: Vec<Gathered>,
    /// Replies ready to be sent.
    pub(crate) replies: Vec<Done>,
    pub(crate) order: Option<u64>,
    /// What the instance holds while it executes, if it needs anything.
    pub(crate) turn: Option<Turn>,
    /// Which of the version's instances it is.
    pub(crate) instance: usize,
    /// Sequences: which rows of the batch have a request.
    pub(crate) rows_filled: Vec<bool>,
    reason: Reason,
    dispatched: Instant,
    gathered: Instant,
    executed: Instant,
}

impl Work {
    /// The work of the instance of this name.
    #[must_use]
    pub fn of(version: &Version, instance: &str) -> Self {
        let places = version.places.get();
        let now = Instant::now();
        Self {
            tickets: Vec::new(),
            inputs: Vec::new(),
            replies: Vec::new(),
            order: None,
            turn: places.and_then(|places| places.claim(instance)),
            instance: version.enter(),
            rows_filled: Vec::new(),
            reason: Reason::Single,
            dispatched: now,
            gathered: now,
            executed: now,
        }
    }

    pub(crate) fn begin(&mut self, reason: Reason, now: Instant) {
        if let Some(turn) = &mut self.turn {
            turn.begin();
        }
        self.reason = reason;
        self.dispatched = now;
    }

    /// Rows of the batch: the sum of the requests' batch dimensions.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.tickets.iter().map(|ticket| ticket.rows).sum()
    }

    /// Waits for a batch and joins its inputs; `false` when the version has ended.
    pub fn take(&mut self, version: &Version) -> bool {
        if !version.next_batch(self) {
            return false;
        }
        self.inputs = gather(&version.spec, &version.pools, &self.tickets);
        self.gathered = Instant::now();
        true
    }

    fn mark(&self, trace: &Trace, now: Instant) {
        trace.mark_at(Point::ComputeStart, self.dispatched);
        trace.mark_at(Point::ComputeInputEnd, self.gathered);
        trace.mark_at(Point::ComputeOutputStart, self.executed);
        trace.mark_at(Point::ComputeEnd, now);
    }

    /// How long each phase of the batch took that ends `now`.
    fn phases(&self, now: Instant) -> Phases {
        Phases {
            input: self.gathered.saturating_duration_since(self.dispatched),
            infer: self.executed.saturating_duration_since(self.gathered),
            output: now.saturating_duration_since(self.executed),
        }
    }

    /// Notes that the backend has returned.
    pub fn mark_executed(&mut self) {
        self.executed = Instant::now();
    }

    /// Counts the batch and replies with `outcomes`, one for each request in order. Requests without one
    /// get an error: every accepted request is answered.
    pub fn finish(
        &mut self,
        version: &Version,
        tickets: &[Ticket<Box<Pending>>],
        outcomes: impl IntoIterator<Item = Outcome>,
    ) {
        let now = Instant::now();
        let rows = tickets.iter().map(|ticket| ticket.rows).sum();
        let phases = self.phases(now);
        let mut outcomes = outcomes.into_iter();
        let mut totals = Totals::default();
        let mut failed: SmallVec<[Duration; 8]> = SmallVec::new();
        let statistics = &version.statistics;
        let mut kept = Kept::of(&statistics.latencies);
        for ticket in tickets {
            let outcome = outcomes.next().unwrap_or_else(|| Err(unanswered(version)));
            if ticket.payload.is_filler() {
                continue;
            }
            let waited = self.dispatched.saturating_duration_since(ticket.arrived);
            let lasted = now.saturating_duration_since(ticket.payload.received);
            statistics.queue_latency.observe(waited);
            statistics.request_latency.observe(lasted);
            if let Some(trace) = &ticket.payload.trace {
                self.mark(trace, now);
            }
            if let Some(timings) = &ticket.payload.timings {
                timings.add(waited, phases);
            }
            if outcome.is_ok() {
                totals.add(ticket.rows, waited, lasted);
                kept.add(waited, lasted, phases);
            } else {
                failed.push(lasted);
            }
            self.replies.push(Done {
                reply_to: ticket.payload.reply_to,
                outcome,
            });
        }
        drop(kept);
        statistics
            .compute_latency
            .observe_many(phases.infer, self.replies.len() as u64);
        statistics.executed(rows, self.reason, phases);
        totals.store(statistics, phases);
        failed
            .drain(..)
            .for_each(|lasted| statistics.failed(Failure::Backend, lasted));
        version.reply(self);
    }

    /// Counts a batch of a decoupled model, whose requests are answered, and counted, one by one when they
    /// end; `failed` if it was not executed to its end.
    pub fn finish_decoupled(
        &mut self,
        version: &Version,
        tickets: &[Ticket<Box<Pending>>],
        failed: bool,
    ) {
        let now = Instant::now();
        let rows = tickets.iter().map(|ticket| ticket.rows).sum();
        let phases = self.phases(now);
        let statistics = &version.statistics;
        let mut totals = Totals::default();
        for ticket in tickets {
            let waited = self.dispatched.saturating_duration_since(ticket.arrived);
            statistics.queue_latency.observe(waited);
            if let Some(trace) = &ticket.payload.trace {
                self.mark(trace, now);
            }
            if let Some(timings) = &ticket.payload.timings {
                timings.add(waited, phases);
            }
            totals.add(ticket.rows, waited, Duration::ZERO);
        }
        let count = tickets.len() as u64;
        statistics.compute_latency.observe_many(phases.infer, count);
        statistics.executed(rows, self.reason, phases);
        if !failed {
            totals.store_phases(statistics, phases);
        }
        // There is nothing to send, but where replies leave in order this batch has had its turn.
        version.reply(self);
    }
}

/// The latencies that are kept only where they were asked for, open for one batch.
pub(crate) struct Kept<'a> {
    summaries: Option<Open<'a>>,
    first_response: Option<&'a Buckets>,
}

impl<'a> Kept<'a> {
    fn of(latencies: &'a Latencies) -> Self {
        Self {
            summaries: latencies.summaries.as_deref().map(Summaries::open),
            first_response: latencies.first_response.as_deref(),
        }
    }

    /// Without the first response, which is noted where there is one.
    pub(crate) fn summaries(latencies: &'a Latencies) -> Self {
        Self {
            first_response: None,
            ..Self::of(latencies)
        }
    }

    pub(crate) fn add(&mut self, queue: Duration, request: Duration, phases: Phases) {
        if let Some(buckets) = self.first_response {
            buckets.observe(request.as_secs_f64() * 1e3);
        }
        if let Some(summaries) = &mut self.summaries {
            summaries.observe(Lasted {
                request,
                queue,
                input: phases.input,
                infer: phases.infer,
                output: phases.output,
            });
        }
    }
}

fn unanswered(version: &Version) -> Error {
    Error::internal(format!(
        "model '{}' gave no answer to this request",
        version.spec.name
    ))
}

/// Sums over the successful requests of a batch, so that counters are touched once.
#[derive(Default)]
pub(crate) struct Totals {
    requests: u64,
    rows: u64,
    waited: Duration,
    lasted: Duration,
}

impl Totals {
    pub(crate) fn add(&mut self, rows: u32, waited: Duration, lasted: Duration) {
        self.requests += 1;
        self.rows += u64::from(rows);
        self.waited += waited;
        self.lasted += lasted;
    }

    pub(crate) fn store(&self, statistics: &crate::statistics::Statistics, phases: Phases) {
        if self.requests > 0 {
            statistics.success.add(self.requests, self.lasted);
            self.store_phases(statistics, phases);
        }
    }

    /// Triton charges the phases of a batch to each of its requests in full.
    fn store_phases(&self, statistics: &crate::statistics::Statistics, phases: Phases) {
        let times = u32::try_from(self.requests).unwrap_or(u32::MAX);
        statistics
            .inferences
            .fetch_add(self.rows, std::sync::atomic::Ordering::Relaxed);
        statistics.queue.add(self.requests, self.waited);
        statistics
            .compute_input
            .add(self.requests, phases.input * times);
        statistics
            .compute_infer
            .add(self.requests, phases.infer * times);
        statistics
            .compute_output
            .add(self.requests, phases.output * times);
    }
}
