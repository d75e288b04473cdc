// SPDX-License-Identifier: Apache-2.0
//! Which requests run together, and when.
//!
//! One [`Scheduler`] stands before all instances of a model version. It is a value: the engine pushes
//! [`Ticket`]s in, asks [`Scheduler::next`] whenever an instance is free, and calls
//! [`Scheduler::expire`] when the timer for [`Scheduler::next_deadline`] fires. Time is an argument,
//! and every ticket that was accepted leaves exactly once: in a batch, refused, or drained.
//!
//! Waiting and its limits are in [`queue`], priorities in [`levels`], the choice of a batch in [`dynamic`],
//! and the order in which answers leave (`preserve_ordering`) in [`order`]. Models that see whole sequences
//! of requests have [`sequences`] instead, and what an ensemble runs next is in [`ensemble`].

pub mod batch_dimension;
pub mod dynamic;
pub mod ensemble;
pub mod levels;
pub mod order;
pub mod queue;
pub mod sequences;

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::error::{Code, Error};
use crate::spec::{QueuePolicy, SchedulerSpec};
use dynamic::{Dynamic, Verdict};
use levels::Levels;

pub use order::Reorder;

/// What must be equal for two requests to share a batch: their variable dimensions and which optional
/// inputs they bring, as numbers. Requests of models where neither varies have the empty key.
pub type BatchKey = SmallVec<[i64; 6]>;

/// A request on its way to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket<T> {
    /// Rows it adds to a batch: its batch dimension, or 1 if the model does not batch.
    pub rows: u32,
    /// Only tickets of equal keys share a batch.
    pub key: BatchKey,
    /// When it was accepted by the server; delay and timeout count from here.
    pub arrived: Instant,
    /// The level that the request asks for, where the model has levels; 0 for none.
    pub priority: u32,
    /// The queue timeout that the request itself asks for.
    pub timeout: Option<Duration>,
    /// The request, of which the scheduler knows nothing.
    pub payload: T,
}

/// What the engine is to do with a free instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run the batch that was put into `into`.
    Dispatch(Reason),
    /// Ask again at this time, or after the next push if that comes first.
    WaitUntil(Instant),
    /// Nothing is waiting.
    Empty,
}

/// Why a batch was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It cannot grow: `max_batch_size` is reached, or the next request does not fit in.
    Full,
    /// It has a preferred size.
    Preferred,
    /// Its oldest request has waited for `max_queue_delay`.
    Delay,
    /// There is no delay: it is what was waiting when the instance became free.
    Idle,
    /// The model's requests run one by one.
    Single,
}

impl Reason {
    /// Every reason, in the order of their discriminants.
    pub const ALL: [Self; 5] = [
        Self::Full,
        Self::Preferred,
        Self::Delay,
        Self::Idle,
        Self::Single,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Preferred => "preferred",
            Self::Delay => "delay",
            Self::Idle => "idle",
            Self::Single => "single",
        }
    }
}

/// A ticket that will not run, and the answer it gets instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// The ticket.
    pub ticket: Ticket<T>,
    /// Why.
    pub error: Error,
}

/// The queue of one model version and the rule by which it becomes batches.
#[derive(Debug)]
pub struct Scheduler<T> {
    queue: Levels<T>,
    /// `None` for the default scheduler: one request per execution.
    batcher: Option<Dynamic>,
    /// Most rows in one execution.
    limit: u32,
    model: Box<str>,
}

impl<T> Scheduler<T> {
    /// A scheduler for `model` with nothing waiting. A `max_batch_size` of 0 (tensors have no batch
    /// dimension) allows one request per execution.
    #[must_use]
    pub fn new(spec: &SchedulerSpec, max_batch_size: u32, model: &str) -> Self {
        let limit = max_batch_size.max(1);
        let (queue, batcher) = match spec {
            // Sequences have a scheduler of their own.
            SchedulerSpec::Default | SchedulerSpec::Sequences(_) => {
                (Levels::new(QueuePolicy::default(), None), None)
            }
            SchedulerSpec::Dynamic(settings) => (
                Levels::new(settings.policy, settings.priorities.clone()),
                Some(Dynamic::new(settings, limit)),
            ),
        };
        Self {
            queue,
            batcher,
            limit,
            model: model.into(),
        }
    }

    /// Accepts a request, or gives it back. The time is for schedulers that decide on arrival; these two
    /// decide when an instance is free.
    ///
    /// # Errors
    /// UNAVAILABLE if the queue is full, INVALID_ARG if the request alone is larger than a batch may
    /// be. The texts lack the prefix `[request id: x] `, which the caller knows.
    // The ticket must come back whole, and refusal is rare.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, ticket: Ticket<T>, _now: Instant) -> Result<(), Refused<T>> {
        if ticket.rows > self.limit {
            let error = Error::invalid(format!(
                "inference request batch-size must be <= {} for '{}'",
                self.limit, self.model
            ));
            return Err(Refused { ticket, error });
        }
        let last = self.queue.push(ticket)?;
        if let Some(batcher) = self.batcher.as_mut().filter(|_| !last) {
            // The newcomer overtakes others, which the walk may have counted already.
            batcher.forget();
        }
        Ok(())
    }

    /// Decides what a free instance does at `now`. Appends the batch to `into`; tickets whose timeout
    /// has passed, and those of callers that `alive` says are gone, go to `refused`.
    ///
    /// A ticket is asked for being alive when its batch is formed, never before.
    pub fn next(
        &mut self,
        now: Instant,
        into: &mut Vec<Ticket<T>>,
        refused: &mut Vec<Refused<T>>,
        alive: impl Fn(&T) -> bool,
    ) -> Next {
        loop {
            self.expire(now, refused);
            let (count, reason) = match &mut self.batcher {
                None if self.queue.is_empty() => return Next::Empty,
                None => (1, Reason::Single),
                Some(batcher) => match batcher.decide(&self.queue, now) {
                    Verdict::Send(count, reason) => (count, reason),
                    Verdict::Wait(until) => return Next::WaitUntil(until),
                    Verdict::Empty => return Next::Empty,
                },
            };
            if let Some(batcher) = &mut self.batcher {
                batcher.forget();
            }
            if self.queue.take(count, into, &alive) {
                return Next::Dispatch(reason);
            }
            // A caller has gone: without it the choice may be another one.
            self.queue.sweep(refused, &alive);
        }
    }

    /// Refuses or delays the tickets whose queue timeout has passed at `now`, whether or not an
    /// instance is free.
    pub fn expire(&mut self, now: Instant, refused: &mut Vec<Refused<T>>) {
        if self.queue.expire(now, refused)
            && let Some(batcher) = &mut self.batcher
        {
            batcher.forget();
        }
    }

    /// Refuses the tickets of callers that `alive` says are gone, for when callers leave faster than
    /// instances become free.
    pub fn sweep(&mut self, refused: &mut Vec<Refused<T>>, alive: impl Fn(&T) -> bool) {
        self.queue.sweep(refused, &alive);
        if let Some(batcher) = &mut self.batcher {
            batcher.forget();
        }
    }

    /// A time not later than the earliest queue timeout, at which [`Self::expire`] is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.next_deadline()
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no request waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes out all that waits, in order, to be answered by the caller.
    pub fn drain(&mut self, into: &mut Vec<Ticket<T>>) {
        self.queue.drain(into);
        if let Some(batcher) = &mut self.batcher {
            batcher.forget();
        }
    }
}

/// The answer to a request whose caller is gone; nobody reads it, but it is counted.
fn cancelled() -> Error {
    Error::new(Code::Cancelled, "")
}

/// The earlier of two times, where there are any.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
