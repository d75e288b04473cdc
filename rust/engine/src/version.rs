// SPDX-License-Identifier: Apache-2.0
//! One version of one model: what it declares, its queue, and the instances that wait on it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use nerite_logic::Error;
use nerite_logic::schedulers::order::Reorder;
use nerite_logic::schedulers::{Next, Refused, Scheduler, Ticket};
use nerite_logic::spec::{ModelSpec, SchedulerSpec};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::buffers::Pool;
use crate::instance::Work;
use crate::lane::{Done, Lanes, Pending};
use crate::statistics::{Failure, Statistics};
use crate::timekeeper::Timekeeper;

/// Output name to class labels, for the classification extension.
pub type Labels = HashMap<String, Vec<String>>;

const STOPPING: &str =
    "Server is stopping, scheduler for model has stopped accepting new inference requests";

/// A loaded version. Clients reach it once the table names it; it keeps serving what it accepted until
/// the last reply, however often the table changes.
#[derive(Debug)]
pub struct Version {
    /// What it declares.
    pub spec: ModelSpec,
    /// Its number.
    pub number: u64,
    /// Its number as answers print it.
    pub number_text: ByteString,
    /// The repository that it comes from, where models have namespaces.
    pub namespace: OnceLock<String>,
    /// The completed configuration, as the config endpoint answers.
    pub config_json: Bytes,
    /// The same as `inference.ModelConfig`.
    pub config_proto: Bytes,
    /// Class labels by output.
    pub labels: Labels,
    /// Everything counted about it.
    pub statistics: Statistics,
    /// Batch buffers, one pool for each declared input.
    pub pools: Vec<Arc<Pool>>,
    /// Where replies go.
    pub lanes: Arc<Lanes>,
    timekeeper: Arc<Timekeeper>,
    this: Weak<Self>,
    /// Held by I/O threads for a push, by instances to take a batch; never while anything executes.
    queue: Mutex<Queue>,
    /// Idle instances wait here.
    work: Condvar,
}

#[derive(Debug)]
struct Queue {
    scheduler: Scheduler<Box<Pending>>,
    /// Instances that wait on `work`.
    idle: usize,
    /// No more requests; instances leave when it is empty.
    closed: bool,
    /// When the timekeeper will look, if it will.
    armed: Option<Instant>,
    /// Holds back replies that overtook others, if the model asks for their order.
    order: Option<Reorder<Vec<Done>>>,
}

impl Version {
    /// A version that accepts requests at once.
    #[must_use]
    pub fn new(
        spec: ModelSpec,
        number: u64,
        config: (Bytes, Bytes),
        labels: Labels,
        lanes: Arc<Lanes>,
        timekeeper: Arc<Timekeeper>,
        statistics: Statistics,
    ) -> Arc<Self> {
        let ordered = matches!(&spec.scheduler, SchedulerSpec::Dynamic(d) if d.preserve_ordering);
        Arc::new_cyclic(|this| Self {
            queue: Mutex::new(Queue {
                scheduler: Scheduler::new(&spec.scheduler, spec.max_batch_size, &spec.name),
                idle: 0,
                closed: false,
                armed: None,
                order: ordered.then(Reorder::default),
            }),
            work: Condvar::new(),
            pools: spec.inputs.iter().map(|_| Arc::default()).collect(),
            number,
            number_text: number.to_string().into(),
            namespace: OnceLock::new(),
            config_json: config.0,
            config_proto: config.1,
            labels,
            statistics,
            lanes,
            timekeeper,
            this: this.clone(),
            spec,
        })
    }

    /// Queues requests, in order, and wakes one idle instance for all of them.
    pub fn push(&self, tickets: impl Iterator<Item = Ticket<Box<Pending>>>) {
        let now = Instant::now();
        let mut refused = Vec::new();
        {
            let mut queue = self.queue.lock();
            for ticket in tickets {
                if queue.closed {
                    refused.push(Refused {
                        ticket,
                        error: Error::unavailable(STOPPING),
                    });
                } else if let Err(why) = queue.scheduler.push(ticket, now) {
                    refused.push(why);
                }
            }
            if !queue.scheduler.is_empty() {
                self.wake_one(&queue);
                self.arm(&mut queue);
            }
        }
        self.refuse(refused, now);
    }

    /// Waits for the next batch and takes it; `false` when the version is closed and empty.
    pub fn next_batch(&self, work: &mut Work) -> bool {
        let mut refused = Vec::new();
        let mut queue = self.queue.lock();
        loop {
            let now = Instant::now();
            #[allow(clippy::borrowed_box)] // The payload of a ticket is a box.
            let alive = |pending: &Box<Pending>| self.lanes.is_awaited(pending.reply_to);
            let next = queue
                .scheduler
                .next(now, &mut work.tickets, &mut refused, alive);
            if !refused.is_empty() {
                MutexGuard::unlocked(&mut queue, || {
                    self.refuse(std::mem::take(&mut refused), now)
                });
            }
            match next {
                Next::Dispatch(reason) => {
                    work.begin(reason, now);
                    work.order = queue.order.as_mut().map(Reorder::enter);
                    if !queue.scheduler.is_empty() {
                        self.wake_one(&queue);
                        self.arm(&mut queue);
                    }
                    return true;
                }
                Next::WaitUntil(at) => {
                    queue.idle += 1;
                    self.work.wait_until(&mut queue, at);
                    queue.idle -= 1;
                }
                Next::Empty if queue.closed => return false,
                Next::Empty => {
                    queue.idle += 1;
                    self.work.wait(&mut queue);
                    queue.idle -= 1;
                }
            }
        }
    }

    /// Sends the replies of a batch, in order of dispatch if the model asks for it.
    pub fn reply(&self, work: &mut Work) {
        match work.order.take() {
            None => self.lanes.send(&mut work.replies),
            Some(turn) => {
                let mut queue = self.queue.lock();
                let Some(order) = &mut queue.order else {
                    return;
                };
                let mut leaving = Vec::new();
                // A turn is taken at dispatch and finished here alone, so it is always waited for.
                let _ = order.finish(turn, std::mem::take(&mut work.replies), &mut leaving);
                // Sent under the lock: otherwise a later turn could overtake on its way out.
                leaving
                    .iter_mut()
                    .for_each(|replies| self.lanes.send(replies));
            }
        }
    }

    /// Refuses requests whose time is over; the timekeeper calls it.
    pub fn expire(&self, now: Instant) {
        let mut refused = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.armed = None;
            queue.scheduler.expire(now, &mut refused);
            self.arm(&mut queue);
        }
        self.refuse(refused, now);
    }

    /// Refuses new requests; instances leave once what was queued is answered.
    pub fn close(&self) {
        let mut refused = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.closed = true;
            // Nobody waits for these, so no instance should stay for the company that they hope for.
            queue.scheduler.sweep(&mut refused, |pending| {
                self.lanes.is_awaited(pending.reply_to)
            });
        }
        self.work.notify_all();
        self.refuse(refused, Instant::now());
    }

    /// Waits until no table names the version and no request is on its way to or from it, so that closing
    /// it refuses nobody; `false` if the time ran out first. The caller's own reference is not counted.
    ///
    /// A request has the version from the moment in which it found it in the table, long before it is
    /// queued, until its reply is encoded. Counting the references costs requests nothing; looking again
    /// and again costs a thread that has nothing else to do.
    pub fn wait_unreachable(this: &Arc<Self>, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut pause = Duration::from_micros(50);
        while Arc::strong_count(this) > 1 {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        true
    }

    /// Refuses what is queued too, for an engine that must end now.
    pub fn abandon(&self) {
        let mut tickets = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.closed = true;
            queue.scheduler.drain(&mut tickets);
        }
        self.work.notify_all();
        let error = || Error::unavailable(STOPPING);
        let refused = tickets.into_iter().map(|ticket| Refused {
            ticket,
            error: error(),
        });
        self.refuse(refused.collect(), Instant::now());
    }

    /// Requests in the queue.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue.lock().scheduler.len()
    }

    fn wake_one(&self, queue: &Queue) {
        if queue.idle > 0 && self.work.notify_one() {
            self.lanes
                .wakeups_forward
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn arm(&self, queue: &mut Queue) {
        let Some(at) = queue.scheduler.next_deadline() else {
            return;
        };
        if queue.armed.is_none_or(|armed| at < armed) {
            queue.armed = Some(at);
            self.timekeeper.arm(at, self.this.clone());
        }
    }

    fn refuse(&self, refused: Vec<Refused<Box<Pending>>>, now: Instant) {
        if refused.is_empty() {
            return;
        }
        let mut replies = Vec::with_capacity(refused.len());
        for Refused { ticket, error } in refused {
            let waited = now.saturating_duration_since(ticket.arrived);
            self.statistics.failed(Failure::of_refusal(&error), waited);
            let error = name_request(error, &ticket.payload.request.id);
            match &ticket.payload.responder {
                Some(responder) => responder.refuse(error),
                None => replies.push(Done {
                    reply_to: ticket.payload.reply_to,
                    outcome: Err(error),
                }),
            }
        }
        self.lanes.send(&mut replies);
    }
}

/// Triton puts the request's id before the queue-full text (and before no other of the queue's texts).
fn name_request(mut error: Error, id: &str) -> Error {
    if error.message == "Exceeds maximum queue size" {
        let id = if id.is_empty() { "<id_unknown>" } else { id };
        error.message = format!("[request id: {id}] {}", error.message).into();
    }
    error
}
