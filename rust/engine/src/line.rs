// SPDX-License-Identifier: Apache-2.0
//! What waits before the instances of a version: requests that any of them may run, or sequences that belong
//! to one each.

use std::time::Instant;

use nerite_logic::schedulers::sequences::{Member, Sequences, Step};
use nerite_logic::schedulers::{Next, Refused, Scheduler, Ticket};
use nerite_logic::spec::{ControlSpec, ModelSpec, SchedulerSpec};

use crate::lane::{Pending, ReplyTo};

/// A request and its payload, as schedulers hold it.
pub type Queued = Ticket<Box<Pending>>;

/// The scheduler of a version.
#[derive(Debug)]
pub enum Line {
    /// Any instance may run any batch.
    Shared(Scheduler<Box<Pending>>),
    /// Each sequence has its instance.
    Sequences(Sequences<Box<Pending>>),
}

impl Member for Box<Pending> {
    fn step(&self) -> Step<'_> {
        let control = &self.request.control;
        Step {
            id: &control.correlation_id,
            start: control.sequence_start,
            end: control.sequence_end,
        }
    }
}

impl Line {
    /// An empty one, as the configuration wants it.
    #[must_use]
    pub fn of(spec: &ModelSpec) -> Self {
        match &spec.scheduler {
            SchedulerSpec::Sequences(settings) => {
                Self::Sequences(Sequences::new(settings, spec.max_batch_size, &spec.name))
            }
            scheduler => Self::Shared(Scheduler::new(scheduler, spec.max_batch_size, &spec.name)),
        }
    }

    /// Accepts a request, or gives it back.
    ///
    /// # Errors
    /// What the scheduler has against it.
    // The ticket must come back whole, and refusal is rare.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, ticket: Queued, now: Instant) -> Result<(), Refused<Box<Pending>>> {
        match self {
            Self::Shared(scheduler) => scheduler.push(ticket, now),
            Self::Sequences(sequences) => sequences.push(ticket, now),
        }
    }

    /// What the free instance `instance` does now; `rows` as [`Sequences::next`] fills it.
    pub fn next(
        &mut self,
        instance: usize,
        now: Instant,
        into: &mut Vec<Queued>,
        rows: &mut Vec<bool>,
        refused: &mut Vec<Refused<Box<Pending>>>,
        alive: impl Fn(&Box<Pending>) -> bool,
    ) -> Next {
        match self {
            Self::Shared(scheduler) => scheduler.next(now, into, refused, alive),
            Self::Sequences(sequences) => sequences.next(instance, now, into, rows, refused, alive),
        }
    }

    /// Whether new requests concern one instance, so that waking any would not do.
    pub const fn is_bound(&self) -> bool {
        matches!(self, Self::Sequences(_))
    }

    /// Ends what ends by itself: timeouts, idle sequences.
    pub fn expire(&mut self, now: Instant, refused: &mut Vec<Refused<Box<Pending>>>) {
        match self {
            Self::Shared(scheduler) => scheduler.expire(now, refused),
            Self::Sequences(sequences) => sequences.expire(now, refused),
        }
    }

    /// Refuses what nobody waits for any more.
    pub fn sweep(
        &mut self,
        refused: &mut Vec<Refused<Box<Pending>>>,
        alive: impl Fn(&Box<Pending>) -> bool,
    ) {
        match self {
            Self::Shared(scheduler) => scheduler.sweep(refused, alive),
            Self::Sequences(sequences) => sequences.sweep(Instant::now(), refused, alive),
        }
    }

    /// Says that no request comes any more.
    pub fn close(&mut self) {
        if let Self::Sequences(sequences) = self {
            sequences.close();
        }
    }

    /// A time not later than the first at which [`Self::expire`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Shared(scheduler) => scheduler.next_deadline(),
            Self::Sequences(sequences) => sequences.next_deadline(),
        }
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Shared(scheduler) => scheduler.len(),
            Self::Sequences(sequences) => sequences.len(),
        }
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out all that waits.
    pub fn drain(&mut self, into: &mut Vec<Queued>) {
        match self {
            Self::Shared(scheduler) => scheduler.drain(into),
            Self::Sequences(sequences) => sequences.drain(into),
        }
    }
}

/// Makes a batch of sequences what the model expects: controls in every request, and a request that nobody
/// waits for in every row that is empty. Models that answer by themselves are spared the latter: whom would
/// they answer?
pub fn complete(spec: &ModelSpec, tickets: &mut Vec<Queued>, rows: &mut Vec<bool>) {
    let controls = spec.controls();
    if !spec.decoupled
        && rows.contains(&false)
        && let Some(model) = tickets.first().map(like)
    {
        let mut filled = std::mem::take(tickets).into_iter();
        tickets.extend(rows.iter().map(|row| {
            let real = if *row { filled.next() } else { None };
            real.unwrap_or_else(|| like(&model))
        }));
    }
    rows.clear();
    for ticket in tickets {
        add(spec, controls, &mut ticket.payload);
    }
}

fn add(spec: &ModelSpec, controls: &[ControlSpec], pending: &mut Pending) {
    let present = !pending.is_filler();
    let control = &pending.request.control;
    let flags = (control.sequence_start, control.sequence_end, present);
    let tensors = controls
        .iter()
        .map(|each| each.tensor(&control.correlation_id, flags, spec.batches()));
    pending.request.inputs.extend(tensors);
}

/// A request that nobody waits for, with the tensors of another: what they hold means nothing.
fn like(ticket: &Queued) -> Queued {
    let mut request = nerite_logic::message::InferRequest::default();
    request.inputs = ticket.payload.request.inputs.clone();
    Ticket {
        rows: ticket.rows,
        key: ticket.key.clone(),
        arrived: ticket.arrived,
        priority: 0,
        timeout: None,
        payload: Box::new(Pending {
            request,
            rows: ticket.payload.rows,
            received: ticket.payload.received,
            reply_to: ReplyTo::NOBODY,
            trace: None,
            responder: None,
            timings: None,
        }),
    }
}
